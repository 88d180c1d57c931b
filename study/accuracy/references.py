"""Classical models to beat, on the same folds: counts of codes, of their pairs and by amount; boosting on aggregates.

Features are functions of a customer's own events; whatever is learned, the choice of columns and of the penalty
included, is learned inside the training fold.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Integer
from numpy import ndarray
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from lib.data.batches import FEWEST_TO_TRAIN
from lib.data.histories import Histories
from lib.training.counting import SIZES, crossed
from study.accuracy.evaluate import prediction_frame
from study.accuracy.verdict import CLASSICAL

INNER_FOLDS = FEWEST_TO_TRAIN
PENALTIES = [0.001, 0.003, 0.01, 0.03, 0.1]
LEAST_VARIANCE = 0.02  # of log(1 + count): what fewer than about one training customer in twenty-five has is left out
RIVALS = tuple(CLASSICAL)

Split = tuple[Integer[ndarray, "..."], Integer[ndarray, "..."]]
Features = Callable[[Histories], ndarray | sparse.csr_array]


def log_counts(owner: Integer[ndarray, " n"], item: Integer[ndarray, " n"], shape: tuple[int, int]) -> sparse.csr_array:
    """log(1 + count) of every kind of item by customer."""
    return sparse.coo_array((np.ones(len(item)), (owner, item)), shape=shape).tocsr().log1p()


def code_counts(histories: Histories) -> Float[ndarray, "customers codes"]:
    """log(1 + count) of every MCC and every type per customer: the bag of codes."""
    owner, customers = histories.owners, len(histories.customers)
    tables = [
        log_counts(owner, histories.categories[:, kind], (customers, size)).toarray()
        for kind, size in enumerate(histories.cardinalities[: histories.code_kinds])
    ]
    return np.concatenate(tables, axis=1)


def pair_counts(histories: Histories) -> sparse.csr_array:
    """log(1 + count) of every pair of MCCs of neighbouring events that occurs."""
    owner, codes = histories.owners, histories.categories[:, 0].astype(np.int64)
    inside = owner[:-1] == owner[1:]
    pair = codes[:-1] * histories.cardinalities[0] + codes[1:]
    occurring, item = np.unique(pair[inside], return_inverse=True)
    return log_counts(owner[:-1][inside], item, (len(histories.customers), len(occurring)))


def size_counts(histories: Histories) -> sparse.csr_array:
    """log(1 + count) of every MCC by the size of its amount: what the networks' sums count beside the codes."""
    code_by_size = crossed(
        torch.from_numpy(histories.categories.astype(np.int64))[None], torch.tensor(histories.numbers)[None]
    )
    shape = len(histories.customers), histories.cardinalities[0] * SIZES
    return log_counts(histories.owners, code_by_size[0].numpy(), shape)


def codes_and(*others: Features) -> Features:
    """The bag of codes beside other counts."""
    return lambda histories: sparse.hstack(
        [sparse.csr_array(code_counts(histories)), *(counts(histories) for counts in others)], format="csr"
    )


def aggregates(histories: Histories) -> Float[ndarray, "customers aggregates"]:
    """Per customer: code counts, moments of numbers, their signs and gaps, shares of hours and weekdays, log length."""
    owner, hours_and_days = histories.owners, histories.cardinalities[histories.code_kinds :]
    numbers = pd.DataFrame(histories.numbers, columns=list(histories.quantities))
    signed = numbers.drop(columns="gap")
    parts = [numbers, signed.clip(upper=0).add_prefix("negative_"), signed.clip(lower=0).add_prefix("positive_")]
    moments = pd.concat(parts, axis=1).groupby(owner).agg(["mean", "std", "min", "max"]).fillna(0)
    rhythm = [
        sparse.coo_array(
            (1 / histories.lengths[owner], (owner, histories.categories[:, histories.code_kinds + kind])),
            shape=(len(histories.customers), size),
        ).toarray()
        for kind, size in enumerate(hours_and_days)
    ]
    return np.column_stack([code_counts(histories), moments, *rhythm, np.log(histories.lengths)])


def references(seed: int) -> dict[str, tuple[Features, ClassifierMixin]]:
    """The classical models by name: their features, and the model that learns from them.

    A regression chooses its squared penalty by cross-validation inside the training customers.
    """
    choice = {"Cs": PENALTIES, "cv": INNER_FOLDS, "scoring": "neg_log_loss", "l1_ratios": (0,)}
    regression = LogisticRegressionCV(**choice, max_iter=5000, use_legacy_attributes=False)
    growth = {"learning_rate": 0.03, "max_iter": 300, "max_leaf_nodes": 8, "min_samples_leaf": 5}
    boosting = HistGradientBoostingClassifier(**growth, l2_regularization=5.0, max_features=0.05, random_state=seed)
    selected = make_pipeline(VarianceThreshold(LEAST_VARIANCE), regression)
    return {
        "logistic_regression": (code_counts, regression),
        "bigram_regression": (codes_and(pair_counts), selected),
        "size_regression": (codes_and(size_counts), selected),
        "count_regression": (codes_and(size_counts, pair_counts), selected),
        "gradient_boosting": (aggregates, boosting),
    }


def predictions(
    histories: Histories, splits: Sequence[Split], seed: int, names: Sequence[str] = RIVALS
) -> pd.DataFrame:
    """Predictions for every split's test part, learned on its training part in `seconds` on one thread."""
    frames = []
    for name in names:
        features, model = references(seed)[name]
        table = features(histories)
        for fold, (train, test) in enumerate(splits):
            started = time.perf_counter()
            with threadpool_limits(1):
                model.fit(table[train], histories.labels[train])
            seconds = time.perf_counter() - started
            found = prediction_frame(histories, name, seed, fold, test, model.predict_proba(table[test]))
            frames.append(found.assign(seconds=seconds))
    return pd.concat(frames, ignore_index=True)
