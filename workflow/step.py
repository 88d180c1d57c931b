"""One step of the workflow: when it fails, or is killed, one line is left that says so, for the end of the run.

python -m workflow.step reports/synthetic/runs/softmax.json study.train softmax --out …

The line is there from the start, as that of a killed step: what runs out of memory is killed and says nothing any more,
and what runs out of disk finds the place for its line already taken. What a finished step took lies in `durations`.
"""

import contextlib
import os
import resource
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

PLACE = "STUDY_FAILED"
KILLED = "was killed, as happens when memory runs out"


def report_failure(line: str) -> None:
    """Say why this step fails: in the step's line where it is run by the workflow, and on stderr."""
    # A full disk must not hide that it is full: stderr is a file, too; the line stays within the block that it has.
    with contextlib.suppress(OSError, KeyError), Path(os.environ[PLACE]).open("r+", encoding="utf-8") as stream:
        stream.write(line[:1000] + "\n")
        stream.truncate()
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def durable_path(target: Path) -> Path:
    """The target's place in the study's folder: a step in a pod makes a copy elsewhere, which goes with the pod."""
    parts = target.parts
    return Path(*parts[parts.index("reports") :]) if parts[:2] == (".snakemake", "storage") else target


def first_line(message: object) -> str:
    """The first line of a message that says something."""
    return next((line.strip() for line in str(message).splitlines() if line.strip("- \n")), "no message")


def write_duration(target: Path, seconds: float) -> None:
    """Keep seconds, CPU seconds and peak memory (MiB) of this step and its children beside `reports/NAME/…`."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    memory = max(each.ru_maxrss for each in used) / 1024
    name = "train-" * (target.parent.name == "runs") + target.stem
    place = Path(*target.parts[:2], "durations", f"{name}.tsv")
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"s\tcpu_time\tmax_rss\n{seconds:.2f}\t{cpu:.2f}\t{memory:.1f}\n")


def main() -> int:
    """Run the `main` of a module as a command: the step's target below `reports/NAME`, the module, its arguments."""
    start, (made, module, *sys.argv[1:]) = time.monotonic(), sys.argv[1:]
    target = durable_path(Path(made))
    place, killed = target.with_name(f"{target.name}.failed"), f"FAILED {target}: {KILLED}\n"
    os.environ[PLACE] = str(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(killed, encoding="utf-8")
        status = import_module(module).main()
        if not status:
            write_duration(target, time.monotonic() - start)
            place.unlink()
        elif place.read_text(encoding="utf-8") == killed:
            report_failure(f"FAILED {target}: exit status {status}, for the reason that is printed above")
        return status
    except BaseException as error:
        report_failure(f"FAILED {target}: {type(error).__name__}: {first_line(error)}")
        if not isinstance(error, OSError | MemoryError):
            traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
