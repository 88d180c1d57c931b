"""What a run shows of itself."""

import io
from logging import makeLogRecord
from types import SimpleNamespace

from snakemake_interface_logger_plugins.common import LogEvent

from workflow import engine


def test_every_step_gets_a_line_with_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr(engine, "SCREEN", screen := io.StringIO())
    # A minute at every look at the clock, which is taken when a step begins.
    monkeypatch.setattr(engine.time, "monotonic", iter(range(0, 10**6, 60)).__next__)
    handler = engine.LogHandler(SimpleNamespace(dryrun=False), None)

    def tell(event, **values):
        handler.emit(makeLogRecord({"event": event, "msg": "Snakemake's own words"} | values))

    tell(LogEvent.RUN_INFO, stats={"data": 1, "train": 2, "notebook_01_data": 1, "all": 1, "total": 5})
    fold, all_folds = {"variant": "infinite_former", "split": "-0-1"}, {"variant": "softmax_plain", "split": ""}
    steps = [("data", {}), ("train", fold), ("train", all_folds), ("notebook_01_data", {}), ("all", {})]
    for job, (rule, wildcards) in enumerate(steps):
        tell(LogEvent.JOB_INFO, jobid=job, rule_name=rule, wildcards=wildcards)
        tell(LogEvent.JOB_FINISHED, job_id=job)
    assert screen.getvalue().splitlines() == [
        "[1/4] data · 60 s",
        "[2/4] train ∞-former, repeat 0, fold 1 · 2 min",
        "[3/4] train softmax plain · 3 min, about 3 min left",  # 3 (13 / 6 - 1), just below 3.5
        "[4/4] notebook 01 data · 4 min, about 20 s left",  # 4 (13 / 12 - 1) = 1/3
    ]
