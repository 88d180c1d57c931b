"""A step that fails says why in one line that stays; one that works leaves none, and what it took."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import small_study
from nbformat.v4 import new_code_cell, new_notebook

from lib.paths import ROOT
from workflow.step import durable_path

MADE = "reports/tiny/runs/softmax.json"
EXECUTED = "reports/tiny/notebooks/01_tiny.ipynb"


@pytest.fixture
def step(tmp_path):
    """Runs a step; its exit status and the line that is left."""

    def run(made, *work):
        command = [sys.executable, "-m", "workflow.step", made, *work]
        given = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
        done = subprocess.run(command, capture_output=True, **given)
        left = tmp_path / f"{made}.failed"
        return done.returncode, left.read_text() if left.exists() else ""

    return run


@pytest.fixture
def command(step, tmp_path):
    """Runs a `main` of the given lines as the step that makes `MADE`."""

    def run(body):
        (tmp_path / "work.py").write_text("import os, sys\ndef main():\n    " + body.replace("\n", "\n    "))
        return step(MADE, "work", "one", "--two")

    return run


@pytest.fixture
def notebook(step, tmp_path):
    """Runs a notebook of two parameters and a cell as the step that makes `EXECUTED`."""

    def run(body, parameters="{}"):
        first = new_code_cell("width = 2\nname = 'a'\n", id="parameters", metadata={"tags": ["parameters"]})
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        made = new_notebook(cells=[first, new_code_cell(body, id="body-cell")], metadata=metadata)
        nbformat.write(made, tmp_path / "01_tiny.ipynb")
        return step(EXECUTED, "01_tiny.ipynb", parameters)

    return run


def printed(path: Path) -> str:
    outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    return "".join(out.get("text", "") for out in outputs)


def test_a_step_that_works_leaves_what_it_took_and_gets_its_arguments(command, tmp_path):
    assert command("assert sys.argv[1:] == ['one', '--two']") == (0, "")
    names, values = (tmp_path / "reports/tiny/durations/train-softmax.tsv").read_text().splitlines()
    took = dict(zip(names.split(), map(float, values.split()), strict=True))
    assert took.keys() == {"s", "cpu_time", "max_rss"}
    assert took["cpu_time"] > 0


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("os.kill(os.getpid(), 9)", -9, "was killed, as happens when memory runs out"),
        ("raise OSError(28, 'No space left')", 1, "OSError: [Errno 28] No space left"),
        ("raise ValueError('first\\nsecond')", 1, "ValueError: first"),
        ("return 3", 1, "exit status 3, for the reason that is printed above"),
    ],
)
def test_a_step_that_fails_leaves_one_line(command, body, status, line):
    assert command(body) == (status, f"FAILED {MADE}: {line}\n")


def test_what_a_pod_says_lies_with_the_report_and_not_with_its_copy():
    copy = ".snakemake/storage/fs/study/repository/reports/a/runs/b.json"
    assert {durable_path(Path(copy)), durable_path(Path("reports/a/runs/b.json"))} == {Path("reports/a/runs/b.json")}


def test_parameters_reach_a_notebook_and_its_copy_appears_whole(notebook, tmp_path):
    assert notebook("print(width * 3, name)", '{"width": 5}') == (0, "")
    assert printed(tmp_path / EXECUTED) == "15 a\n"
    assert list((tmp_path / EXECUTED).parent.iterdir()) == [tmp_path / EXECUTED]


def test_a_failing_cell_gives_one_line_and_leaves_the_partial_notebook(notebook, tmp_path):
    target, partial = (tmp_path / path for path in (EXECUTED, EXECUTED.replace(".ipynb", ".partial.ipynb")))
    target.parent.mkdir(parents=True)
    target.write_text("an older result that must not survive")
    line = f"FAILED 01_tiny.ipynb, cell body-cell: RuntimeError: first line · see {partial.relative_to(tmp_path)}\n"
    assert notebook("print('before')\nraise RuntimeError('first line\\nsecond line')") == (1, line)
    assert not target.exists()
    assert "before" in printed(partial)


def test_a_kernel_that_is_killed_is_told_from_an_error(notebook):
    _, line = notebook("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert re.match("FAILED 01_tiny.ipynb, cell body-cell: its kernel was killed, as happens when memory", line)


def test_jupyterlab_has_the_kernel_of_the_environment_whatever_is_set(tmp_path):
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip(f"these tests run in {sys.prefix}, which run_all.sh has not made")
    command = [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"]
    done = subprocess.run(command, env=os.environ | small_study.misleading(tmp_path), capture_output=True, text=True)
    spec = json.loads(done.stdout)["kernelspecs"]["python3"]["spec"]
    assert (spec["argv"][0], spec["env"]["PYTHONPATH"]) == (sys.executable, "")
