"""What the measured rows say: growth, cross-over lengths, and the source study's claims."""

from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.storage import FACTS, MEASUREMENTS
from study.report import COLUMNS
from study.speed.figures import CAUSAL, UNIFORM, order_of
from study.speed.measure import Configuration

BASELINES = ("explicit_softmax", "softmax")
CONFIDENCE = 0.95
BETWEEN, WIDEST = 1.5, 0.5  # a power between linear and quadratic, and the widest margin that tells them apart
# The power of length with which the time of a long call should grow, and how far from it a fit may be.
POWERS = {"explicit_softmax": 2, "performer": 1, "infinite_former": 1}
POWER_MARGIN = 0.1
CLAIMS = {
    "time_ms_exponent": "power of time",
    "peak_memory_mib_exponent": "power of memory",
    "crossover_length": "length from which faster",
    "time_ms_ratio": "times less time",
    "peak_memory_mib_ratio": "times less memory",
}


def result_rows(rows: pd.DataFrame, experiment: str, axis: str = "length") -> pd.DataFrame:
    """Measured rounds in the study's one table shape, along one of the settings; variants get names of their own.

    Medians over rounds; `time_ms_low` and `time_ms_high` are the lowest lower and the highest upper quartile of any.
    """
    suffix = np.where(rows["causal"], CAUSAL, np.where(rows["sampling"] == "uniform", UNIFORM, ""))
    rows = rows.assign(mechanism=rows["mechanism"] + suffix)
    pick = {"time_ms_low": "min", "time_ms_high": "max"}
    keys = ["scope", "mechanism", "direction", axis, "metric"]
    parts = [part.groupby(keys)["value"].agg(pick.get(metric, "median")) for metric, part in rows.groupby("metric")]
    names = {"scope": "task", "mechanism": "model", "direction": "split", axis: "x"}
    found = pd.concat(parts).reset_index().rename(columns=names)
    return found.assign(experiment=experiment, seed="-", axis=axis)[COLUMNS]


def exponents(rows: pd.DataFrame, shortest: int) -> pd.DataFrame:
    """The power of length with which time and memory grow from `shortest` events on.

    Least squares on logarithms over all rounds and lengths; the interval is Student's t. All are missing with fewer
    than three points, and where the interval is too wide to tell linear from quadratic growth.
    """
    found = []
    for (model, split), calls in rows.groupby(["mechanism", "direction"], sort=False):
        for metric in ("peak_memory_mib", "time_ms"):
            part = calls[(calls["metric"] == metric) & (calls["length"] >= shortest) & (calls["value"] > 0)]
            slope = margin = np.nan
            if len(part) > 2 and part["length"].min() < part["length"].max():
                fit = stats.linregress(np.log(part["length"]), np.log(part["value"]))
                slope, margin = fit.slope, stats.t.ppf((1 + CONFIDENCE) / 2, len(part) - 2) * fit.stderr
            slope = slope if margin < WIDEST else np.nan
            found.append((model, split, metric, slope, slope - margin, slope + margin))
    return pd.DataFrame(found, columns=["model", "split", "metric", "exponent", "low", "high"])


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
    around = np.log(ratios.iloc[last : last + 2])
    return float(np.exp(np.interp(0, -around, np.log(around.index))))


def crossovers(rows: pd.DataFrame) -> pd.DataFrame:
    """From which length on every `model` is faster than each softmax (`against`), by direction.

    Every round gives a cross-over of its own; the interval is Student's t for their mean logarithm, cut at the lengths
    measured (where it is open); `faster` says it in words. All are missing with fewer than two lengths.
    """
    found = []
    for split, part in rows.groupby("direction", sort=False):
        models, times = order_of(part["mechanism"]), part[part["metric"] == "time_ms"]
        table = times.pivot(index=["round", "length"], columns="mechanism", values="value").reindex(columns=models)
        for against, model in combinations(models, 2):
            if against not in BASELINES:
                continue
            ratios = (table[model] / table[against]).dropna()
            lengths = ratios.index.get_level_values("length")
            if lengths.nunique() < 2:
                found.append((against, model, split, np.nan, np.nan, np.nan, False, np.nan))
                continue
            shortest, longest = float(lengths.min()), float(lengths.max())
            middle = crossing(ratios.groupby("length").median())
            each = [crossing(one.droplevel("round")) for _, one in ratios.groupby("round")]
            low, high = log_interval(np.clip(each, shortest, longest), shortest, longest)
            faster = f"from {middle:,.0f} events on (95 % interval {low:,.0f} to {high:,.0f})"
            if middle == 0:
                faster = f"at all lengths from {shortest:,.0f} events on"
            elif middle == np.inf:
                faster = f"at no length up to {longest:,.0f} events"
            length = np.clip(middle, shortest, longest)
            found.append((against, model, split, length, low, high, middle < np.inf, faster))
    names = ["against", "model", "split", "crossover_length", "low", "high", "pays", "faster"]
    return pd.DataFrame(found, columns=names)


def log_interval(values: np.ndarray, lowest: float, highest: float) -> tuple[float, float]:
    """Student's t interval of the geometric mean, cut at the given ends; the whole range for a single value."""
    if len(values) < 2:
        return lowest, highest
    logs = np.log(values)
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * stats.sem(logs)
    low, high = np.exp(logs.mean() + np.array([-margin, margin])).clip(lowest, highest)
    return float(low), float(high)


def crossovers_by_hardware(rows: pd.DataFrame, layer: Configuration, folder: Path = MEASUREMENTS) -> pd.DataFrame:
    """In words, from which length on one is faster; a column for this and each kept machine that measured the layer."""
    machines = {path.parent.name: pd.read_csv(path) for path in sorted(folder.glob("*/layer.csv"))}
    settings = pd.Series(asdict(layer)).drop(["mechanism", "direction", "length", "device", "seed"])
    tables = []
    for machine, measured in ({"this machine": rows} | machines).items():
        same = measured[(measured[settings.index] == settings).all(axis=1)]
        tables.append(crossovers(same).assign(machine=machine))
    found = pd.concat(tables).rename(columns={"model": "mechanism", "against": "faster than", "split": "direction"})
    words = found.pivot(index=["mechanism", "faster than", "direction"], columns="machine", values="faster")
    return words.astype("object").fillna("not measured")


def crossing_rows(crossings: pd.DataFrame, experiment: str, task: str) -> pd.DataFrame:
    """Cross-overs in the study's one table shape; `model` is the one that is faster from the length on."""
    ends = {"low": "crossover_low", "high": "crossover_high"}
    rows = crossings.dropna().astype({"pays": float}).rename(columns=ends)
    rows = rows.melt(["model", "split", "against"], ["crossover_length", *ends.values(), "pays"], "metric", "value")
    rows["axis"] = "against_" + rows.pop("against")
    return rows.assign(experiment=experiment, task=task, seed="-", x=np.nan)[COLUMNS]


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    """The line of the table whose columns have these values; all missing where there is none."""
    found = table[(table[list(where)] == pd.Series(where)).all(axis=1)]
    return found.iloc[0] if len(found) else pd.Series(np.nan, table.columns)


def source_study() -> pd.DataFrame:
    """The source study's curves (`axis` length, read off its figures) and claims (`axis` claim)."""
    return pd.read_csv(FACTS / "source_study_scaling.csv")


def source_claims(results: pd.DataFrame, slopes: pd.DataFrame, crossings: pd.DataFrame) -> pd.DataFrame:
    """Each claim of the source study against both softmaxes, and whether it is reproduced; missing if not measured.

    Growth is reproduced if the exponent's whole interval is on that side of 1.5; a cross-over if it comes no later; a
    saving if it is at least as large.
    """
    found = []
    for baseline, claim in product(BASELINES, source_study().query("axis == 'claim'").itertuples()):
        model = baseline if claim.model == "softmax" else claim.model
        quantity, kind = claim.metric.rsplit("_", 1)
        if kind == "exponent":
            growth = only(slopes, model=model, metric=quantity)
            here = growth["exponent"]
            holds = growth["low"] > BETWEEN if claim.value > BETWEEN else growth["high"] < BETWEEN
        elif kind == "ratio":
            theirs = only(results, model=baseline, metric=quantity, x=claim.x)["value"]
            here = theirs / only(results, model=model, metric=quantity, x=claim.x)["value"]
            holds = here >= claim.value
        else:
            pair = only(crossings, model=model, against=baseline)
            # Slower up to a length below the claimed one says nothing of the claim.
            here = np.nan if not pair["pays"] and pair["crossover_length"] < claim.value else pair["crossover_length"]
            holds = here <= claim.value and pair["pays"]
        found.append((baseline, model, CLAIMS[claim.metric], claim.x, claim.value, here, bool(holds)))
    table = pd.DataFrame(found, columns=["against", "model", "claim", "length", "source_study", "here", "reproduced"])
    return table.assign(reproduced=table["reproduced"].astype("object").where(table["here"].notna(), np.nan))
