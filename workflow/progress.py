"""Snakemake's logger for the study: what runs, how far, how long still; of a dry run, what would run and why."""

import io
import os
import re
import shutil
import sys
import time
from functools import cache
from logging import LogRecord
from pathlib import Path
from threading import Thread

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from workflow.environment import show

SCREEN = sys.stderr
"""Where progress is shown: `workflow.engine` makes it what stderr was before all else went to the log."""
LOG = Path(".snakemake/log/study.log")
"""What all steps print, where they run on this machine."""
UNKNOWN = 60.0
"""Seconds of a step that has not run before, of all but the data and the pages, which take few."""


@cache
def usual(rule: str) -> float:
    """Seconds that a step of the rule took in the last run of this report, on average; not what this run adds."""
    durations = Path("reports", os.environ["STUDY_NAME"], "durations")
    took = [path.read_text().splitlines()[-1] for path in durations.glob(f"{rule.removeprefix('notebook_')}*.tsv")]
    seconds = [float(line.split("\t")[0]) for line in took if line[:1].isdigit()]
    return sum(seconds) / len(seconds) if seconds else UNKNOWN / 10 if rule in ("data", "pages") else UNKNOWN


def words(rule: str, variant: str = "", split: str = "") -> str:
    """A step in plain words; `split` is a dash, the repeat, a dash and the fold, where it has only these."""
    if rule != "train":
        return rule.replace("notebook_", "notebook ")
    name = variant.replace("infinite_former", "∞-former").replace("_", " ")
    if not split:
        return f"training {name}"
    repeat, fold = map(int, split[1:].split("-"))
    return f"{name}{f', repeat {repeat + 1}' * bool(repeat)}, fold {fold + 1} of {os.environ['STUDY_FOLDS']}"


def planned(output: list[str], reason: str) -> str:
    """A step that would run, and why."""
    why = re.sub(r"^Missing output files: [^;]*(; )?", "", reason)
    each = why.split(", ")
    why = f"{', '.join(each[:3])} and {len(each) - 3} more" if len(each) > 3 else why
    return f"{output[0]}{' and others' * (len(output) > 1)}: {why or 'does not exist'}"


def duration(seconds: float) -> str:
    """Whole seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class LogHandler(LogHandlerBase):
    """In a terminal one line that changes, elsewhere one a step; what Snakemake says goes to stderr, the log."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, False, False, False

    def __post_init__(self) -> None:
        self.start, self.steps, self.running, self.open = time.monotonic(), {}, {}, True
        self.total = self.done = self.work = self.expected = 0
        self.trainings, self.log = {}, LOG.open(encoding="utf-8", errors="replace") if LOG.exists() else io.StringIO()
        if SCREEN.isatty() and not self.common_settings.dryrun:
            Thread(target=self.tick, daemon=True).start()

    def tick(self) -> None:
        """Show how the time goes while long steps run."""
        while self.open:
            time.sleep(1)
            with self.lock:
                if self.open:
                    self.look_at_folds()
                    self.draw("; ".join(self.running.values()))

    def look_at_folds(self) -> None:
        """Of trainings that say in the log which fold they are at, show that."""
        for variant, repeat, fold in re.findall(r"^at work: (\w+) (\d+) (\d+)$", self.log.read(), flags=re.MULTILINE):
            if (job := self.trainings.get(variant)) in self.running:
                self.running[job] = words("train", variant, f"-{repeat}-{fold}")

    def draw(self, names: str) -> None:
        """One line: n of m, the steps, elapsed and left."""
        took = time.monotonic() - self.start
        left = f", about {duration(self.expected - took)} left" if self.expected > took else ""
        head, tail = f"[{len(self.steps)}/{self.total}] ", f" · {duration(took)}{left}"
        room = shutil.get_terminal_size().columns - len(head + tail) - 1 if SCREEN.isatty() else len(names)
        if names:
            show(head + (names if len(names) <= room else names[: room - 1] + "…") + tail, screen=SCREEN)

    def emit(self, record: LogRecord) -> None:
        """One of Snakemake's records."""
        print(self.format(record), file=sys.stderr, flush=True)
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                counts = {rule: number for rule, number in record.stats.items() if rule not in ("all", "total")}
                self.total = sum(counts.values())
                self.work = sum(usual(rule) * number for rule, number in counts.items())
            case LogEvent.JOB_INFO if record.rule_name != "all" and self.common_settings.dryrun:
                print(planned(record.output, record.reason), file=SCREEN)
                self.steps[record.jobid] = 0
            case LogEvent.JOB_INFO if record.rule_name != "all":
                self.running[record.jobid] = name = words(record.rule_name, **record.wildcards)
                self.steps[record.jobid] = usual(record.rule_name)
                self.trainings[record.wildcards.get("variant")] = record.jobid
                self.draw("; ".join(self.running.values()) if SCREEN.isatty() else name)
            case LogEvent.JOB_FINISHED if self.running.pop(record.job_id, None):
                self.done += self.steps[record.job_id]
                self.expected = (time.monotonic() - self.start) * self.work / self.done
            case LogEvent.JOB_ERROR:
                self.running.pop(record.jobid, None)

    def close(self) -> None:
        """The end of the line, and of a plan."""
        if self.open and self.common_settings.dryrun:
            print(f"{len(self.steps)} steps would run" if self.steps else "nothing would run", file=SCREEN)
        elif self.open and self.steps and SCREEN.isatty():
            print(file=SCREEN)
        with self.lock:
            self.open = False
            self.log.close()
        super().close()
