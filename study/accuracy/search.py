"""What a reader is shown of a search for a recipe, kept in data/tuning: a row per mechanism and candidate, then means.

`behind_best` is what a candidate lacks to the best one of its mechanism, on the same customers, so that its error is
that of a paired difference; the last mechanism is the mean of all.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig

RECIPE = dataclasses.asdict(ModelConfig()) | dataclasses.asdict(TrainConfig())
"""The study's own settings by name."""


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
