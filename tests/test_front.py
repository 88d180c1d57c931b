"""The front of the study: options of run_all.sh, the workflow's graph, one source of truth for versions."""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import small_study
import yaml
from packaging.requirements import Requirement
from papermill import inspect_notebook

from lib.storage import NOTEBOOKS, ROOT
from study.bank import EVENTS, LABELS
from study.mechanisms import of_each
from workflow import options


def run(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        arguments, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300
    )


def test_help_names_every_option():
    done = run("./run_all.sh", "--help")
    assert done.returncode == 0
    assert [option for option in (*options.VALUES, *options.SWITCHES) if option not in done.stdout] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--qiuck"], "unrecognized arguments: --qiuck"),
        (["--data", "/nowhere"], "/nowhere: no folder with transactions.csv"),
        (["--check"], "--check needs --data DIR"),
        (
            ["--profile", "nowhere"],
            "--profile nowhere: give slurm, kubernetes or a folder",
        ),
        (["--threads", "two"], "--threads: invalid int value: 'two'"),
        (["--out", "../elsewhere"], "../elsewhere: cannot name a report; give --out NAME"),
    ],
)
def test_wrong_arguments_get_one_line_and_status_2(arguments, message):
    done = run("./run_all.sh", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


WORKFLOW = """echo "workflow $STUDY_DATA $STUDY_NAME $STUDY_PROFILE" "$STUDY_THREADS threads" >&2
echo "kept ${STUDY_KEPT:-}" >&2
mkdir -p "reports/$STUDY_NAME"
python -c 'import json, sys; print(json.dumps({"source": sys.argv[1]}))' "$STUDY_DATA" >"reports/$STUDY_NAME/data.json"
echo "{\\"profile\\": \\"$STUDY_PROFILE\\"}" >"reports/$STUDY_NAME/parameters.json"
"""
PYTHON = f"""[[ $1 != -m || $2 != workflow.engine ]] || exec "${{0%/*}}/workflow"
[[ $1 != -m ]] || echo "$*" >>asked
[[ $* != *study.sources* || -n ${{CHECKED:-}} ]] || exit 0
exec {sys.executable} "$@"
"""


@pytest.fixture
def clone(tmp_path):
    """A copy of the study whose environment is this one and whose workflow only says what it was asked for."""
    return small_study.copy(tmp_path / "the clone", commands={"workflow": WORKFLOW, "python": PYTHON})


def test_wrong_data_get_one_line_and_status_2(bank_folder, tmp_path, clone):
    bad, few = (shutil.copytree(bank_folder, tmp_path / name) for name in ("bad", "few"))
    with open(bad / EVENTS, "a") as events:
        events.write("1,0 25:00:00,1,1,1,\n")
    (few / LABELS).write_text("".join((bank_folder / LABELS).read_text().splitlines(keepends=True)[:3]))
    named = {bad: r"line 604, column tr_datetime: '0 25:00:00'; .*", few: "1 customers?.*2 folds.*"}
    for folder, why in named.items():
        done = run("./run_all.sh", "--data", str(folder), cwd=clone, CHECKED="yes")
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(rf"error: .*{why}\n", done.stderr)


def test_any_name_of_a_folder_works_and_a_report_of_other_data_is_not_overwritten_unasked(bank_folder, tmp_path, clone):
    name = "it's мои {x} $1"
    first, second = (shutil.copytree(bank_folder, tmp_path / parent / name) for parent in ("first", "second"))
    done = run("./run_all.sh", "--data", f"../first/{name}", cwd=clone)
    assert (done.returncode, done.stdout) == (0, f"{clone}/reports/it_s_x_1/index.html\n"), done.stderr
    assert f"workflow {first} it_s_x_1 default 1 threads\n" in done.stderr
    done = run("./run_all.sh", "--data", str(second), cwd=clone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: reports/it_s_x_1 was made from {first}; give --out NAME or remove that report\n"
    assert run("./run_all.sh", "--data", str(second), "--out", "it_s_x_1", cwd=clone).returncode == 0


def test_a_moved_clone_gets_a_new_environment(clone):
    assert run("./run_all.sh", "--setup", cwd=clone).stdout == f"environment ready: {clone}/.venv\n"
    moved = clone.rename(clone.with_name("moved"))
    python = moved / "python3"
    python.write_text(f'#!/bin/sh\n[ $2 != workflow/options.py ] || exec {sys.executable} "$@"\necho "$@" >>made\n')
    python.chmod(0o755)
    run("./run_all.sh", cwd=moved, PATH=f"{moved}:{os.environ['PATH']}")
    assert re.search(r"^-I workflow/environment.py$", (moved / "made").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["a:b", "$HOME", "a\nb"])
def test_a_folder_that_cannot_hold_an_environment_is_refused_before_anything_is_made(tmp_path, name):
    folder = tmp_path / name
    (folder / "workflow").mkdir(parents=True)
    for file in ("run_all.sh", "workflow/options.py"):
        shutil.copy(ROOT / file, folder / file)
    done = run("./run_all.sh", "--setup", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {folder}: the study cannot live in a folder with one of ")
    assert sorted(os.listdir(folder)) == ["run_all.sh", "workflow"]


def test_checking_a_folder_waits_for_nothing_and_makes_nothing(bank_folder, tmp_path, clone):
    folder = shutil.copytree(bank_folder, tmp_path / "данные")
    with (clone / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run("./run_all.sh", "--check", "--data", str(folder), "--quick", cwd=clone)
    assert (clone / "asked").read_text() == f"-m study.sources {folder} --folds 2 --check\n"
    assert not (clone / "reports").exists()


def run_by_hand(path):
    """Save the notebook as JupyterLab does once its last cell has run."""
    notebook = json.loads(path.read_text())
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
    cell["execution_count"] = 1
    cell["metadata"] |= {"scrolled": True, "execution": {"shell.execute_reply": "now"}}
    cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": ["one\n"]}]
    notebook["metadata"] |= {"language_info": {"name": "python", "version": "3.11.7"}, "widgets": {}}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return notebook


def test_git_sees_sources_of_notebooks_alone(clone):
    def git(*arguments):
        done = run("git", *arguments, cwd=clone)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    git("init", "--quiet")
    assert run("./run_all.sh", "--setup", cwd=clone).returncode == 0
    shutil.copy(ROOT / ".gitattributes", clone)
    path = Path(shutil.copy(NOTEBOOKS / "08_comparison.ipynb", clone / "notebooks"))
    git("add", "notebooks")
    saved = run_by_hand(path)
    assert git("diff") == ""
    saved["cells"][-1]["source"].append("\nmore")
    path.write_text(json.dumps(saved, indent=1, ensure_ascii=False))
    assert git("diff", "--numstat") == "2\t1\tnotebooks/08_comparison.ipynb\n"


def test_a_notebook_with_other_outputs_is_the_same_and_one_with_another_source_is_not(uninterrupted, tmp_path):
    study = small_study.again(uninterrupted, tmp_path / "study")
    path = study / "notebooks" / "04_train_softmax.ipynb"
    saved = run_by_hand(path)
    assert small_study.run(study, "--dry-run").stdout == "no steps would run\n"
    saved["cells"][-1]["source"].append("\npass")
    path.write_text(json.dumps(saved))
    assert "notebooks/04_train_softmax.ipynb: Params have changed" in small_study.run(study, "--dry-run").stdout


@pytest.mark.parametrize("lock", [".lock", ".steps"])
def test_a_second_run_waits_for_the_first_and_for_steps_it_left(clone, lock):
    with (clone / lock).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        second = subprocess.Popen(
            ["./run_all.sh"], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert "waiting for" in second.stderr.readline()
        assert second.poll() is None
        assert not (clone / "reports").exists()
    out, _ = second.communicate(timeout=300)
    assert (second.returncode, out) == (0, f"{clone}/reports/synthetic/index.html\n")


def test_a_report_is_verified_with_its_own_profile_and_its_own_caches(clone):
    done = run("./run_all.sh", "--verify", cwd=clone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: reports/quick: no finished report of synthetic to verify\n"
    assert run("./run_all.sh", "--quick", "--out", "quick", cwd=clone).returncode == 0
    (clone / "asked").unlink(missing_ok=True)
    done = run("./run_all.sh", "--verify", "--threads", "2", cwd=clone)
    assert "workflow synthetic quick-verify quick 2 threads\n" in done.stderr
    assert f"kept {clone}/data/verify/quick-verify\n" in done.stderr
    assert "-m workflow.verify reports/quick reports/quick-verify\n" in (clone / "asked").read_text()
    assert done.returncode == 1  # this workflow makes no tables to compare
    assert done.stdout == f"{clone}/reports/quick-verify/index.html\n"


def test_every_package_is_pinned_once_with_hashes():
    direct = dict(line.split("==") for line in (ROOT / "requirements.in").read_text().splitlines() if "==" in line)
    lock = re.sub(r"^#.*\n", "", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    entries = re.split(r"\n(?! )", lock.strip())
    pattern = r"([a-z0-9][a-z0-9._-]*)==(\S+)(?: \\\n    --hash=sha256:[0-9a-f]{64})+"
    pinned = dict(re.fullmatch(pattern, entry).groups() for entry in entries)
    assert len(pinned) == len(entries)
    torch = direct.pop("torch")  # its wheel differs by platform and index
    assert (ROOT / "requirements-torch.txt").read_text().splitlines()[-1] == f"torch=={torch}"
    assert direct.items() <= pinned.items()
    needed = [Requirement(text) for text in requires("torch")]
    needed = {each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})}
    assert {name for name in needed if not name.startswith(("nvidia", "cuda", "triton"))} <= pinned.keys()
    assert "-r requirements.txt" in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]


def test_files_that_the_readme_names_exist():
    files = set(re.findall(r"`((?:lib|study|workflow|tests)/[\w/.]+)`", (ROOT / "README.md").read_text()))
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_the_studys_parameters_exist_in_its_notebooks():
    for parameters in yaml.safe_load((ROOT / "study.yaml").read_text()).values():
        for name, own in parameters["notebooks"].items():
            assert own.keys() <= inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb")).keys()


def test_the_graph_has_all_steps_and_takes_any_path_and_name(bank_folder, tmp_path):
    source = shutil.copytree(bank_folder, tmp_path / "it's {mechanism} мои")
    given = {"STUDY_DATA": str(source), "STUDY_NAME": "1.10", "STUDY_PROFILE": "quick"}
    done = run(sys.executable, *"-m snakemake --cores 2 --dry-run --printshellcmds".split(), **given)
    assert done.returncode == 0, done.stderr
    assert f"--source {shlex.quote(str(source))} --customers 200 " in done.stdout + done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    study = yaml.safe_load((ROOT / "study.yaml").read_text())["quick"]
    # The mechanisms and attention removed, with counts and plain, and the controls: a step for all folds of each.
    assert int(counts["train"]) == 8 + len(of_each(study["controls"]))
    assert sum(name.startswith("notebook_") for name in counts) == len(list(NOTEBOOKS.glob("*.ipynb")))
    assert counts["pages"] == "1"
    steps = re.findall(r"^rule notebook_(\w+):\n((?:    .*\n)+)", done.stdout + done.stderr, flags=re.MULTILINE)
    alone = {name for name, step in steps if "threads: 2\n" in step}
    assert alone == {"07_speed_and_memory", "09_tasks"}
    assert all("study/study.mplstyle" in step for _, step in steps)


def test_a_step_has_the_studys_kernel_python_and_threads_whatever_is_set_and_whatever_its_folder_is_named(
    uninterrupted,
):
    """One thread, unless told otherwise: Snakemake by itself would set as many as there are cores."""
    made = json.loads((uninterrupted / "reports" / "synthetic" / "notebooks" / "04_train_softmax.ipynb").read_text())
    printed = ["".join(out.get("text", "")) for cell in made["cells"] for out in cell.get("outputs", [])]
    assert f"1 1 1 1 0 {uninterrupted}/lib\n" in printed
