"""What a run shows of itself, in a terminal and in a file."""

import io
import os
import re
from logging import makeLogRecord
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from workflow import progress


class Screen(io.StringIO):
    """A file, or a terminal of 80 columns."""

    terminal = False

    def isatty(self):
        return self.terminal


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """What is shown of three steps, two of them at work at a time, where a minute passes at every look at the clock."""

    def show(terminal):
        monkeypatch.setenv("STUDY_FOLDS", "5")
        monkeypatch.setenv("STUDY_NAME", "tiny")
        monkeypatch.chdir(tmp_path)
        progress.LOG.parent.mkdir(parents=True)
        progress.LOG.write_text("Snakemake's own words\nat work: infinite_former_forgetful 2 4\n")
        monkeypatch.setattr(progress, "SCREEN", screen := Screen())
        monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
        monkeypatch.setattr(progress.time, "monotonic", iter(range(0, 10**6, 60)).__next__)
        handler = progress.LogHandler(SimpleNamespace(dryrun=False), None)
        screen.terminal = terminal

        def tell(event, **values):
            handler.emit(makeLogRecord({"event": event, "msg": "Snakemake's own words"} | values))

        tell(LogEvent.RUN_INFO, stats={"train": 2, "notebook_01_data": 1, "all": 1, "total": 4})
        tell(LogEvent.JOB_INFO, jobid=1, rule_name="train", wildcards=train("infinite_former", "-0-1"))
        tell(LogEvent.JOB_FINISHED, job_id=1)
        tell(LogEvent.JOB_INFO, jobid=2, rule_name="train", wildcards=train("infinite_former_forgetful", ""))
        handler.look_at_folds() if terminal else None
        tell(LogEvent.JOB_INFO, jobid=3, rule_name="notebook_01_data", wildcards={})
        tell(LogEvent.JOB_INFO, jobid=0, rule_name="all", wildcards={})
        tell(LogEvent.JOB_ERROR, jobid=3)
        handler.close()
        handler.close()
        return screen.getvalue()

    return show


def train(variant, split):
    return {"variant": variant, "split": split}


def test_a_file_gets_one_line_a_step(shown):
    # One unit of three took two minutes.
    assert shown(terminal=False).splitlines() == [
        "[1/3] ∞-former, fold 2 of 5 · 60 s",
        "[2/3] training ∞-former forgetful · 3 min, about 3 min left",
        "[3/3] notebook 01_data · 4 min, about 2 min left",
    ]


def test_a_terminal_has_one_line_that_fits(shown):
    *lines, last = re.split("\\r\x1b\\[K", shown(terminal=True))
    assert lines[0] == ""
    assert last.endswith("\n")
    assert "\n" not in "".join(lines)
    assert last == "[3/3] ∞-former forgetful, repeat 3, fold 5 of 5; not… · 4 min, about 2 min left\n"
    assert len(last) == 80  # with the end of the line


@pytest.mark.parametrize(
    ("output", "reason", "line"),
    [
        (["a"], "Missing output files: a", "a: does not exist"),
        (
            ["a"],
            "Missing output files: a, b; Input files updated by another job: c",
            "a: Input files updated by another job: c",
        ),
        (["a", "b"], "Updated input files: c, d, e, f, g", "a and others: Updated input files: c, d, e and 2 more"),
    ],
)
def test_a_plan_names_what_and_why(output, reason, line):
    assert progress.planned(output, reason) == line
