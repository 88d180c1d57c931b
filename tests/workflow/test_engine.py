"""What a run shows of itself."""

import io
from logging import makeLogRecord
from types import SimpleNamespace

from snakemake_interface_logger_plugins.common import LogEvent

from workflow import engine

STEPS = [
    ("data", {}, "data"),
    ("train", {"variant": "infinite_former", "split": "-0-1"}, "training ∞-former, repeat 1, fold 2"),
    ("train", {"variant": "softmax_plain", "split": ""}, "training softmax plain"),
    ("notebook_01_data", {}, "notebook 01_data"),
]


def test_every_step_gets_a_line_with_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr(engine, "SCREEN", screen := io.StringIO())
    # A minute at every look at the clock, which is taken when a step begins.
    monkeypatch.setattr(engine.time, "monotonic", iter(range(0, 10**6, 60)).__next__)
    handler = engine.LogHandler(SimpleNamespace(dryrun=False), None)

    def tell(event, **values):
        handler.emit(makeLogRecord({"event": event, "msg": "Snakemake's own words"} | values))

    tell(LogEvent.RUN_INFO, stats={"data": 1, "train": 2, "notebook_01_data": 1, "all": 1, "total": 5})
    for job, (rule, wildcards, _) in enumerate(STEPS):
        tell(LogEvent.JOB_INFO, jobid=job, rule_name=rule, wildcards=wildcards)
        tell(LogEvent.JOB_FINISHED, job_id=job)
    tell(LogEvent.JOB_INFO, jobid=9, rule_name="all", wildcards={})
    names = [name for *_, name in STEPS]
    assert screen.getvalue().splitlines() == [
        f"[1/4] {names[0]} · 60 s",
        f"[2/4] {names[1]} · 2 min",
        f"[3/4] {names[2]} · 3 min, about 3 min left",
        f"[4/4] {names[3]} · 4 min, about 80 s left",
    ]
