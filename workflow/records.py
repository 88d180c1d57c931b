"""Files of a report to make anew: damaged ones, and those of which Snakemake does not know with which parameters.

python -m workflow.records reports/synthetic     (prints them; a damaged record is deleted)
"""

import json
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

RECORDS = Path(".snakemake/metadata")
OUTPUTS = ("data.json", "runs/*.json", "notebooks/??_*.ipynb", "*.html")
LONGEST_NAME = 254
"""Snakemake cuts longer names of records into folders."""


def record_of(output: Path | str, records: Path = RECORDS) -> Path:
    """Where Snakemake keeps what it knows of an output, whose path is the one in the workflow."""
    name = urlsafe_b64encode(str(output).encode()).decode()
    parts = [name[start : start + LONGEST_NAME] for start in range(0, len(name), LONGEST_NAME)]
    return records.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def readable(record: Path) -> bool:
    """Whether the record is there and whole; one that is not is deleted, because Snakemake may stumble over it."""
    try:
        return bool(json.loads(record.read_bytes()))
    except FileNotFoundError:
        return False
    except ValueError:
        record.unlink()
        return False


def whole(output: Path) -> bool:
    """Whether the output, a page or JSON, does not end in the middle."""
    content = output.read_bytes()
    if output.suffix == ".html":
        return content.rstrip().endswith(b"</html>")
    try:
        return bool(json.loads(content))
    except ValueError:
        return False


def unknown(report: Path, records: Path = RECORDS) -> list[Path]:
    """The report's files that are damaged or have no readable record."""
    made = sorted(path for pattern in OUTPUTS for path in report.glob(pattern) if ".partial." not in path.name)
    return [path for path in made if not (readable(record_of(path, records)) and whole(path))]


if __name__ == "__main__":
    print(*unknown(Path(sys.argv[1])), sep="\n")
