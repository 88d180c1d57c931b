"""The graph of steps run by Snakemake, whose own words go to a log; what runs, how far and how long still is shown.

python -m workflow.engine --cores all     (options of Snakemake)
"""

import os
import re
import sys
import textwrap
import time
from datetime import timedelta
from logging import LogRecord
from pathlib import Path

from snakemake.cli import main as snakemake
from snakemake.jobs import Reason
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

SCREEN = sys.stderr  # what it was before all that steps print here went to the log; of a plan stdout
LOG = Path(".snakemake/log/study.log")


class LogHandler(LogHandlerBase):
    """Snakemake's logger: a line for every step that begins, or would; what Snakemake says goes to stderr, the log."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, False, False, False

    def __post_init__(self) -> None:
        self.start, self.begun, self.open = time.monotonic(), set(), True
        self.total = self.done = 0

    def emit(self, record: LogRecord) -> None:
        """One of Snakemake's records."""
        print(self.format(record), file=sys.stderr, flush=True)
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                self.total = sum(number for rule, number in record.stats.items() if rule not in ("all", "total"))
            case LogEvent.JOB_INFO if record.rule_name != "all":
                self.begun.add(record.jobid)
                took = timedelta(seconds=int(time.monotonic() - self.start))
                name = " ".join([record.rule_name, *record.wildcards.values()]).strip().replace("_", " ")
                name = re.sub(r" -(\d+)-(\d+)$", r", repeat \1, fold \2", name.replace("infinite former", "∞-former"))
                line = f"[{len(self.begun)}/{self.total}] {name} · {took}"
                if self.done > 1:  # the first, the data, takes a second
                    line += f", about {took * (self.total - self.done) // self.done} left"
                if self.common_settings.dryrun:
                    line = f"{record.output[0]}: {textwrap.shorten(record.reason, 160, placeholder=' …')}"
                print(line, file=SCREEN)
            case LogEvent.JOB_FINISHED:
                self.done += record.job_id in self.begun

    def close(self) -> None:
        """The end of a plan."""
        if self.open and self.common_settings.dryrun:
            print(f"{len(self.begun) or 'no'} steps would run", file=SCREEN)
        self.open = False
        super().close()


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
