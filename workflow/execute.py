"""Run one notebook with papermill; the executed copy takes its place only when it is complete.

python -m workflow.execute notebooks/01_data.ipynb reports/synthetic/notebooks/01_data.ipynb '{"seed": 1}'
"""

import ast
import json
import re
import sys
from pathlib import Path

from lib.storage import write_atomic
from workflow.step import KILLED, durable_path, first_line, report_failure


def notebooks_in(folder: Path) -> list[Path]:
    """The study's notebooks in order, without JupyterLab's copies and those that were executed in part."""
    return sorted(path for path in folder.glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", path.stem))


def default_parameters(cell: str) -> dict[str, object]:
    """Names and values in the source of a parameters cell, all of which assigns literals."""
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in ast.parse(cell).body}


def failure(error: Exception, partial: Path) -> str:
    """One line: in which cell what failed, or died."""
    died = "Kernel died" in str(error)
    if not died and not hasattr(error, "ename"):  # as on a full disk, which leaves half of `partial`
        return f"{type(error).__name__}: {first_line(error)}"
    cells = json.loads(partial.read_text(encoding="utf-8"))["cells"] if partial.exists() else []
    begun = [cell["id"] for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    where = f"cell {begun[-1]}" if begun else "at its start"
    if died:
        return f"{where}: its kernel {KILLED}"
    return f"{where} (In [{error.exec_count}]): {error.ename}: {first_line(error.evalue)}"


def main() -> int:
    """Execute the notebook in a fresh kernel; exit status 0 when it is complete, else `partial` is left for reading."""
    import papermill
    from traitlets.config import Config

    source, target = map(Path, sys.argv[1:3])
    partial = durable_path(target).with_suffix(".partial.ipynb")
    for path in (target, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    options = {"kernel_name": "python3", "progress_bar": False, "store_widget_state": False}
    options["config"] = Config({"KernelManager": {"transport_encryption": "auto"}})
    # The kernel's own log has an error on some normal shutdowns; the client reports a kernel that dies.
    options["extra_arguments"] = ["--IPKernelApp.log_level=CRITICAL"]
    try:
        papermill.execute_notebook(source, partial, parameters=json.loads(sys.argv[3]), **options)
        write_atomic(target, partial.read_bytes())
    except Exception as error:
        report_failure(f"FAILED {source}, {failure(error, partial)} · see {partial}")
        return 1
    partial.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
