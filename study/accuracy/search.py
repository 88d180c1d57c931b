"""The searches for a recipe, kept in data/tuning."""

from pathlib import Path

import pandas as pd

from lib.paths import DATA


def saved_tables(folder: Path = DATA / "tuning") -> dict[str, pd.DataFrame]:
    """What searches left as tables, by name."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def tried_on(checksum: str, tables: dict[str, pd.DataFrame]) -> pd.Series:
    """ROC-AUC of the networks that were tried by hand on the data of this checksum; empty where there were none."""
    counting = tables["counting"]
    networks = ~counting.iloc[:, 0].str.startswith("regression")
    scores = [counting.loc[networks, "roc_auc_public_sample"], tables["recipe"]["roc_auc"]]
    tried = pd.concat(scores, ignore_index=True).dropna()
    return tried if checksum in set(tables["tuned_on"]["checksum"]) else tried.iloc[:0]


def best_for_all(rows: pd.DataFrame) -> pd.DataFrame:
    """By mechanism, the candidate of search.csv that is best by their mean, and what it lacks to the mechanism's best.

    `behind_best` and its error are of paired differences on the same customers.
    """
    mean = rows[rows["mechanism"] == "mean"].set_index("trial")["roc_auc"]
    chosen = rows[(rows["trial"] == mean.idxmax()) & (rows["mechanism"] != "mean")]
    return chosen.set_index("mechanism")[["roc_auc", "behind_best", "behind_best_error"]]
