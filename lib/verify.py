"""Whether a report made anew says the same as the published one: rows of tables, claims and figures.

python -m lib.verify reports/synthetic reports/synthetic-verify

What shows times or memory is left out. With the same processor, threads and packages the two must be equal byte for
byte; elsewhere rounding differs, trainings amplify it, and rows are compared within a tolerance: `TOLERANCE` for the
scores and whatever else notebooks save, `UNSTABLE` times as much for ill-conditioned numbers.
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from lib.presentation.report import KEYS

SAME = ("processor", "processor_model", "instructions", "threads", "python")
"""What two runs share, beside their packages, when their results have to be the same bits."""
TOLERANCE = 0.02
"""Three customers of the quick study's 156 on the other side of a threshold. Seen between 1 and 2 threads, and between
AVX-512 and SSE instructions, on the quick study: 0.009 at most (what a memory adds, 06), 0.0004 among scores (08)."""
UNSTABLE = 25
"""For what hangs on single short trainings of a memory, or explodes: elsewhere such rows can hardly be compared. Seen
between 1 and 2 threads: 0.44 with the regulariser and 0.16 in sorting (03, default study), 0.09 in its task (08),
0.10 where a memory reads (03, quick); between instructions 0.10 in errors of features that explode (02)."""


def tables(study: Path) -> list[Path]:
    """Files of rows that do not depend on the machine."""
    return sorted(path for path in (study / "tables").glob("*.csv") if not path.stem.endswith("_machine"))


def compared_files(study: Path) -> dict[str, bytes]:
    """Tables, claims and figures that do not depend on the machine: name to content."""
    claims = [path for path in (study / "claims").glob("*.json") if not path.stem.endswith("_machine")]
    facts = [path for path in (study / "figures").glob("*.json") if not json.loads(path.read_text("utf-8"))["machine"]]
    figures = [path.with_suffix(".svg") for path in facts]
    paths = sorted([*tables(study), *claims, *facts, *figures])
    return {str(path.relative_to(study)): path.read_bytes() for path in paths}


def rows_of(study: Path) -> pd.DataFrame:
    """All rows that do not depend on the machine, keys as text. Raises FileNotFoundError when there are none."""
    if not tables(study):
        raise FileNotFoundError(f"{study} holds no tables")
    kinds = dict.fromkeys(KEYS, "str") | {"value": "float64"}
    return pd.concat([pd.read_csv(path, dtype=kinds, keep_default_na=False) for path in tables(study)])


def differing_rows(published: pd.DataFrame, again: pd.DataFrame, tolerance: float) -> list[str]:
    """A line for every row that only one of the two has, or whose values are further apart than the tolerance.

    The tolerance is relative for values above one in size and absolute below: scores are shares, errors are ratios. It
    is `UNSTABLE` times as much where numbers are ill-conditioned.
    """
    both = published.merge(again, on=KEYS, how="outer", suffixes=("", "_again"), validate="1:1", indicator=True)
    apart = (both["value"] - both["value_again"]).abs() / both[["value", "value_again"]].abs().max(axis=1).clip(lower=1)
    unstable = both["experiment"].isin(["02_kernel_error", "03_continuous_memory"]) | (both["task"] == "memory")
    allowed = tolerance * unstable.map({True: UNSTABLE, False: 1})
    lines = []
    for row, distance, most in zip(both.to_dict("records"), apart, allowed, strict=True):
        key = " ".join(str(row[name]) for name in KEYS)
        if row["_merge"] != "both":
            lines.append(f"{key}: only in the {'published' if row['_merge'] == 'left_only' else 'new'} report")
        elif not distance <= most:
            lines.append(f"{key}: {row['value']} was published, {row['value_again']} came out")
    return lines


def differences(published: Path, again: Path, tolerance: float | None) -> list[str]:
    """A line for everything in which the new report differs from the published one.

    Without a tolerance rows must be equal, and every claim and figure must have the same bytes. Figures that were not
    published beside their pages are not compared.
    """
    lines = differing_rows(rows_of(published), rows_of(again), tolerance or 0.0)
    if tolerance is None:
        old, new = (compared_files(study) for study in (published, again))
        names = old.keys() | {name for name in new if not name.startswith("figures/")}
        lines += [f"{name}: other bytes" for name in sorted(names) if old.get(name) != new.get(name)]
    return lines


def same_machine(one: dict, other: dict) -> bool:
    """Whether two records of provenance promise equal bits; packages that only one of them has decide nothing."""
    packages, others = one["versions"], other["versions"]
    equal = all(packages[name] == others[name] for name in packages.keys() & others.keys())
    return equal and all(one.get(name) == other.get(name) for name in SAME)


def main() -> int:
    """Compare two reports: exit status 0 when they say the same, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m lib.verify", description=main.__doc__)
    parser.add_argument("published", type=Path)
    parser.add_argument("again", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="elsewhere (default %(default)s)")
    options = parser.parse_args()
    studies = (options.published, options.again)
    records = [json.loads((study / "provenance.json").read_text("utf-8")) for study in studies]
    exact = same_machine(*records)
    lines = differences(*studies, None if exact else options.tolerance)
    for line in lines:
        print(line)
    how = "byte for byte" if exact else f"within {options.tolerance}"
    print(f"{options.published}: {len(lines) or 'no'} differences among {len(rows_of(options.published))} rows, {how}")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
