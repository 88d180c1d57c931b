"""Where the CPU time of a study went, from what its steps saved.

python -m workflow.cost reports/synthetic
"""

import json
import re
import sys
from pathlib import Path

import pandas as pd

from workflow.progress import LOG

KINDS = {"data": "data", "train-": "arithmetic", "index": "rendering", "": "arithmetic and figures"}
"""What a step does besides importing, by how its name begins."""


def notebook_imports(executed: Path) -> float:
    """Seconds of the cells whose first line imports, which papermill has noted."""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    begun = [cell for cell in cells if re.match(r"(%.*\n)*(import|from) ", "".join(cell["source"]))]
    return sum(cell["metadata"].get("papermill", {}).get("duration") or 0.0 for cell in begun)


def cost(report: Path) -> pd.DataFrame:
    """CPU seconds of every step: its own imports (those of a notebook included), and the rest by its kind."""
    rows = []
    for path in sorted((report / "durations").glob("*.tsv")):
        took = pd.read_csv(path, sep="\t").iloc[-1]
        executed = report / "notebooks" / f"{path.stem}.ipynb"
        imports = took["imports"] + (notebook_imports(executed) if executed.exists() else 0.0)
        kind = next(kind for begins, kind in KINDS.items() if path.stem.startswith(begins))
        rows.append({"step": path.stem, "import": imports, kind: took["cpu_time"] - imports})
    return pd.DataFrame(rows).set_index("step")


def main() -> int:
    """Print the table, its sums, and what the workflow itself took."""
    table = cost(Path(sys.argv[1]))
    table.loc["sum"] = table.sum()
    table["all"] = table.sum(axis="columns")
    print(table.to_string(float_format="%.1f", na_rep=""))
    own = re.findall("^the workflow itself: .*$", LOG.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
    print(*own[-1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
