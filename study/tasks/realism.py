"""How close the synthetic set comes to real data in the bank's format: marginals, and what recent events tell."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.data.histories import UNKNOWN_HOUR, Histories

KINDS = ("mcc_code", "tr_type", "hour", "weekday")
COLOURS = {"real": "#333333", "synthetic": "#b08d3c"}
PENALTY = 0.003
"""Inverse strength of the regression's penalty: the generator was calibrated with this one."""
FOLDS, REPEATS = 5, 5
QUANTILES = np.linspace(0.05, 0.95, 19).round(2)
AMOUNTS = np.linspace(-6, 6, 49)
"""Edges of sign(a) log₁₀(1 + |a|) of amounts a in roubles."""


def marginals(histories: Histories, model: str) -> pd.DataFrame:
    """Quantiles of the length, shares of codes, of known hours and of amounts, as rows named by `model`."""
    codes = np.bincount(histories.categories[:, 0], minlength=histories.cardinalities[0])[1:]
    hours = np.bincount(histories.categories[:, 2], minlength=UNKNOWN_HOUR + 1)[:UNKNOWN_HOUR]
    amounts, _ = np.histogram(histories.numbers[:, 0] / np.log(10), AMOUNTS)
    events = len(histories.days)
    parts = [
        ("quantile", QUANTILES, "events_per_customer", np.quantile(histories.lengths, QUANTILES)),
        ("mcc_code", histories.vocabularies[0], "share_of_events", codes / events),
        ("hour", np.arange(UNKNOWN_HOUR), "share_of_timed_events", hours / max(hours.sum(), 1)),
        ("signed_log_amount", (AMOUNTS[1:] + AMOUNTS[:-1]) / 2, "share_of_events", amounts / events),
    ]
    frames = [
        pd.DataFrame({"axis": axis, "x": x, "metric": metric, "value": value}) for axis, x, metric, value in parts
    ]
    return pd.concat(frames, ignore_index=True).assign(model=model, seed=None, split=None)


def recent_counts(histories: Histories, customers: np.ndarray, limit: int) -> np.ndarray:
    """log(1 + count) of every code among the customers' last `limit` events."""
    lengths = np.minimum(histories.lengths[customers], limit)
    owner = np.repeat(np.arange(len(customers)), lengths)
    event = np.arange(lengths.sum()) + np.repeat(histories.offsets[customers + 1] - np.cumsum(lengths), lengths)
    tables = []
    for kind, size in enumerate(histories.cardinalities[: histories.code_kinds]):
        place = owner * size + histories.categories[event, kind]
        tables.append(np.bincount(place, minlength=len(customers) * size).reshape(len(customers), size))
    return np.log1p(np.hstack(tables))


def bag_of_codes_score(counts: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """ROC-AUC of out-of-fold predictions of a logistic regression."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(regression, counts, labels, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, predicted))


def recent_scores(
    histories: Histories, model: str, limits: list[int], size: int, most_groups: int, seed: int
) -> pd.DataFrame:
    """ROC-AUC of the bag-of-codes regression on the last events of `size` labelled customers, in disjoint groups.

    Groups are of one size because the score grows with the number of customers learnt from.
    """
    chosen = np.random.default_rng(seed).permutation(histories.labelled)
    rows = []
    for group in range(min(most_groups, len(chosen) // size)):
        customers = chosen[group * size : (group + 1) * size]
        labels = histories.labels[customers]
        for limit in limits:
            counts = recent_counts(histories, customers, limit)
            scores = [bag_of_codes_score(counts, labels, seed + repeat) for repeat in range(REPEATS)]
            rows.append({"x": limit, "split": f"group {group + 1}", "value": np.mean(scores)})
    return pd.DataFrame(rows).assign(axis="last_events", metric="roc_auc", model=model, seed=seed)


def marginal_figure(rows: pd.DataFrame) -> Figure:
    """Real beside synthetic: lengths, codes from the most to the least frequent real one, hours, amounts."""
    fig, panels = plt.subplots(2, 2, figsize=(7.4, 5.6))
    labels = {
        "quantile": ("quantile", "events of a customer", "log"),
        "mcc_code": ("codes, the most frequent real one first", "share of events", "log"),
        "hour": ("hour of the day", "share of timed events", "linear"),
        "signed_log_amount": ("amount, signed power of ten of 1 + roubles", "share of events", "linear"),
    }
    for ax, (axis, (across, up, scale)) in zip(panels.flat, labels.items(), strict=True):
        both = rows[rows["axis"] == axis].pivot(index="x", columns="model", values="value")
        if axis == "mcc_code":
            both = both.sort_values("real", ascending=False).reset_index(drop=True)
        both.plot(ax=ax, color=COLOURS, legend=axis == "quantile")
        ax.set(xlabel=across, ylabel=up, yscale=scale)
    return fig


def score_figure(rows: pd.DataFrame) -> Figure:
    """ROC-AUC against the number of last events: the mean over groups, with bars from lowest to highest."""
    fig, ax = plt.subplots()
    looks = {"x": "x", "y": "value", "hue": "model", "palette": COLOURS, "native_scale": True}
    sns.pointplot(rows, **looks, errorbar=("pi", 100), log_scale=(2, False), ax=ax)
    ax.set(xlabel="last events that are read (logarithmic)", ylabel="ROC-AUC of the bag of codes")
    ax.legend(title=None)
    return fig
