"""How close the synthetic set comes to real data in the bank's format: what recent events tell."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.data.histories import Histories

KINDS = ("mcc_code", "tr_type", "hour", "weekday")
PENALTY = 0.003
"""Inverse strength of the regression's penalty: the generator was calibrated with this one."""
FOLDS, REPEATS = 5, 5


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
