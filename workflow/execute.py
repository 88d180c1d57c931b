"""Run one notebook with papermill; the executed copy is renamed into place only when it is complete.

python -m workflow.execute notebooks/01_data.ipynb reports/synthetic/notebooks/01_data.ipynb '{"seed": 1}'
"""

import ast
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from workflow.step import KILLED, durable_path, first_line, report_failure


def default_parameters(cell: str) -> dict[str, object]:
    """Names and values in the source of a parameters cell. Raises ValueError unless all of it assigns literals."""
    defaults = {}
    for statement in ast.parse(cell).body:
        try:
            (name,), value = [target.id for target in statement.targets], ast.literal_eval(statement.value)
        except (AttributeError, ValueError) as error:
            raise ValueError(f"parameters are assigned literals, not {ast.unparse(statement)!r}") from error
        defaults[name] = value
    return defaults


def check_parameters(given: Mapping[str, object], defaults: Mapping[str, object]) -> None:
    """Raise ValueError for a parameter that the notebook does not have, or whose kind differs from its default."""
    if unknown := sorted(given.keys() - defaults.keys()):
        raise ValueError(f"unknown parameter {', '.join(unknown)}; known: {', '.join(defaults)}")
    for name, value in given.items():
        kinds = type(value), type(defaults[name])
        same = len(set(kinds)) == 1 or kinds in ((int, float), (list, tuple)) or type(None) in kinds
        if not same:
            raise ValueError(f"parameter {name} must be like {defaults[name]!r}, not {value!r}")


def run_notebook(source: Path, partial: Path, parameters: Mapping[str, object]) -> None:
    """Execute the notebook in a fresh kernel; what was executed until a cell fails stays in `partial`."""
    import papermill
    from traitlets.config import Config

    papermill.execute_notebook(
        source,
        partial,
        parameters=dict(parameters),
        kernel_name="python3",
        progress_bar=False,
        store_widget_state=False,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        # The kernel's own log has an error on some normal shutdowns; the client reports a kernel that dies.
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
    )


def failure(error: Exception, partial: Path) -> str:
    """One line: which cell failed, with what."""
    died = "Kernel died" in str(error)
    if not died and not hasattr(error, "ename"):
        return f"{type(error).__name__}: {first_line(error)}"
    cells = json.loads(partial.read_text(encoding="utf-8"))["cells"] if partial.exists() else []
    if died:
        begun = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
        where = f"cell {begun[-1]['id']} ({len(begun)} of {len(cells)})" if begun else "at its start"
        return f"{where}: its kernel {KILLED}"
    failed = [cell for cell in cells if any(out["output_type"] == "error" for out in cell.get("outputs", []))]
    return f"cell {failed[-1]['id']} (In [{error.exec_count}]): {error.ename}: {first_line(error.evalue)}"


def main() -> int:
    """Exit status 0 when the notebook is complete."""
    source, target = map(Path, sys.argv[1:3])
    partial = durable_path(target).with_suffix(".partial.ipynb")
    for path in (target, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    try:
        run_notebook(source, partial, json.loads(sys.argv[3]))
    except Exception as error:
        report_failure(f"FAILED {source}, {failure(error, partial)} · see {partial}")
        return 1
    shutil.move(partial, target)  # a rename, unless the target is a pod's copy
    return 0


if __name__ == "__main__":
    sys.exit(main())
