"""One step of the workflow: when it fails, or is killed, one line is left that says so, for the end of the run.

python -m workflow.step reports/synthetic/runs/softmax-0-0.json study.train softmax --repeat 0 --out …

The line is there from the start, as that of a killed step: what runs out of memory is killed and says nothing any more,
and what runs out of disk finds the place for its line already taken.
"""

import contextlib
import os
import runpy
import sys
import traceback
from pathlib import Path

PLACE = "STUDY_FAILED"
KILLED = "was killed, as happens when memory runs out"
COPIES = (".snakemake", "storage")
"""Folder in which a step in a pod finds copies of files and leaves its own."""
LONGEST = 1000
"""Characters of a line: it stays within the block that its file has from the start."""


def report_failure(line: str) -> None:
    """Say why this step fails: in the step's line where it is run by the workflow, and on stderr."""
    # A full disk must not hide that it is full: stderr is a file, too.
    with contextlib.suppress(OSError, KeyError), Path(os.environ[PLACE]).open("r+", encoding="utf-8") as stream:
        stream.write(line[:LONGEST] + "\n")
        stream.truncate()
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def durable_path(target: Path) -> Path:
    """The target's place in the study's folder: a step in a pod makes a copy elsewhere, which goes with the pod."""
    parts = target.parts
    return Path(*parts[parts.index("reports") :]) if parts[:2] == COPIES else target


def first_line(message: object) -> str:
    """The first line of a message that says something."""
    return next((line.strip() for line in str(message).splitlines() if line.strip("- \n")), "no message")


def main() -> int:
    """Run a module as a command: the step's target, the module, its arguments."""
    made, module, *sys.argv[1:] = sys.argv[1:]
    target = durable_path(Path(made))
    place, killed = target.with_name(f"{target.name}.failed"), f"FAILED {target}: {KILLED}\n"
    os.environ[PLACE] = str(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(killed, encoding="utf-8")
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as done:
        if done.code and place.read_text(encoding="utf-8") == killed:
            status = f"exit status {done.code}, for the reason that is printed above"
            report_failure(f"FAILED {target}: {status if isinstance(done.code, int) else done.code}")
        if done.code:
            return done.code if isinstance(done.code, int) else 1
    except Exception as error:
        report_failure(f"FAILED {target}: {type(error).__name__}: {first_line(error)}")
        if not isinstance(error, OSError | MemoryError):
            traceback.print_exc()
        return 1
    place.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
