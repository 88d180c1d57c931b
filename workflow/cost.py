"""Where the CPU time of a study went, from what its steps saved: python -m workflow.cost reports/synthetic"""

import json
import re
import sys
from pathlib import Path

import pandas as pd

from workflow.engine import SECONDS

KINDS = {"data": "data", "train-": "arithmetic", "index": "rendering", "": "arithmetic and figures"}
"""What a step does besides importing, by how its name begins."""


def imports_share(executed: Path) -> float:
    """Which part of a notebook's time its cells of imports took, as papermill has noted."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    begun = [cell for cell in notebook["cells"] if re.match(r"(%.*\n)*(import|from) ", "".join(cell["source"]))]
    seconds = sum(cell["metadata"]["papermill"]["duration"] or 0.0 for cell in begun)
    return seconds / notebook["metadata"]["papermill"]["duration"]


def main() -> int:
    """Print the CPU seconds of every step: its own imports, a notebook's included, and the rest by its kind."""
    report, rows = Path(sys.argv[1]), {}
    for path in sorted((report / "durations").glob("*.tsv")):
        took = pd.read_csv(path, sep="\t").iloc[-1]
        executed, imports = report / "notebooks" / f"{path.stem}.ipynb", took["imports"]
        if executed.exists():
            imports += imports_share(executed) * (took["cpu_time"] - imports)
        kind = next(kind for begins, kind in KINDS.items() if path.stem.startswith(begins))
        rows[path.stem] = {"import": imports, kind: took["cpu_time"] - imports}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.loc["sum"] = table.sum()
    print(table.assign(all=table.sum(axis="columns")).to_string(float_format="%.1f", na_rep=""))
    print("the workflow itself, in its last run:", SECONDS.read_text().strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
