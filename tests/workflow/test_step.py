"""A step that fails says why in one line that stays; one that works leaves none, and what it took."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib.paths import ROOT
from workflow.step import durable_path


@pytest.fixture
def step(tmp_path):
    """Runs a `main` of the given lines as the step that makes `made`; its exit status and the line that is left."""

    def run(body, made="out/made"):
        (tmp_path / "work.py").write_text("import os, sys\ndef main():\n    " + body.replace("\n", "\n    "))
        command = [sys.executable, "-m", "workflow.step", made, "work", "one", "--two"]
        environment = {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        left = tmp_path / f"{made}.failed"
        return done.returncode, left.read_text() if left.exists() else "", done.stderr

    return run


def test_a_step_that_works_leaves_what_it_took_and_gets_its_arguments(step, tmp_path):
    assert step("assert sys.argv[1:] == ['one', '--two']", "reports/tiny/runs/softmax.json") == (0, "", "")
    names, values = (tmp_path / "reports/tiny/durations/train-softmax.tsv").read_text().splitlines()
    took = dict(zip(names.split(), map(float, values.split()), strict=True))
    assert took.keys() == {"s", "cpu_time", "imports", "max_rss"}
    assert 0 < took["imports"] <= took["cpu_time"]
    assert step("sys.exit(0)")[:2] == (0, "")


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("os.kill(os.getpid(), 9)", -9, "FAILED out/made: was killed, as happens when memory runs out"),
        ("raise OSError(28, 'No space left')", 1, "FAILED out/made: OSError: [Errno 28] No space left"),
        ("raise ValueError('first\\nsecond')", 1, "FAILED out/made: ValueError: first"),
        ("raise SystemExit(3)", 3, "FAILED out/made: exit status 3, for the reason that is printed above"),
        ("return 3", 3, "FAILED out/made: exit status 3, for the reason that is printed above"),
        ("raise SystemExit('why')", 1, "FAILED out/made: why"),
        ("from workflow.step import report_failure\nreport_failure('told' * 999)\nreturn 1", 1, ("told" * 999)[:1000]),
    ],
)
def test_a_step_that_fails_leaves_one_line(step, body, status, line):
    assert step(body)[:2] == (status, line + "\n")


def test_what_a_pod_says_lies_with_the_report_and_not_with_its_copy():
    copy = ".snakemake/storage/fs/study/repository/reports/a/runs/b.json"
    assert durable_path(Path(copy)) == Path("reports/a/runs/b.json")
    for other in ("reports/a/runs/b.json", "/somewhere/reports/a.html", "out/made"):
        assert durable_path(Path(other)) == Path(other)
