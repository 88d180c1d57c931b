"""Accuracy with its uncertainty: out-of-fold scores, bootstrap intervals, paired differences, classical references.

Predictions are one frame for all models: model, seed (the repeat), fold, position (of the customer), label, probability
(of class 1). Every customer is predicted once per repeat, by a model that never saw it.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegressionCV

from lib import data
from lib.data import Histories

RESAMPLES = 2000
INNER_FOLDS = data.FEWEST_TO_TRAIN


def code_counts(histories: Histories) -> np.ndarray:
    """log(1 + count) of every MCC and every type per customer: the bag of codes."""
    owner = np.repeat(np.arange(len(histories.customers)), histories.lengths)
    ones = np.ones(len(owner), np.float32)
    tables = [
        sparse.coo_matrix(
            (ones, (owner, histories.categories[:, kind])), shape=(len(histories.customers), size)
        ).toarray()
        for kind, size in enumerate(histories.cardinalities[: histories.code_kinds])
    ]
    return np.log1p(np.concatenate(tables, axis=1))


def aggregates(histories: Histories) -> np.ndarray:
    """Per customer: code counts, moments of amounts and gaps, shares of hours and weekdays, log length."""
    owner = np.repeat(np.arange(len(histories.customers)), histories.lengths)
    amount, gap = histories.numbers.T
    frame = pd.DataFrame({"amount": amount, "spent": amount.clip(max=0), "received": amount.clip(min=0), "gap": gap})
    moments = frame.groupby(owner).agg(["mean", "std", "min", "max"]).fillna(0)
    rhythm = [pd.crosstab(owner, histories.categories[:, kind], normalize="index") for kind in (2, 3)]
    return np.column_stack([code_counts(histories), moments, *rhythm, np.log(histories.lengths)])


def references(seed: int) -> dict[str, tuple[Callable[[Histories], np.ndarray], ClassifierMixin]]:
    """The classical models by name: their features, and the model with its penalty chosen inside the training fold."""
    regression = LogisticRegressionCV(
        Cs=[0.001, 0.003, 0.01, 0.03, 0.1],
        cv=INNER_FOLDS,
        scoring="roc_auc",
        l1_ratios=(0,),
        max_iter=5000,
        use_legacy_attributes=False,
    )
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=200,
        min_samples_leaf=10,
        l2_regularization=1.0,
        max_features=0.3,
        random_state=seed,
    )
    return {"logistic_regression": (code_counts, regression), "gradient_boosting": (aggregates, boosting)}


def reference_predictions(histories: Histories, fold_count: int, seed: int) -> pd.DataFrame:
    """Out-of-fold predictions of the classical models on the folds of one repeat."""
    predictions = []
    for name, (features, model) in references(seed).items():
        table = features(histories)
        for fold, (train, test) in enumerate(data.folds(histories, fold_count, seed)):
            model.fit(table[train], histories.labels[train])
            probability = model.predict_proba(table[test])[:, 1]
            predictions.append(prediction_frame(histories, name, seed, fold, test, probability))
    return pd.concat(predictions, ignore_index=True)


def prediction_frame(
    histories: Histories, model: str, seed: int, fold: int, position: np.ndarray, probability: np.ndarray
) -> pd.DataFrame:
    """Predictions of one fold in the one shape of this module."""
    return pd.DataFrame(
        {
            "model": model,
            "seed": seed,
            "fold": fold,
            "position": position,
            "label": histories.labels[position],
            "probability": probability,
        }
    )


def roc_auc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray | float:
    """Area under the ROC curve along the last axis: the share of pairs ranked rightly (Mann-Whitney)."""
    ranks = stats.rankdata(np.concatenate([positive, negative], axis=-1), axis=-1)
    count = positive.shape[-1]
    return (ranks[..., :count].sum(-1) - count * (count + 1) / 2) / (count * negative.shape[-1])


def accuracy(positive: np.ndarray, negative: np.ndarray) -> np.ndarray | float:
    """Share of customers on their side of one half, along the last axis."""
    right = (positive >= 0.5).sum(-1) + (negative < 0.5).sum(-1)
    return right / (positive.shape[-1] + negative.shape[-1])


METRICS = {"roc_auc": roc_auc, "accuracy": accuracy}


def score_table(predictions: pd.DataFrame, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities by repeat (rows) and customer (columns) of one model, and the customers' labels.

    Raises ValueError when a customer is predicted not exactly once per repeat.
    """
    chosen = predictions[predictions["model"] == model]
    if chosen.duplicated(["seed", "position"]).any():
        raise ValueError(f"{model}: a customer is predicted twice in one repeat")
    table = chosen.pivot(index="seed", columns="position", values="probability").sort_index(axis=1)
    if table.isna().to_numpy().any():
        raise ValueError(f"{model}: a customer is missing from a repeat")
    return table.to_numpy(), chosen.drop_duplicates("position").sort_values("position")["label"].to_numpy()


def interval(
    scores: np.ndarray, labels: np.ndarray, metric: str, minus: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float, float]:
    """A metric averaged over repeats, with its 95 % bootstrap interval over customers (stratified by label).

    With `minus`, the paired difference to other scores of the same customers.
    """
    function = METRICS[metric]

    def statistic(positive: np.ndarray, negative: np.ndarray, axis: int = -1) -> np.ndarray | float:
        value = function(scores[:, positive], scores[:, negative])
        if minus is not None:
            value = value - function(minus[:, positive], minus[:, negative])
        return value.mean(0)

    sides = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    bounds = stats.bootstrap(
        sides,
        statistic,
        n_resamples=RESAMPLES,
        batch=100,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(statistic(*sides)), float(bounds.low), float(bounds.high)


def fold_values(predictions: pd.DataFrame, model: str, metric: str) -> np.ndarray:
    """The metric in every fold of every repeat of one model, in order."""
    chosen = predictions[predictions["model"] == model]
    return np.array(
        [
            METRICS[metric](
                part.loc[part["label"] == 1, "probability"].to_numpy(),
                part.loc[part["label"] == 0, "probability"].to_numpy(),
            )
            for _, part in chosen.groupby(["seed", "fold"])
        ]
    )


def corrected_t_test(differences: np.ndarray, test_share: float) -> tuple[float, float]:
    """Standard error and two-sided p-value of a mean of fold differences (Nadeau and Bengio 2003).

    Training sets overlap between folds, so the naive variance is widened by test size / training size.
    """
    count = len(differences)
    error = np.sqrt((1 / count + test_share / (1 - test_share)) * differences.var(ddof=1))
    mean = differences.mean()
    p_value = 2 * stats.t.sf(abs(mean) / error, count - 1) if error > 0 else float(mean == 0)
    return float(error), float(p_value)


def compare(
    predictions: pd.DataFrame, first: str, second: str, fold_count: int, metric: str = "roc_auc", seed: int = 0
) -> dict[str, float]:
    """Paired difference, first minus second, in two ways, and the smallest one that could have been found.

    `difference`, `low`, `high`: all out-of-fold predictions of a repeat scored together, bootstrap over customers.
    `fold_difference`, `p_value`: mean over folds, corrected resampled t-test. `detectable`: the difference that the
    bootstrap's spread would have told from zero with a probability of 80 %.
    """
    (scores, labels), (others, _) = score_table(predictions, first), score_table(predictions, second)
    mean, low, high = interval(scores, labels, metric, minus=others, seed=seed)
    differences = fold_values(predictions, first, metric) - fold_values(predictions, second, metric)
    _, p_value = corrected_t_test(differences, 1 / fold_count)
    error = (high - low) / (2 * stats.norm.ppf(0.975))
    detectable = error * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    found = {"difference": mean, "low": low, "high": high, "detectable": float(detectable)}
    return found | {"fold_difference": float(differences.mean()), "p_value": p_value}
