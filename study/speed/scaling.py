"""What sweeps over length say: growth exponents, cross-over lengths, and the source study's claims."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from lib.paths import FACTS
from study.report import COLUMNS

# From the steepest growth to the flattest: of a pair, the later is the one expected to pay from some length on.
ORDER = ("explicit_softmax", "softmax", "performer", "infinite_former")
BASELINES = ("explicit_softmax", "softmax")
CONFIDENCE = 0.95
BETWEEN = 1.5  # of linear and quadratic growth
# The power of length with which the time of a long call should grow, and how far from it a fit may be.
POWERS = {"explicit_softmax": 2, "performer": 1, "infinite_former": 1}
POWER_MARGIN = 0.1
METRICS = ("peak_memory_mib", "time_ms")
REASONS = {  # by metric: the reason, its unit, and how many of it one of the metric's are
    "skipped_time": ("beyond its budget of time", "seconds", 1.0),
    "skipped_memory": ("beyond its budget of memory", "MiB", 2.0**-20),
}
CLAIMS = {
    "time_ms_exponent": "power of time",
    "peak_memory_mib_exponent": "power of memory",
    "crossover_length": "length from which faster",
    "time_ms_ratio": "times less time",
    "peak_memory_mib_ratio": "times less memory",
}


def result_rows(rows: pd.DataFrame, experiment: str, axis: str = "length") -> pd.DataFrame:
    """Measured rounds in the study's one table shape, along one of the settings.

    Times are medians over rounds; `time_ms_low` and `time_ms_high` are the lowest lower and the highest upper quartile
    of any round.
    """
    pick = {"time_ms_low": "min", "time_ms_high": "max"}
    keys = ["scope", "mechanism", "direction", axis, "metric"]
    parts = [part.groupby(keys)["value"].agg(pick.get(metric, "median")) for metric, part in rows.groupby("metric")]
    found = pd.concat(parts).reset_index()
    names = {"scope": "task", "mechanism": "model", "direction": "split", axis: "x"}
    return found.rename(columns=names).assign(experiment=experiment, seed="-", axis=axis)[COLUMNS]


def exponents(rows: pd.DataFrame, shortest: int) -> pd.DataFrame:
    """The power of length with which time and memory grow from `shortest` events on.

    Least squares on logarithms over all rounds and lengths; the interval is the slope's by Student's t, so it covers
    departures from a power law as well as noise. All three are missing where there are fewer than three points.
    """
    found = []
    for (model, split), calls in rows.groupby(["mechanism", "direction"], sort=False):
        for metric in METRICS:
            part = calls[(calls["metric"] == metric) & (calls["length"] >= shortest) & (calls["value"] > 0)]
            slope = margin = np.nan
            if len(part) > 2 and part["length"].min() < part["length"].max():
                fit = stats.linregress(np.log(part["length"]), np.log(part["value"]))
                slope, margin = fit.slope, stats.t.ppf((1 + CONFIDENCE) / 2, len(part) - 2) * fit.stderr
            found.append((model, split, metric, slope, slope - margin, slope + margin, len(part)))
    return pd.DataFrame(found, columns=["model", "split", "metric", "exponent", "low", "high", "points"])


def power(times: pd.Series) -> float:
    """The power of length with which the times, indexed by length, grow; missing with fewer than two of them."""
    known = times.dropna()
    return float(np.polyfit(np.log(known.index), np.log(known), 1)[0]) if len(known) > 1 else np.nan


def crossing(ratios: pd.Series) -> float:
    """The length beyond which the ratios, indexed by length, stay below one, interpolated between logarithms.

    Zero if they are below one at every length, infinity if not at the longest.
    """
    ratios = ratios.sort_index()
    above = np.flatnonzero(ratios.to_numpy() >= 1)
    if not len(above):
        return 0.0
    last = above[-1]
    if last == len(ratios) - 1:
        return np.inf
    heights, lengths = np.log(ratios.to_numpy()[last : last + 2]), np.log(ratios.index.to_numpy(float)[last : last + 2])
    return float(np.exp(np.interp(0, -heights, lengths)))


def crossovers(rows: pd.DataFrame) -> pd.DataFrame:
    """From which length on the second of each pair is faster, for inference and for training.

    Every round gives a cross-over of its own; the interval is Student's t for their mean logarithm, cut at the lengths
    measured (where it is open) and missing with a single round. `faster` says from which lengths on in words. All of
    them are missing where both were measured at fewer than two lengths.
    """
    found = []
    for split, part in rows.groupby("direction", sort=False):
        models, times = set(part["mechanism"]), part[part["metric"] == "time_ms"]
        table = times.pivot(index=["round", "length"], columns="mechanism", values="value").reindex(columns=ORDER)
        for first, second in combinations([model for model in ORDER if model in models], 2):
            ratios = (table[second] / table[first]).dropna()
            lengths = ratios.index.get_level_values("length")
            if lengths.nunique() < 2:
                found.append((first, second, split, np.nan, np.nan, np.nan, False, np.nan))
                continue
            shortest, longest = float(lengths.min()), float(lengths.max())
            middle = crossing(ratios.groupby("length").median())
            each = [crossing(one.droplevel("round")) for _, one in ratios.groupby("round")]
            low, high = log_interval(np.clip(each, shortest, longest), shortest, longest)
            words = {
                0.0: f"at all lengths from {shortest:,.0f} events on",
                np.inf: f"at no length up to {longest:,.0f} events",
            }
            said = words.get(middle, f"from {middle:,.0f} events on (95 % interval {low:,.0f} to {high:,.0f})")
            found.append((first, second, split, np.clip(middle, shortest, longest), low, high, middle < np.inf, said))
    names = ["against", "model", "split", "crossover_length", "low", "high", "pays", "faster"]
    return pd.DataFrame(found, columns=names)


def log_interval(values: np.ndarray, lowest: float, highest: float) -> tuple[float, float]:
    """Student's t interval of the geometric mean, cut at the given ends; the whole range for a single value."""
    if len(values) < 2:
        return float(lowest), float(highest)
    logs = np.log(values)
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    low, high = np.exp(logs.mean() + np.array([-margin, margin])).clip(lowest, highest)
    return float(low), float(high)


def analysis_rows(slopes: pd.DataFrame, crossings: pd.DataFrame, experiment: str, task: str) -> pd.DataFrame:
    """Exponents and cross-overs in the study's one table shape; `model` is the one that pays from the length on."""
    found = []
    for row in slopes.dropna().itertuples():
        for name, value in (("exponent", row.exponent), ("exponent_low", row.low), ("exponent_high", row.high)):
            found.append((row.model, row.split, "growth", f"{row.metric}_{name}", value))
    for row in crossings.dropna().itertuples():
        axis = f"against_{row.against}"
        bounds = (("crossover_length", row.crossover_length), ("crossover_low", row.low), ("crossover_high", row.high))
        for metric, value in (*bounds, ("pays", float(row.pays))):
            found.append((row.model, row.split, axis, metric, value))
    table = pd.DataFrame(found, columns=["model", "split", "axis", "metric", "value"])
    return table.assign(experiment=experiment, task=task, seed="-", x=np.nan)[COLUMNS]


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Whether the intervals of the cross-overs of two runs overlap, for every pair that both have measured."""
    keys = ["against", "model", "split"]
    first, second = (run[[*keys, "low", "high"]].dropna() for run in (first, second))
    table = first.merge(second, on=keys, validate="one_to_one")
    overlap = (table["low_x"] <= table["high_y"]) & (table["low_y"] <= table["high_x"])
    return table.assign(agree=overlap)


def skipped(rows: pd.DataFrame) -> pd.DataFrame:
    """What was not measured, with the reason and what it would have needed, in the unit of the reason."""
    found = rows[rows["metric"].isin(REASONS)].reset_index(drop=True)
    units = pd.DataFrame(found["metric"].map(REASONS).tolist(), columns=["reason", "unit", "scale"])
    needed = found["value"] * units["scale"]
    return found[["mechanism", "direction", "length"]].assign(needed=needed, unit=units["unit"])


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    """The line of the table whose columns have these values; all missing where there is none."""
    found = table[(table[list(where)] == pd.Series(where)).all(axis=1)]
    return found.iloc[0] if len(found) else pd.Series(np.nan, table.columns)


def source_study() -> pd.DataFrame:
    """The source study's curves (`axis` length, read off its figures) and claims (`axis` claim)."""
    return pd.read_csv(FACTS / "source_study_scaling.csv")


def source_claims(results: pd.DataFrame, slopes: pd.DataFrame, crossings: pd.DataFrame) -> pd.DataFrame:
    """Each claim of the source study against the explicit and the fused softmax, and whether it is reproduced.

    Linear or quadratic growth is reproduced if the exponent's whole interval is on that side of 1.5; a cross-over if it
    comes no later; a saving if it is at least as large. What was not measured here is missing.
    """
    claims = source_study().query("axis == 'claim'")
    found = []
    for baseline in BASELINES:
        for claim in claims.itertuples():
            model = baseline if claim.model == "softmax" else claim.model
            ours, holds = checked(claim.metric, claim.value, claim.x, model, baseline, results, slopes, crossings)
            found.append((baseline, model, CLAIMS[claim.metric], claim.x, claim.value, ours, holds))
    table = pd.DataFrame(found, columns=["against", "model", "claim", "length", "source_study", "here", "reproduced"])
    return table.assign(reproduced=table["reproduced"].astype("object").where(table["here"].notna(), np.nan))


def checked(
    metric: str,
    claimed: float,
    length: float,
    model: str,
    baseline: str,
    results: pd.DataFrame,
    slopes: pd.DataFrame,
    crossings: pd.DataFrame,
) -> tuple[float, bool]:
    """What was measured here for one claim, and whether it agrees; a missing value if it was not measured."""
    quantity, kind = metric.rsplit("_", 1)
    if kind == "exponent":
        found = slopes[(slopes["model"] == model) & (slopes["metric"] == quantity)]
        clear = found["low"] > BETWEEN if claimed > BETWEEN else found["high"] < BETWEEN
        return found["exponent"].mean(), bool(clear.any())
    if kind == "ratio":
        at = results[(results["x"] == length) & (results["metric"] == quantity)].set_index("model")["value"]
        saving = at.get(baseline, np.nan) / at.get(model, np.nan)
        return saving, bool(saving >= claimed)
    found = crossings[(crossings["model"] == model) & (crossings["against"] == baseline)]
    return found["crossover_length"].mean(), bool((found["pays"] & (found["crossover_length"] <= claimed)).any())
