"""The graph of steps run by Snakemake, whose own words go to a log.

python -m workflow.engine reports/synthetic --cores all     (the report, then options of Snakemake)
"""

import atexit
import os
import sys
import time
from pathlib import Path

from snakemake.cli import main as snakemake
from snakemake.jobs import Reason
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from workflow import progress

MADE = ("data.json", "runs/*.json", "notebooks/??_*.ipynb", "*.html")
SECONDS = progress.LOG.with_name("cpu_seconds")
"""Those that the last run of the workflow itself took."""
ENDS = (b"}", b"]", b"</html>")
"""Of JSON and pages that are whole."""
needed = Reason.__bool__
# A step whose record is lost or damaged runs again: Snakemake by itself would only look at dates.
Reason.__bool__ = lambda reason: needed(reason) or (reason.no_metadata and not reason.finished)


def to_remake(report: Path) -> list[str]:
    """Files of a report that end in the middle; `data` of a published one: what its pages were made from is missing."""
    made = [path for pattern in MADE for path in sorted(report.glob(pattern)) if ".partial." not in path.name]
    torn = [str(path) for path in made if not path.read_bytes().rstrip().endswith(ENDS)]
    return [*torn, "data"] if (report / "index.html").exists() and not (report / "data.json").exists() else torn


def main() -> None:
    """Raises SystemExit with Snakemake's status."""
    options, damaged = sys.argv[2:], to_remake(Path(sys.argv[1]))
    screen = os.dup(1 if "--dry-run" in options else 2)
    progress.SCREEN = os.fdopen(screen, "w", buffering=1, encoding="utf-8")
    progress.LOG.parent.mkdir(parents=True, exist_ok=True)
    with progress.LOG.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_study", progress)
    atexit.register(lambda: SECONDS.write_text(f"{time.process_time():.1f}\n"))
    snakemake([*options, "--scheduler", "greedy", "--logger", "study", *(["--forcerun", *damaged] if damaged else [])])


if __name__ == "__main__":
    main()
