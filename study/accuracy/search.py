"""The table of a search for a recipe (`study.tune`): what every candidate scored, and what a reader is shown of it."""

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Integer
from numpy import ndarray
from scipy import stats

from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from study.accuracy import evaluate

MEAN = "mean"
"""Of the mechanisms: what one recipe for all is chosen by."""
RECIPE = dataclasses.asdict(ModelConfig()) | dataclasses.asdict(TrainConfig())
"""The study's own settings by name."""
Tried = dict[str, list[dict]]
"""By mechanism, of every candidate: out-of-fold `probabilities` (customer, class), `diverged` folds, `cpu_seconds`."""


def table(
    found: Tried, labels: Integer[ndarray, " customers"], tried: list[dict[str, float]], seed: int
) -> pd.DataFrame:
    """One row per mechanism and candidate, then those of the mechanisms' mean.

    Standard errors by bootstrap over customers. `behind_best` is what a candidate lacks to the best one of its
    mechanism, on the same customers, so that its error is that of a paired difference. `diverged` counts folds whose
    training did, and whose customers then have equal probabilities.
    """
    groups = {name: [of_all] for name, of_all in found.items()}
    if len(found) > 1:
        groups[MEAN] = list(found.values())
    rows = []
    for name, group in groups.items():
        each = [np.array([one["probabilities"] for one in alike]) for alike in zip(*group, strict=True)]
        seconds = np.mean([[one["cpu_seconds"] for one in of_all] for of_all in group], axis=0)
        diverged = np.sum([[one["diverged"] for one in of_all] for of_all in group], axis=0)
        best = max(each, key=lambda one: evaluate.value("roc_auc", one, labels).mean())
        for number, (one, values) in enumerate(zip(each, tried, strict=True)):
            value, error = _with_error(evaluate.interval(one, labels, "roc_auc", seed=seed))
            behind, paired = _with_error(evaluate.interval(best, labels, "roc_auc", minus=one, seed=seed))
            row = {"mechanism": name, "trial": number, **values, "roc_auc": value, "standard_error": error}
            row |= {"behind_best": behind, "behind_best_error": paired}
            row |= {"diverged": diverged[number], "cpu_seconds": seconds[number]}
            rows.append(row)
    return pd.DataFrame(rows)


def _with_error(found: tuple[float, float, float]) -> tuple[float, float]:
    value, low, high = found
    return value, float((high - low) / (2 * stats.norm.ppf(0.975)))


def best(rows: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """The best candidates by the mechanisms' mean and the study's recipe, with the ROC-AUC of each mechanism."""
    whole = rows[rows["mechanism"] == rows["mechanism"].iloc[-1]].set_index("trial")
    chosen = whole.sort_values("roc_auc", ascending=False, kind="stable")
    chosen = chosen[(np.arange(len(chosen)) < count) | is_recipe(chosen)]
    names = {trial: f"{trial}, the study's" if own else str(trial) for trial, own in is_recipe(chosen).items()}
    by_mechanism = rows.pivot(index="trial", columns="mechanism", values="roc_auc")[rows["mechanism"].unique()]
    shown = chosen[_varied(rows)].join(by_mechanism).join(chosen[["behind_best", "behind_best_error"]])
    return shown.rename(index=names).rename_axis("candidate")


def own_best(rows: pd.DataFrame) -> pd.DataFrame:
    """By mechanism its own best candidate, and what two others lack to it.

    `behind_best` is that of the study's recipe, missing where it was not tried; `shared_behind_best` that of the
    candidate which is best by the mean of the mechanisms.
    """
    found = rows.loc[rows.groupby("mechanism", sort=False)["roc_auc"].idxmax()].set_index("mechanism")
    recipe = rows[is_recipe(rows)].set_index("mechanism")
    shared = rows[rows["trial"] == found["trial"].iloc[-1]].set_index("mechanism")
    lacks = ["behind_best", "behind_best_error"]
    shown = found[["trial", *_varied(rows), "roc_auc"]].rename(columns={"trial": "candidate"})
    return shown.join(recipe[lacks]).join(shared[lacks].add_prefix("shared_"))


def visible(gain: pd.Series, error: pd.Series, others: int) -> pd.Series:
    """Whether the best of so many others is better by more than luck: at five percent for all of them (Bonferroni)."""
    return gain > stats.norm.ppf(1 - 0.025 / max(1, others)) * error


def is_recipe(rows: pd.DataFrame) -> pd.Series:
    """Whether a row's candidate is the study's recipe as it is now."""
    names = _settings(rows)
    return pd.Series(np.isclose(rows[names], [RECIPE[name] for name in names]).all(axis=1), rows.index)


def _settings(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows.columns if name in RECIPE]


def _varied(rows: pd.DataFrame) -> list[str]:
    return [name for name in _settings(rows) if name != "epochs"]
