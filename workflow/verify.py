"""Whether a report made again says the same as the published one: rows of tables, claims and figures.

python -m workflow.verify reports/synthetic reports/synthetic-verify

What shows times or memory is left out. With the same processor, threads and packages the two must be equal byte for
byte; elsewhere rounding differs and trainings amplify it: rows then agree within the tolerances of verify.yaml.
"""

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import yaml

from study.report import KEYS

TOLERANCES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def compared_files(study: Path) -> dict[str, bytes]:
    """Tables, claims and figures that do not depend on the machine: name to content."""
    paths = [path for kind in ("tables/*.csv", "claims/*.json") for path in study.glob(kind)]
    paths = [path for path in paths if not path.stem.endswith("_machine")]
    facts = [path for path in study.glob("figures/*.json") if not json.loads(path.read_text("utf-8"))["machine"]]
    paths = sorted([*paths, *facts, *(path.with_suffix(".svg") for path in facts)])
    return {str(path.relative_to(study)): path.read_bytes() for path in paths}


def rows_of(study: Path) -> pd.DataFrame:
    """All rows that do not depend on the machine, keys as text."""
    kinds = dict.fromkeys(KEYS, "str") | {"value": "float64"}
    tables = [study / name for name in compared_files(study) if name.startswith("tables")]
    return pd.concat([pd.read_csv(path, dtype=kinds, keep_default_na=False) for path in tables])


def tolerance(key: str) -> list[float]:
    """How far apart a row's values may be, in parts of the value and beside that: by the first pattern that fits."""
    return next(allowed for pattern, allowed in TOLERANCES.items() if fnmatchcase(key, pattern))


def differing_rows(published: pd.DataFrame, again: pd.DataFrame, exact: bool) -> list[str]:
    """A line for every row that only one of the two has, or whose values are further apart than allowed."""
    both = published.merge(again, on=KEYS, how="outer", suffixes=("", "_again"), validate="1:1", indicator=True)
    lines = []
    for row in both.to_dict("records"):
        key, old, new = " ".join(row[name] for name in KEYS), row["value"], row["value_again"]
        relative, absolute = [0.0, 0.0] if exact else tolerance(key)
        if row["_merge"] != "both":
            lines.append(f"{key}: only in the {'published' if row['_merge'] == 'left_only' else 'new'} report")
        elif not abs(new - old) <= relative * abs(old) + absolute:
            lines.append(f"{key}: {old} was published, {new} came out")
    return lines


def differences(published: Path, again: Path, exact: bool) -> list[str]:
    """A line for every row that differs and, where it has to be exact, for every claim and figure of other bytes."""
    lines = differing_rows(rows_of(published), rows_of(again), exact)
    old, new = (compared_files(study) for study in (published, again))
    return lines + [f"{name}: other bytes" for name in old if exact and old[name] != new.get(name)]


def same_machine(one: dict, other: dict) -> bool:
    """Whether two records of provenance promise equal bits; packages that only one of them has decide nothing."""
    names = one["versions"].keys() & other["versions"].keys()
    versions = all(one["versions"][name] == other["versions"][name] for name in names)
    same = ("processor", "processor_model", "instructions", "threads", "python")
    return versions and all(one.get(name) == other.get(name) for name in same)


def main() -> int:
    """Compare two reports: exit status 0 when they say the same, 1 otherwise."""
    published, again = map(Path, sys.argv[1:])
    exact = same_machine(*(json.loads((study / "provenance.json").read_text("utf-8")) for study in (published, again)))
    lines, keys = differences(published, again, exact), rows_of(published)[KEYS].agg(" ".join, axis=1)
    free = 0 if exact else sum(float("inf") in tolerance(key) for key in keys)
    how = "byte for byte" if exact else f"each within its tolerance; {free} rows only have to be there"
    print(*lines, f"{published}: {len(lines) or 'no'} differences among {len(keys) - free} rows, {how}", sep="\n")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
