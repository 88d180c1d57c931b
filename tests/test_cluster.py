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

import local_slurm
import psutil
import pytest
import small_study
import yaml

from lib.paths import ROOT

LIMIT = 600.0  # seconds that a run may take on a loaded machine


@pytest.fixture(scope="module")
def slurm():
    if absent := local_slurm.missing():
        pytest.skip(f"no SLURM on this machine ({', '.join(absent)}; Debian: apt-get install slurm-wlm munge)")
    with local_slurm.running(cpus=2) as environment:
        yield environment


def study(folder, *cells):
    """A small study that asks SLURM for news every second, more often than a shared one would like."""
    small_study.copy(folder, *cells)
    settings = folder / "workflow" / "profiles" / "slurm" / "config.yaml"
    often = re.sub(r"(before-status-checks:) \d+", r"\1 1", settings.read_text())
    assert often != settings.read_text()
    settings.write_text(often)
    return folder


class Cluster:
    """What SLURM says of a study's jobs."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self.environment, self.folder = environment, folder

    def steps(self, states: str) -> list[str]:
        listed = local_slurm.asked(self.environment, "squeue", "--noheader", f"--states={states}", "--format=%k|%Z")
        jobs = [line.split("|") for line in listed.splitlines()]
        return sorted(
            re.sub("^rule_|_wildcards_.*", "", comment) for comment, place in jobs if place == str(self.folder)
        )

    def wait_for(self, step: str) -> None:
        local_slurm.wait_until(lambda: step in self.steps("RUNNING"), LIMIT, lambda: f"{step} does not run")

    def start(self) -> subprocess.Popen:
        command = ["./run_all.sh", "--quick", "--profile", "slurm"]
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )


def lock_is_held(folder):
    return subprocess.run(["flock", "--nonblock", ".steps", "true"], cwd=folder, check=False).returncode != 0


def kill_all(process):
    family = psutil.Process(process.pid)
    for each in [*family.children(recursive=True), family]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(LIMIT)


def test_jobs_are_cancelled_with_their_run(slurm, tmp_path):
    cluster = Cluster(slurm, study(tmp_path / "study"))
    settings = cluster.folder / "study.yaml"
    settings.write_text(settings.read_text().replace("customers: 60", "customers: 15000"))  # minutes of work
    stopped = cluster.start()
    cluster.wait_for("data")
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(LIMIT) != 0
    alive = "PENDING,RUNNING,COMPLETING"
    local_slurm.wait_until(lambda: not cluster.steps(alive), LIMIT, lambda: "jobs outlive their run")
    assert cluster.steps("CANCELLED") == ["data"]


def test_a_run_in_pieces_gives_the_bytes_of_a_local_one(slurm, tmp_path, uninterrupted):
    cluster = Cluster(slurm, study(tmp_path / "pieces"))
    at_once = cluster.start()
    cluster.wait_for("train")
    local_slurm.wait_until(lambda: lock_is_held(cluster.folder), LIMIT, lambda: "a job holds no lock")
    kill_all(at_once)
    assert lock_is_held(cluster.folder), "a job lives on without its lock"

    done = small_study.run(cluster.folder, "--profile", "slurm", **slurm)
    assert (done.returncode, done.stdout) == (0, f"{cluster.folder}/reports/synthetic/index.html\n"), done.stderr[
        -3000:
    ]
    completed = cluster.steps("COMPLETED")
    assert set(completed) == {"data", "notebook_04_train_softmax", "train"}
    assert completed.count("train") >= 2, "every fold is a job of its own"
    assert {"tables/04_train_softmax.csv", "claims/04_train_softmax.json"} < small_study.results(uninterrupted).keys()
    assert small_study.results(cluster.folder) == small_study.results(uninterrupted)


def test_a_failing_step_is_tried_twice_and_its_log_is_named(slurm, tmp_path):
    folder = study(tmp_path / "study", "01_data", "print('before')", "raise ValueError('too bad')")
    done = small_study.run(folder, "--profile", "slurm", **slurm)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2:] == [
        f"what failed jobs printed: {folder}/.snakemake/slurm_logs",
        "FAILED notebooks/01_data.ipynb, cell conclusion (In [4]): ValueError: too bad · see "
        "reports/synthetic/notebooks/01_data.partial.ipynb",
    ]
    assert Cluster(slurm, folder).steps("FAILED") == ["notebook_01_data", "notebook_01_data"]
    assert len(list((folder / ".snakemake" / "slurm_logs" / "rule_notebook_01_data").glob("*.log"))) == 2


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


def job(name, command):
    container = SimpleNamespace(args=["-c", command])
    spec = SimpleNamespace(template=SimpleNamespace(spec=SimpleNamespace(containers=[container])))
    return SimpleNamespace(metadata=SimpleNamespace(name=name), spec=spec)


def test_only_jobs_of_this_folder_are_deleted_before_a_run_on_kubernetes(monkeypatch):
    """Against a stand-in for the client, which is no part of the environment."""
    deleted = []

    class Batch:
        def list_namespaced_job(self, namespace, label_selector):
            assert (namespace, label_selector) == ("default", "app=snakemake")
            options = "snakemake --default-storage-prefix '/study/{}' --default-storage-provider 'fs'"
            return SimpleNamespace(items=[job(name, options.format(name)) for name in ("repository", "other", "repo")])

        def delete_namespaced_job(self, name, namespace, propagation_policy):
            deleted.append((name, namespace, propagation_policy))

    config = SimpleNamespace(ConfigException=RuntimeError, load_kube_config=lambda: None)
    client = SimpleNamespace(client=SimpleNamespace(BatchV1Api=Batch), config=config)
    monkeypatch.setitem(sys.modules, "kubernetes", client)
    runpy.run_path(str(ROOT / "workflow" / "profiles" / "kubernetes" / "cancel.py"))
    assert deleted == [("repository", "default", "Foreground")]


def test_a_folder_may_be_the_profile(tmp_path):
    folder = small_study.copy(tmp_path / "study")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("cores: 1\n")
    script = folder / "run_all.sh"
    command = [script, "--quick", "--profile", "mine", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.splitlines()[-1] == "5 steps would run", done.stderr
