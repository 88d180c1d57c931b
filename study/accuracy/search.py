"""What a reader is told of the searches for a recipe, kept in data/tuning.

In search.csv a row is a mechanism and a candidate, at the end the mean of mechanisms and a candidate; `behind_best` is
what it lacks to the mechanism's best on the same customers, so that its error is that of a paired difference.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.paths import DATA
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig

RECIPE = dataclasses.asdict(ModelConfig()) | dataclasses.asdict(TrainConfig())
"""The study's own settings by name."""
SEARCHES = {
    ("recipe", "roc_auc"): ("the recipe with the counting path", "public sample"),
    ("counting", "roc_auc_public_sample"): ("what is counted", "public sample"),
    ("counting", "roc_auc_generated"): ("what is counted", "generated"),
    ("encoder", "roc_auc"): ("a plain encoder that sees order", "generated"),
    ("plain", "roc_auc"): ("the recipe of plain networks", "generated"),
    ("search", "roc_auc"): ("a recipe for each mechanism", "generated"),
}
"""By table and column of scores: what was searched, and on which customers."""


def saved_tables(folder: Path = DATA / "tuning") -> dict[str, pd.DataFrame]:
    """What searches left as tables, by name."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def searches(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One line per search: how many networks were tried, and the lowest and the highest ROC-AUC."""
    scores = {told: _networks(tables[table])[column].dropna() for (table, column), told in SEARCHES.items()}
    rows = [(*told, len(found), found.min(), found.max()) for told, found in scores.items()]
    return pd.DataFrame(rows, columns=["searched", "customers", "networks", "lowest_roc_auc", "highest_roc_auc"])


def _networks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of networks, without the regressions and the optimum beside them."""
    return table[~table.iloc[:, 0].str.startswith(("regression", "Bayes"))]


def tried_on(checksum: str, tables: dict[str, pd.DataFrame]) -> pd.Series:
    """ROC-AUC of the networks that were tried by hand on the data of this checksum; empty where there were none."""
    scores = [_networks(tables["counting"])["roc_auc_public_sample"], tables["recipe"]["roc_auc"]]
    tried = pd.concat(scores, ignore_index=True).dropna()
    return tried if checksum in set(tables["tuned_on"]["checksum"]) else tried.iloc[:0]


def own_best(rows: pd.DataFrame) -> pd.DataFrame:
    """By mechanism the ROC-AUC of its own best candidate, and what two others lack to it.

    `behind_best` is that of the study's recipe, missing where it was not tried; `shared_behind_best` that of the
    candidate which is best by the mean of the mechanisms.
    """
    found = rows.loc[rows.groupby("mechanism", sort=False)["roc_auc"].idxmax()].set_index("mechanism")
    names = [name for name in rows.columns if name in RECIPE]
    recipe = rows[np.isclose(rows[names], [RECIPE[name] for name in names]).all(axis=1)].set_index("mechanism")
    shared = rows[rows["trial"] == found["trial"].iloc[-1]].set_index("mechanism")
    lacks = ["behind_best", "behind_best_error"]
    return found[["roc_auc"]].join(recipe[lacks]).join(shared[lacks].add_prefix("shared_"))


def visible(gain: pd.Series, error: pd.Series, others: int) -> pd.Series:
    """Whether the best of so many others is better by more than luck: at five percent for all of them (Bonferroni)."""
    return gain > stats.norm.ppf(1 - 0.025 / max(1, others)) * error
