"""The graph of steps run by Snakemake, whose own words go to a log; what runs, how far and how long still is shown.

python -m workflow.engine --cores all     (options of Snakemake)
"""

import os
import re
import sys
import textwrap
import time
from logging import LogRecord
from pathlib import Path

from snakemake.cli import main as snakemake
from snakemake.jobs import Reason
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

SCREEN = sys.stderr  # what it was before all that steps print here went to the log; of a plan stdout
LOG = Path(".snakemake/log/study.log")
WEIGHTS = {"data": 0, "pages": 0, "train": 6}  # of a step in the time that is left; any other weighs 1


def duration(seconds: float) -> str:
    """Whole seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class LogHandler(LogHandlerBase):
    """Snakemake's logger: a line for every step that begins, or would; what Snakemake says goes to stderr, the log."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, False, False, False

    def __post_init__(self) -> None:
        self.start, self.begun, self.counts, self.done = time.monotonic(), {}, {}, 0

    def emit(self, record: LogRecord) -> None:
        """One of Snakemake's records."""
        print(self.format(record), file=sys.stderr, flush=True)
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                self.counts = {rule: number for rule, number in record.stats.items() if rule not in ("all", "total")}
                if self.begun:  # the end of a plan
                    print(f"steps that would run: {len(self.begun)}", file=SCREEN)
            case LogEvent.JOB_INFO if record.rule_name != "all":
                self.begun[record.jobid] = WEIGHTS.get(record.rule_name, 1)
                took = time.monotonic() - self.start
                name = " ".join([record.rule_name, *record.wildcards.values()]).strip().replace("_", " ")
                name = re.sub(r" -(\d+)-(\d+)$", r", repeat \1, fold \2", name.replace("infinite former", "∞-former"))
                line = f"[{len(self.begun)}/{sum(self.counts.values())}] {name} · {duration(took)}"
                if self.done:
                    work = sum(WEIGHTS.get(rule, 1) * number for rule, number in self.counts.items())
                    line += f", about {duration(took * (work / self.done - 1))} left"
                if self.common_settings.dryrun:
                    line = f"{record.output[0]}: {textwrap.shorten(record.reason, 160, placeholder=' …')}"
                print(line, file=SCREEN)
            case LogEvent.JOB_FINISHED:
                self.done += self.begun.get(record.job_id, 0)


def main() -> None:
    """Raises SystemExit with Snakemake's status."""
    global SCREEN
    SCREEN = os.fdopen(os.dup(1 if "--dry-run" in sys.argv else 2), "w", buffering=1, encoding="utf-8")
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # A step whose record is lost or damaged runs again: Snakemake by itself would only look at dates.
    needed = Reason.__bool__
    Reason.__bool__ = lambda reason: needed(reason) or (reason.no_metadata and not reason.finished)
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_study", sys.modules[__name__])
    snakemake([*sys.argv[1:], "--scheduler", "greedy", "--logger", "study"])


if __name__ == "__main__":
    main()
