"""One step of the workflow: when it fails, or is killed, one line is left that says so, for the end of the run.

python -m workflow.step reports/synthetic/runs/softmax.json study.train softmax --out …
python -m workflow.step reports/synthetic/notebooks/01_data.ipynb notebooks/01_data.ipynb '{"seed": 1}'

The line is there from the start, as that of a killed step: what runs out of memory is killed and says nothing any more,
and what runs out of disk finds the place for its line already taken. What a finished step took lies in `durations`.
"""

import ast
import contextlib
import json
import re
import resource
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

from lib.storage import write_atomic

KILLED = "was killed, as happens when memory runs out"


def notebooks_in(folder: Path) -> list[Path]:
    """The study's notebooks in order, without JupyterLab's copies and those that were executed in part."""
    return sorted(path for path in folder.glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", path.stem))


def default_parameters(cell: str) -> dict[str, object]:
    """Names and values in the source of a parameters cell, all of which assigns literals."""
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in ast.parse(cell).body}


def durable_path(target: Path) -> Path:
    """The target's place in the study's folder: a step in a pod makes a copy elsewhere, which goes with the pod."""
    parts = target.parts
    return Path(*parts[parts.index("reports") :]) if parts[:2] == (".snakemake", "storage") else target


def first_line(message: object) -> str:
    """The first line of a message that says something."""
    return next((line.strip() for line in str(message).splitlines() if line.strip("- \n")), "no message")


def execute(source: Path, made: Path, parameters: str) -> str | None:
    """Run a notebook in a fresh kernel; its copy takes its place when it is complete. Returns a line where it fails."""
    import papermill
    from traitlets.config import Config

    partial = durable_path(made).with_suffix(".partial.ipynb")
    for path in (made, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    options = {"kernel_name": "python3", "progress_bar": False, "store_widget_state": False}
    options["config"] = Config({"KernelManager": {"transport_encryption": "auto"}})
    # The kernel's own log has an error on some normal shutdowns; the client reports a kernel that dies.
    options["extra_arguments"] = ["--IPKernelApp.log_level=CRITICAL"]
    try:
        papermill.execute_notebook(source, partial, parameters=json.loads(parameters), **options)
        write_atomic(made, partial.read_bytes())
    except Exception as error:
        return f"{source}, {failure(error, partial)} · see {partial}"
    partial.unlink()


def failure(error: Exception, partial: Path) -> str:
    """In which cell what failed, or died."""
    died = "Kernel died" in str(error)
    if not died and not hasattr(error, "ename"):  # as on a full disk, which leaves half of `partial`
        return f"{type(error).__name__}: {first_line(error)}"
    cells = json.loads(partial.read_text(encoding="utf-8"))["cells"]
    begun = [cell["id"] for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    what = f"its kernel {KILLED}" if died else f"{error.ename}: {first_line(error.evalue)}"
    return f"cell {begun[-1]}: {what}" if begun else f"at its start: {what}"


def write_duration(target: Path, seconds: float) -> None:
    """Keep seconds, CPU seconds and peak memory (MiB) of this step and its children beside `reports/NAME/…`."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu, memory = sum(each.ru_utime + each.ru_stime for each in used), max(each.ru_maxrss for each in used) / 1024
    name = "train-" * (target.parent.name == "runs") + target.stem
    text = f"s\tcpu_time\tmax_rss\n{seconds:.2f}\t{cpu:.2f}\t{memory:.1f}\n"
    write_atomic(Path(*target.parts[:2], "durations", f"{name}.tsv"), text)


def main() -> int:
    """Run a notebook, or the `main` of a module as a command: the target below `reports/NAME`, which, and how."""
    start, (made, work, *sys.argv[1:]) = time.monotonic(), sys.argv[1:]
    target = durable_path(Path(made))
    place = target.with_name(f"{target.name}.failed")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"FAILED {target}: {KILLED}\n", encoding="utf-8")
        if work.endswith(".ipynb"):
            why = execute(Path(work), Path(made), sys.argv[1])
        else:
            status = import_module(work).main()
            why = status and f"{target}: exit status {status}, for the reason that is printed above"
        if not why:
            write_duration(target, time.monotonic() - start)
            place.unlink()
            return 0
    except BaseException as error:
        why = f"{target}: {type(error).__name__}: {first_line(error)}"
        if not isinstance(error, OSError | MemoryError):
            traceback.print_exc()
    # A full disk must not hide that it is full: stderr is a file, too; the line stays within the block that it has.
    with contextlib.suppress(OSError), place.open("r+", encoding="utf-8") as stream:
        stream.write(f"FAILED {why}"[:1000] + "\n")
        stream.truncate()
    with contextlib.suppress(OSError):
        print(f"FAILED {why}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
