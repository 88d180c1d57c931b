"""Run one notebook with papermill: parameters checked first, the result renamed into place only when it is complete.

python -m workflow.execute notebooks/01_data.ipynb reports/synthetic/notebooks/01_data.ipynb -p seed 1
"""

import argparse
import ast
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from traitlets.config import Config

from workflow.step import KILLED, first_line, lasting, tell

KERNEL = "python3"
HEARTBEAT_SECONDS = 20
# One thread for each notebook makes results repeatable and lets two notebooks share two cores; a progress bar would
# leave one output for every refresh in the notebook; the environment's own kernel must win over the user's; the
# framework's profiler would report that it starts and stops.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "JUPYTER_PREFER_ENV_PATH": "1", "KINETO_LOG_LEVEL": "99"}


def default_parameters(notebook: nbformat.NotebookNode) -> dict[str, object]:
    """Names and default values of the cell tagged `parameters`, in its order.

    Raises ValueError when there is not exactly one such cell or when it holds anything but literal assignments.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"one cell must be tagged `parameters`, found {len(cells)}")
    defaults = {}
    for statement in ast.parse(cells[0].source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                try:
                    defaults[name] = ast.literal_eval(statement.value)
                except ValueError as error:
                    raise ValueError(f"parameter {name} is not a literal") from error
            case _:
                raise ValueError(f"the parameters cell may only assign literals, not {ast.unparse(statement)!r}")
    return defaults


def check_parameters(given: Mapping[str, object], defaults: Mapping[str, object]) -> None:
    """Raise ValueError for a parameter that the notebook does not have, or whose kind differs from its default."""
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(f"unknown parameter {', '.join(unknown)}; known: {', '.join(defaults)}")
    for name, value in given.items():
        default = defaults[name]
        numbers = isinstance(default, float) and type(value) is int
        sequences = isinstance(default, list | tuple) and isinstance(value, list | tuple)
        if not (default is None or value is None or type(value) is type(default) or numbers or sequences):
            raise ValueError(f"parameter {name} must be {type(default).__name__}, like {default!r}, not {value!r}")


@contextmanager
def heartbeat(name: str, current: Mapping[str, str]) -> Iterator[None]:
    """Print which cell is running every now and then, so that a long training does not look like a hang."""
    done, start = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            print(f"{name}: {current.get('cell', 'starting')}, {time.monotonic() - start:.0f} s", flush=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_notebook(source: Path, target: Path, parameters: Mapping[str, object]) -> None:
    """Execute the notebook in a fresh kernel and write the executed copy to `target`.

    Raises ValueError before anything runs for parameters that do not fit, and papermill's or nbclient's error when a
    cell fails; what was executed until then stays beside the target as `*.partial.ipynb`.
    """
    notebook = nbformat.read(source, as_version=4)
    check_parameters(parameters, default_parameters(notebook))
    partial = partial_of(target)
    for path in (target, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    current: dict[str, str] = {}

    def starts(cell: nbformat.NotebookNode, cell_index: int) -> None:
        current["cell"] = f"cell {cell_index + 1} of {len(notebook.cells) + bool(parameters)} ({cell.get('id')})"

    try:
        with heartbeat(source.stem, current):
            papermill.execute_notebook(
                source,
                partial,
                parameters=dict(parameters),
                kernel_name=KERNEL,
                progress_bar=False,
                store_widget_state=False,
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
                # The kernel's own log has an error on some normal shutdowns; the client reports a kernel that dies.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                on_cell_start=starts,
            )
    except RuntimeError as error:
        if "Kernel died" not in str(error):
            raise
        raise DeadKernelError(f"{current.get('cell', 'at its start')}: its kernel {KILLED}") from error
    shutil.move(partial, target)  # a rename, unless the target is a pod's copy


def partial_of(target: Path) -> Path:
    """Where the notebook is written until it is complete."""
    return lasting(target).with_suffix(".partial.ipynb")


def failure(error: Exception, partial: Path) -> str:
    """One line: which cell failed, with what."""
    if isinstance(error, DeadKernelError):
        return str(error)
    if not isinstance(error, papermill.PapermillExecutionError):
        return f"{type(error).__name__}: {first_line(error)}"
    cells = nbformat.read(partial, as_version=4).cells
    failed = [cell for cell in cells if any(out.output_type == "error" for out in cell.get("outputs", []))]
    name = failed[-1].get("id", "unnamed") if failed else "unnamed"
    return f"cell {name} (In [{error.exec_count}]): {error.ename}: {first_line(error.evalue)}"


def literal(text: str) -> object:
    """A value from the command line: JSON where it parses, otherwise the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def json_object(text: str) -> dict[str, object]:
    """Parameters from a JSON file's name or from JSON itself. Raises ValueError unless it is one object."""
    value = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"parameters must be a JSON object, not {value!r}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when the notebook is complete, 1 when a cell failed, 2 when not started, 130 on interrupt."""
    parser = argparse.ArgumentParser(prog="python -m workflow.execute", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="notebook to run")
    parser.add_argument("target", type=Path, help="executed copy")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--parameters", default="{}", metavar="JSON", help="a JSON object, or a file that holds one")
    options = parser.parse_args(arguments)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    name, start = options.source.stem, time.monotonic()
    try:
        parameters = json_object(options.parameters) | {name: literal(value) for name, value in options.parameter}
        check_parameters(parameters, default_parameters(nbformat.read(options.source, as_version=4)))
    except (OSError, ValueError) as error:
        print(f"NOT STARTED {options.source}: {first_line(error)}", file=sys.stderr)
        return 2
    print(f"{name}: started", flush=True)
    partial = partial_of(options.target)
    try:
        run_notebook(options.source, options.target, parameters)
    except KeyboardInterrupt:
        print(f"INTERRUPTED {options.source} · see {partial}", file=sys.stderr)
        return 130
    except Exception as error:
        tell(f"FAILED {options.source}, {failure(error, partial)} · see {partial}")
        return 1
    print(f"{name}: done in {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
