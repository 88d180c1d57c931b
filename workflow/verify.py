"""Whether a report made again says the same as the published one: rows of tables, claims and figures.

python -m workflow.verify reports/synthetic reports/synthetic-verify

What shows times or memory is left out. With the same processor, threads and packages the two must be equal byte for
byte; elsewhere rounding differs and trainings amplify it: rows then agree within the tolerances of verify.yaml.
"""

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from study.report import KEYS

SAME = ("processor", "processor_model", "instructions", "threads", "python")
"""What two runs share, beside their packages, when their results have to be the same bits."""
RULES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
LEFT_OUT, TOLERANCES = RULES["left_out"], RULES["tolerances"]


def tables(study: Path) -> list[Path]:
    """Files of rows that do not depend on the machine."""
    return sorted(path for path in (study / "tables").glob("*.csv") if not path.stem.endswith("_machine"))


def compared_files(study: Path) -> dict[str, bytes]:
    """Tables, claims and figures that do not depend on the machine: name to content."""
    claims = [path for path in (study / "claims").glob("*.json") if not path.stem.endswith("_machine")]
    facts = [path for path in (study / "figures").glob("*.json") if not json.loads(path.read_text("utf-8"))["machine"]]
    paths = sorted([*tables(study), *claims, *facts, *(path.with_suffix(".svg") for path in facts)])
    return {str(path.relative_to(study)): path.read_bytes() for path in paths}


def rows_of(study: Path) -> pd.DataFrame:
    """All rows that do not depend on the machine, keys as text. Raises FileNotFoundError when there are none."""
    if not tables(study):
        raise FileNotFoundError(f"{study} holds no tables")
    kinds = dict.fromkeys(KEYS, "str") | {"value": "float64"}
    return pd.concat([pd.read_csv(path, dtype=kinds, keep_default_na=False) for path in tables(study)])


def fitting(patterns: dict, key: str) -> object:
    """What the first pattern that fits a row's keys stands for; None where none does."""
    return next((found for pattern, found in patterns.items() if fnmatchcase(key, pattern)), None)


def differing_rows(published: pd.DataFrame, again: pd.DataFrame, exact: bool) -> list[str]:
    """A line for every row that only one of the two has, or whose values are further apart than allowed."""
    both = published.merge(again, on=KEYS, how="outer", suffixes=("", "_again"), validate="1:1", indicator=True)
    lines = []
    for row in both.to_dict("records"):
        key, old, new = " ".join(row[name] for name in KEYS), row["value"], row["value_again"]
        allowed = (0.0, 0.0) if exact else fitting(TOLERANCES, key)
        if row["_merge"] != "both":
            lines.append(f"{key}: only in the {'published' if row['_merge'] == 'left_only' else 'new'} report")
        elif (exact or not fitting(LEFT_OUT, key)) and not np.isclose(new, old, *allowed):
            lines.append(f"{key}: {old} was published, {new} came out")
    return lines


def differences(published: Path, again: Path, exact: bool) -> list[str]:
    """A line for every row that differs and, where it has to be exact, for every claim and figure of other bytes."""
    lines = differing_rows(rows_of(published), rows_of(again), exact)
    if exact:
        old, new = (compared_files(study) for study in (published, again))
        names = old.keys() | {name for name in new if not name.startswith("figures/")}  # pages may be published alone
        lines += [f"{name}: other bytes" for name in sorted(names) if old.get(name) != new.get(name)]
    return lines


def same_machine(one: dict, other: dict) -> bool:
    """Whether two records of provenance promise equal bits; packages that only one of them has decide nothing."""
    shared = one["versions"].keys() & other["versions"].keys()
    equal = all(one["versions"][name] == other["versions"][name] for name in shared)
    return equal and all(one.get(name) == other.get(name) for name in SAME)


def main() -> int:
    """Compare two reports: exit status 0 when they say the same, 1 otherwise."""
    studies = [Path(name) for name in sys.argv[1:]]
    exact = same_machine(*(json.loads((study / "provenance.json").read_text("utf-8")) for study in studies))
    lines, keys = differences(*studies, exact), rows_of(studies[0])[KEYS].agg(" ".join, axis=1)
    left = [] if exact else [*filter(None, (fitting(LEFT_OUT, key) for key in keys))]
    how = "byte for byte" if exact else "each within its tolerance"
    apart = f"; {len(left)} rows not compared: {', '.join(dict.fromkeys(left))}" if left else ""
    last = f"{studies[0]}: {len(lines) or 'no'} differences among {len(keys) - len(left)} rows, {how}{apart}"
    print(*lines, last, sep="\n")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
