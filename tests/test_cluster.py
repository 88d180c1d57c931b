"""The steps as jobs of a cluster: a small study on a SLURM of one node, started here, against one without it."""

import ast
import contextlib
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import local_slurm
import psutil
import pytest
import small_study
import yaml

from lib.storage import ROOT
from workflow.options import parse

LIMIT = 600.0  # seconds that a run may take on a loaded machine


@pytest.fixture
def cluster(tmp_path):
    """A small study on a SLURM that it asks for news every second, more often than a shared one would like."""
    if absent := local_slurm.missing():
        pytest.skip(f"no SLURM on this machine ({', '.join(absent)}; Debian: apt-get install slurm-wlm munge)")
    folder = small_study.copy(tmp_path / "study")
    settings = folder / "workflow" / "profiles" / "slurm" / "config.yaml"
    often = re.sub(r"(before-status-checks:) \d+", r"\1 1", settings.read_text())
    assert often != settings.read_text()
    settings.write_text(often)
    with local_slurm.running(cpus=2) as environment:
        yield Cluster(environment, folder)


class Cluster:
    """What SLURM says of a study's jobs."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self.environment, self.folder = environment, folder

    def steps(self, states: str) -> list[str]:
        listed = local_slurm.asked(self.environment, "squeue", "--noheader", f"--states={states}", "--format=%k")
        return sorted(re.sub("^rule_|_wildcards_.*", "", comment) for comment in listed.splitlines())

    def start(self, until: str) -> subprocess.Popen:
        """A run of which a step is at work."""
        command = ["./run_all.sh", "--quick", "--profile", "slurm"]
        with (self.folder / "log").open("a") as log:
            output = {"stdout": log, "stderr": log, "start_new_session": True}
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, **output)
        local_slurm.wait_until(lambda: until in self.steps("RUNNING"), LIMIT, lambda: f"{until} does not run")
        return process

    def run(self) -> subprocess.CompletedProcess:
        return small_study.run(self.folder, "--profile", "slurm", **self.environment)


def lock_is_held(folder):
    return subprocess.run(["flock", "--nonblock", ".steps", "true"], cwd=folder, check=False).returncode != 0


def kill_all(process):
    family = psutil.Process(process.pid)
    for each in [*family.children(recursive=True), family]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(LIMIT)


def test_a_run_in_pieces_gives_the_bytes_of_a_local_one_and_a_failing_step_is_named(cluster, uninterrupted):
    folder = cluster.folder
    ended = cluster.start(until="train")
    ended.send_signal(signal.SIGTERM)
    assert ended.wait(LIMIT) != 0
    assert set(cluster.steps("CANCELLED")) == {"train"}

    at_once = cluster.start(until="train")
    local_slurm.wait_until(lambda: lock_is_held(folder), LIMIT, lambda: "a job holds no lock")
    kill_all(at_once)
    assert lock_is_held(folder), "a job lives on without its lock"

    done = cluster.run()
    assert (done.returncode, done.stdout) == (0, f"{folder}/reports/synthetic/index.html\n"), done.stderr[-3000:]
    completed = cluster.steps("COMPLETED")
    assert set(completed) == {"data", "notebook_04_train_softmax", "train"}
    assert completed.count("train") >= 2, "every fold is a job of its own"
    assert {"tables/04_train_softmax.csv", "claims/04_train_softmax.json"} < small_study.results(uninterrupted).keys()
    assert small_study.results(folder) == small_study.results(uninterrupted)

    notebook = folder / "notebooks" / "04_train_softmax.ipynb"
    notebook.write_text(notebook.read_text().replace("import matplotlib.pyplot as plt", "raise ValueError('too bad')"))
    done = cluster.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2:] == [
        f"all that the steps printed: {folder}/.snakemake/slurm_logs",
        "FAILED notebooks/04_train_softmax.ipynb, cell conclusion: ValueError: too bad · see "
        "reports/synthetic/notebooks/04_train_softmax.partial.ipynb",
    ]
    assert cluster.steps("FAILED") == 2 * ["notebook_04_train_softmax"], "once more with twice the memory"
    logs = folder / ".snakemake" / "slurm_logs" / "rule_notebook_04_train_softmax"
    assert len(list(logs.glob("*.log"))) >= 2


def test_the_measurements_have_a_node_to_themselves_in_every_profile():
    alone = re.search(r"COMPARING = (\(.*?\))", (ROOT / "workflow" / "Snakefile").read_text())
    rules = {f"notebook_{name}" for name in ast.literal_eval(alone[1])}
    slurm, kubernetes = (
        yaml.safe_load((ROOT / "workflow" / "profiles" / name / "config.yaml").read_text())
        for name in ("slurm", "kubernetes")
    )
    assert slurm["set-threads"].keys() == slurm["set-resources"].keys() == rules
    assert {each["slurm_extra"] for each in slurm["set-resources"].values()} == {"'--exclusive'"}
    assert kubernetes["set-threads"].keys() == rules


@pytest.mark.parametrize("folder", ["workflow/profiles/kubernetes", "tests"])
def test_what_is_added_to_the_environment_is_pinned_as_the_study_pins_it(folder):
    lock, own = (
        dict(re.findall(r"^(\S+)==(\S+)", (ROOT / place / "requirements.txt").read_text(), flags=re.MULTILINE))
        for place in (".", folder)
    )
    named = re.findall(r"^(\S+)==(\S+)$", (ROOT / folder / "requirements.in").read_text(), flags=re.MULTILINE)
    assert dict(named).items() <= own.items()
    assert {name: lock[name] for name in own if name in lock} == {name: own[name] for name in own if name in lock}


def test_only_jobs_of_this_folder_are_deleted_before_a_run_on_kubernetes(monkeypatch):
    """Against a stand-in for the client, which is no part of the environment."""
    api = Mock()
    api.list_namespaced_job.return_value.items = jobs = [Mock() for _ in ("repository", "other", "repo")]
    for job, name in zip(jobs, ("repository", "other", "repo"), strict=True):
        job.metadata.name = name
        job.spec.template.spec.containers = [Mock(args=["-c", f"x --default-storage-prefix '/study/{name}' -s y"])]
    client = SimpleNamespace(client=SimpleNamespace(BatchV1Api=lambda: api), config=Mock())
    monkeypatch.setitem(sys.modules, "kubernetes", client)
    runpy.run_path(str(ROOT / "workflow" / "profiles" / "kubernetes" / "cancel.py"))
    api.list_namespaced_job.assert_called_once_with("default", label_selector="app=snakemake")
    api.delete_namespaced_job.assert_called_once_with("repository", "default", propagation_policy="Foreground")


def test_a_folder_may_be_the_profile(tmp_path):
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    assert parse(["--profile", "."], tmp_path).profile == str(tmp_path)
