"""What to take at a length, a batch and a memory limit, from what was measured."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.report import MODEL_STYLE

NONE, NOT_MEASURED = "none fits", "not measured here"
CASE = ["direction", "length", "batch"]


def choices(rows: pd.DataFrame, limits_mib: Sequence[int | float]) -> pd.DataFrame:
    """For each direction, length, batch and memory limit the fastest mechanism, with all that its spread overlaps.

    Also given: its time and memory, and how many times faster than the fused softmax it is; what was not measured is
    missing. The explicit softmax is no candidate: the fused one gives the same numbers.
    """
    pick = {"time_ms": "median", "time_ms_low": "min", "time_ms_high": "max", "peak_memory_mib": "median"}
    keys = [*CASE, "mechanism"]
    parts = {name: rows[rows["metric"] == name].groupby(keys)["value"].agg(how) for name, how in pick.items()}
    table = pd.concat(parts, axis=1).reset_index("mechanism").dropna(subset="time_ms")
    found = []
    for case in rows[CASE].drop_duplicates().sort_values(CASE).itertuples(index=False, name=None):
        part = table[table.index == case]
        candidates = part.set_index("mechanism")
        softmax = candidates["time_ms"].get("softmax", np.nan)
        candidates = candidates.drop(index="explicit_softmax", errors="ignore")
        for limit in limits_mib:
            fitting = candidates[candidates["peak_memory_mib"] <= limit]
            if fitting.empty:
                found.append((*case, limit, NOT_MEASURED if part.empty else NONE, np.nan, np.nan, np.nan))
                continue
            best = fitting.loc[fitting["time_ms"].idxmin()]
            tied = fitting[fitting["time_ms_low"] <= best["time_ms_high"]].sort_values("time_ms")
            cost = best[["time_ms", "peak_memory_mib"]]
            found.append((*case, limit, " or ".join(tied.index), *cost, softmax / best["time_ms"]))
    names = [*CASE, "limit_mib", "take", "time_ms", "peak_memory_mib", "times_faster_than_softmax"]
    return pd.DataFrame(found, columns=names)


def choice_table(found: pd.DataFrame) -> pd.DataFrame:
    """The choices with a column per memory limit."""
    label = {model: style["label"] for model, style in MODEL_STYLE.items()}
    named = [" or ".join(label.get(model, model) for model in take.split(" or ")) for take in found["take"]]
    limits = [f"within {limit:,g} MiB" for limit in found["limit_mib"]]
    table = found.assign(take=named, limit=limits).pivot(index=CASE, columns="limit", values="take")
    return table[list(dict.fromkeys(limits))]


def choice_rows(found: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The choices in the study's one table shape: how much faster than the fused softmax what to take is."""
    known = found.dropna(subset="times_faster_than_softmax")
    return pd.DataFrame(
        {
            "experiment": experiment,
            "task": "batch_" + known["batch"].astype(str),
            "model": known["take"],
            "seed": "-",
            "split": known["direction"],
            "axis": [f"within_{limit:g}_mib" for limit in known["limit_mib"]],
            "x": known["length"],
            "metric": "times_faster_than_softmax",
            "value": known["times_faster_than_softmax"],
        }
    )
