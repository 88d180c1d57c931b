"""The runner, on notebooks of a few cells."""

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
from workflow.execute import default_parameters


def stored_notebook(folder: Path, body: str) -> Path:
    cells = [
        new_code_cell("width = 2\nname = 'a'\n", id="parameters", metadata={"tags": ["parameters"]}),
        new_code_cell(body, id="body-cell"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "01_tiny.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def printed(path: Path) -> str:
    outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    return "".join(out.get("text", "") for out in outputs)


def execute(source: Path, target: Path, given: str = "{}") -> tuple[int, list[str]]:
    """Status of the run, and what it said."""
    command = [sys.executable, "-m", "workflow.execute", str(source), str(target), given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr.splitlines()


def test_parameters_reach_the_notebook_and_the_target_appears_whole(tmp_path):
    source = stored_notebook(tmp_path, "print(width * 3, name)")
    target = tmp_path / "out" / "01_tiny.ipynb"
    assert execute(source, target, '{"width": 5}') == (0, [])
    assert printed(target) == "15 a\n"
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_cell_gives_one_line_and_leaves_the_partial_notebook(tmp_path):
    source = stored_notebook(tmp_path, "print('before')\nraise RuntimeError('first line\\nsecond line')")
    target = tmp_path / "01_out.ipynb"
    target.write_text("an older result that must not survive")
    partial = tmp_path / "01_out.partial.ipynb"
    line = f"FAILED {source}, cell body-cell (In [2]): RuntimeError: first line · see {partial}"
    assert execute(source, target) == (1, [line])
    assert not target.exists()
    assert "before" in printed(partial)


def test_a_kernel_that_is_killed_is_told_from_an_error(tmp_path):
    source = stored_notebook(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    status, lines = execute(source, tmp_path / "01_out.ipynb")
    assert status == 1
    assert re.fullmatch(r"FAILED .*, cell body-cell: its kernel was killed, as happens when .*", lines[-1])


@pytest.mark.parametrize("source", ["a = 1 + b", "import os", "a = len('x')"])
def test_anything_but_literals_is_refused(source):
    with pytest.raises((ValueError, AttributeError)):
        default_parameters(source)


def test_jupyterlab_has_the_kernel_of_the_environment_whatever_is_set(tmp_path):
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip(f"these tests run in {sys.prefix}, which run_all.sh has not made")
    command = [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"]
    done = subprocess.run(command, env=os.environ | small_study.misleading(tmp_path), capture_output=True, text=True)
    spec = json.loads(done.stdout)["kernelspecs"]["python3"]["spec"]
    assert (spec["argv"][0], spec["env"]["PYTHONPATH"]) == (sys.executable, "")
