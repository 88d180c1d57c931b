"""The runner, on notebooks of a few cells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import small_study
from nbformat.v4 import new_code_cell, new_notebook

from lib.paths import ROOT
from workflow.execute import check_parameters, default_parameters, main


def stored_notebook(folder: Path, body: str, parameters: str = "width = 2  # units\nname = 'a'\n") -> Path:
    cells = [
        new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        new_code_cell(body, id="body-cell"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "01_tiny.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def printed(path: Path) -> str:
    outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    return "".join(out.get("text", "") for out in outputs)


def test_parameters_reach_the_notebook_and_the_target_appears_whole(tmp_path, capfd):
    source = stored_notebook(tmp_path, "import os; print(width * 3, name, os.environ['OMP_NUM_THREADS'])")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"width": 5, "name": "file"}))
    target = tmp_path / "out" / "01_tiny.ipynb"
    assert main([str(source), str(target), "--parameters", str(settings), "-p", "name", "line"]) == 0
    assert printed(target) == "15 line 1\n"
    assert list(target.parent.iterdir()) == [target]
    shown = capfd.readouterr()
    assert shown.err == ""
    assert [line.split(":")[0] for line in shown.out.splitlines()] == ["01_tiny", "01_tiny"]


def test_a_failing_cell_gives_one_line_and_leaves_the_partial_notebook(tmp_path, capfd):
    source = stored_notebook(tmp_path, "print('before')\nraise RuntimeError('first line\\nsecond line')")
    target = tmp_path / "01_out.ipynb"
    target.write_text("an older result that must not survive")
    assert main([str(source), str(target)]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "01_tiny.ipynb, cell body-cell (In [2]): RuntimeError: first line" in lines[0]
    assert not target.exists()
    assert "before" in printed(tmp_path / "01_out.partial.ipynb")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-p", "widht", "3"], "unknown parameter widht; known: width, name"),
        (["-p", "width", "wide"], "parameter width must be int, like 2, not 'wide'"),
        (["--parameters", "[1]"], "No such file or directory: '[1]'"),
        (["--parameters", '{"width": }'], "Expecting value"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path, capfd, options, reason):
    source = stored_notebook(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    target = tmp_path / "01_out.ipynb"
    assert main([str(source), str(target), *options]) == 2
    assert reason in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert not target.exists()


def test_a_kernel_that_is_killed_is_told_from_an_error(tmp_path, capfd):
    source = stored_notebook(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert main([str(source), str(tmp_path / "01_out.ipynb")]) == 1
    assert "cell 2 of 2 (body-cell): its kernel was killed, as happens when" in capfd.readouterr().err.splitlines()[-1]


def test_defaults_are_read_in_order():
    notebook = new_notebook(cells=[new_code_cell("b = -1\na = [1.5, 'x']", metadata={"tags": ["parameters"]})])
    assert list(default_parameters(notebook).items()) == [("b", -1), ("a", [1.5, "x"])]


@pytest.mark.parametrize("source", ["a = 1 + b", "import os", "a = b = 1", "a: int = 3", "a = len('x')"])
def test_anything_but_literals_is_refused(source):
    notebook = new_notebook(cells=[new_code_cell(source, metadata={"tags": ["parameters"]})])
    with pytest.raises(ValueError, match="literal"):
        default_parameters(notebook)


def test_a_notebook_needs_one_parameters_cell():
    with pytest.raises(ValueError, match="found 0"):
        default_parameters(new_notebook())


def test_whole_numbers_may_stand_for_decimals_and_lists_for_tuples():
    check_parameters({"rate": 1, "sizes": [1, 2]}, {"rate": 0.5, "sizes": (3,)})
    with pytest.raises(ValueError, match="must be int"):
        check_parameters({"count": True}, {"count": 2})


def test_jupyter_runs_notebooks_with_the_kernel_of_the_environment_whatever_is_set(tmp_path):
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip(f"these tests run in {sys.prefix}, which run_all.sh has not made")
    source = stored_notebook(
        tmp_path, "import os, sys, lib; print(sys.prefix, os.environ.get('OMP_NUM_THREADS'), __doc__)"
    )
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "out", str(source)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= small_study.misleading(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert printed(tmp_path / "out.ipynb").startswith(f"{sys.prefix} None Automatically created module")
