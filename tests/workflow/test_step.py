"""A step that fails says why in one line that stays; one that works leaves none, and what it took."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib.paths import ROOT
from workflow.step import durable_path

MADE = "reports/tiny/runs/softmax.json"


@pytest.fixture
def step(tmp_path):
    """Runs a `main` of the given lines as the step that makes `MADE`; its exit status and the line that is left."""

    def run(body):
        (tmp_path / "work.py").write_text("import os, sys\ndef main():\n    " + body.replace("\n", "\n    "))
        command = [sys.executable, "-m", "workflow.step", MADE, "work", "one", "--two"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
        left = tmp_path / f"{MADE}.failed"
        return done.returncode, left.read_text() if left.exists() else ""

    return run


def test_a_step_that_works_leaves_what_it_took_and_gets_its_arguments(step, tmp_path):
    assert step("assert sys.argv[1:] == ['one', '--two']") == (0, "")
    names, values = (tmp_path / "reports/tiny/durations/train-softmax.tsv").read_text().splitlines()
    took = dict(zip(names.split(), map(float, values.split()), strict=True))
    assert took.keys() == {"s", "cpu_time", "max_rss"}
    assert took["cpu_time"] > 0


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("os.kill(os.getpid(), 9)", -9, f"FAILED {MADE}: was killed, as happens when memory runs out"),
        ("raise OSError(28, 'No space left')", 1, f"FAILED {MADE}: OSError: [Errno 28] No space left"),
        ("raise ValueError('first\\nsecond')", 1, f"FAILED {MADE}: ValueError: first"),
        ("return 3", 3, f"FAILED {MADE}: exit status 3, for the reason that is printed above"),
        ("from workflow.step import report_failure\nreport_failure('told' * 999)\nreturn 1", 1, ("told" * 999)[:1000]),
    ],
)
def test_a_step_that_fails_leaves_one_line(step, body, status, line):
    assert step(body) == (status, line + "\n")


def test_what_a_pod_says_lies_with_the_report_and_not_with_its_copy():
    copy = ".snakemake/storage/fs/study/repository/reports/a/runs/b.json"
    assert {durable_path(Path(copy)), durable_path(Path("reports/a/runs/b.json"))} == {Path("reports/a/runs/b.json")}
