"""Accuracy with its uncertainty: scores of out-of-fold predictions, bootstrap intervals, paired differences.

Predictions are one frame for all models: model, seed (the repeat), fold, position (of the customer), label, and the
probabilities of the classes, class_0 to class_{K-1}. Every customer is predicted once per repeat, by a model that
never saw it. A resample of customers is a row of weights (how often each was drawn), so that a score of all resamples
is a few products of arrays.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Integer
from numpy import ndarray
from scipy import stats

from lib.data.histories import Histories
from lib.training.runs import Run

RESAMPLES = 2000
BATCH = 500
"""Resamples scored together: bounds the memory."""

Metric = Callable[
    [Float[ndarray, "customers classes"], Integer[ndarray, " customers"], Float[ndarray, "resamples customers"]],
    Float[ndarray, " resamples"],
]


def prediction_frame(
    histories: Histories,
    model: str,
    seed: int,
    fold: int,
    position: Integer[ndarray, " customers"],
    probabilities: Float[ndarray, "customers classes"],
) -> pd.DataFrame:
    """Predictions of one fold in the one shape of this module."""
    keys = {"model": model, "seed": seed, "fold": fold, "position": position, "label": histories.labels[position]}
    return pd.DataFrame(keys | {f"class_{number}": column for number, column in enumerate(probabilities.T)})


def class_columns(predictions: pd.DataFrame) -> list[str]:
    """Names of the columns of probabilities, in the order of the classes."""
    return [f"class_{number}" for number in range(sum(str(name).startswith("class_") for name in predictions.columns))]


def score_table(
    predictions: pd.DataFrame, model: str
) -> tuple[Float[ndarray, "repeats customers classes"], Integer[ndarray, " customers"]]:
    """Probabilities by repeat, customer and class of one model, and the customers' labels.

    Raises ValueError when a customer is predicted not exactly once per repeat.
    """
    chosen = predictions[predictions["model"] == model]
    if chosen.duplicated(["seed", "position"]).any():
        raise ValueError(f"{model}: a customer is predicted twice in one repeat")
    tables = [chosen.pivot(index="seed", columns="position", values=name) for name in class_columns(predictions)]
    scores = np.stack([table.sort_index(axis=1).to_numpy(np.float64) for table in tables], axis=-1)
    if np.isnan(scores).any():
        raise ValueError(f"{model}: a customer is missing from a repeat")
    return scores, chosen.drop_duplicates("position").sort_values("position")["label"].to_numpy()


def separation(
    score: Float[ndarray, " customers"],
    positive: Bool[ndarray, " customers"],
    weights: Float[ndarray, "resamples customers"],
) -> Float[ndarray, " resamples"]:
    """Area under the ROC curve: the weighted share of pairs that are ranked rightly, ties counting half."""
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ranked = weights[:, order]
    inside, outside = (np.add.reduceat(ranked * side[order], ties, axis=1) for side in (positive, ~positive))
    below = outside.cumsum(1) - outside / 2
    return (inside * below).sum(1) / (inside.sum(1) * outside.sum(1))


def roc_auc(
    probabilities: Float[ndarray, "customers classes"],
    labels: Integer[ndarray, " customers"],
    weights: Float[ndarray, "resamples customers"],
) -> Float[ndarray, " resamples"]:
    """Area under the ROC curve; of more than two classes the mean over classes, each against the others."""
    classes = probabilities.shape[1]
    chosen = [1] if classes == 2 else range(classes)
    return np.mean([separation(probabilities[:, each], labels == each, weights) for each in chosen], axis=0)


def _weighted_mean(values: ndarray, weights: ndarray) -> ndarray:
    return weights @ values / weights.sum(1)


def accuracy(
    probabilities: Float[ndarray, "customers classes"],
    labels: Integer[ndarray, " customers"],
    weights: Float[ndarray, "resamples customers"],
) -> Float[ndarray, " resamples"]:
    """Share of customers whose most probable class is theirs."""
    return _weighted_mean((probabilities.argmax(1) == labels).astype(float), weights)


def log_loss(
    probabilities: Float[ndarray, "customers classes"],
    labels: Integer[ndarray, " customers"],
    weights: Float[ndarray, "resamples customers"],
) -> Float[ndarray, " resamples"]:
    """Mean of minus the logarithm of the own class's probability, in nats."""
    own = probabilities[np.arange(len(labels)), labels]
    return _weighted_mean(-np.log(own.clip(np.finfo(float).eps)), weights)


def brier(
    probabilities: Float[ndarray, "customers classes"],
    labels: Integer[ndarray, " customers"],
    weights: Float[ndarray, "resamples customers"],
) -> Float[ndarray, " resamples"]:
    """Mean squared error of the probabilities: summed over classes, of two classes only the second's."""
    classes = probabilities.shape[1]
    errors = (probabilities - np.eye(classes)[labels]) ** 2
    return _weighted_mean(errors[:, 1] if classes == 2 else errors.sum(1), weights)


METRICS: dict[str, Metric] = {"roc_auc": roc_auc, "accuracy": accuracy, "log_loss": log_loss, "brier": brier}


def value(
    metric: str, scores: Float[ndarray, "repeats customers classes"], labels: Integer[ndarray, " customers"]
) -> Float[ndarray, " repeats"]:
    """The metric of every repeat."""
    once = np.ones((1, len(labels)))
    return np.concatenate([METRICS[metric](repeat, labels, once) for repeat in scores])


def resamples(labels: Integer[ndarray, " customers"], seed: int) -> Iterator[Float[ndarray, "batch customers"]]:
    """How often each customer was drawn: with replacement, as many of every label as there are."""
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(0, RESAMPLES, BATCH):
        drawn = np.concatenate([generator.choice(group, (BATCH, len(group))) for group in groups], axis=1)
        places = drawn + len(labels) * np.arange(BATCH)[:, None]
        yield np.bincount(places.ravel(), minlength=BATCH * len(labels)).reshape(BATCH, -1).astype(float)


def interval(
    scores: Float[ndarray, "repeats customers classes"],
    labels: Integer[ndarray, " customers"],
    metric: str,
    minus: Float[ndarray, "other_repeats customers classes"] | None = None,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A metric averaged over repeats, with its 95 % bootstrap interval over customers (stratified by label).

    With `minus`, the paired difference to other scores of the same customers.
    """

    def statistic(weights: ndarray) -> ndarray:
        sides = [scores] if minus is None else [scores, minus]
        means = [np.mean([METRICS[metric](repeat, labels, weights) for repeat in side], axis=0) for side in sides]
        return means[0] if minus is None else means[0] - means[1]

    drawn = np.concatenate([statistic(weights) for weights in resamples(labels, seed)])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(statistic(np.ones((1, len(labels))))[0]), float(low), float(high)


def score_rows(predictions: pd.DataFrame, metrics: list[str] | None = None, seed: int = 0) -> pd.DataFrame:
    """Every metric of every model, as columns model, metric, value, low, high."""
    rows = []
    for model in predictions["model"].unique():
        table = score_table(predictions, model)
        for metric in metrics or METRICS:
            found = interval(*table, metric, seed=seed)
            rows.append({"model": model, "metric": metric, **dict(zip(("value", "low", "high"), found, strict=True))})
    return pd.DataFrame(rows)


def spread(predictions: pd.DataFrame, metric: str = "roc_auc") -> pd.DataFrame:
    """By model, over its repeats: their number, and mean, standard deviation, least and most of the metric."""
    values = {
        model: pd.Series(value(metric, *score_table(predictions, model))) for model in predictions["model"].unique()
    }
    rows = {model: each.agg(["count", "mean", "std", "min", "max"]) for model, each in values.items()}
    return pd.DataFrame(rows).T.rename_axis("model").rename(columns={"count": "repeats"})


def fold_values(predictions: pd.DataFrame, model: str) -> Float[ndarray, " folds"]:
    """ROC-AUC in every fold of every repeat of one model, in order."""
    chosen, names = predictions[predictions["model"] == model], class_columns(predictions)
    parts = [part for _, part in chosen.groupby(["seed", "fold"])]
    tables = [(part[names].to_numpy(np.float64)[None], part["label"].to_numpy()) for part in parts]
    return np.concatenate([value("roc_auc", *table) for table in tables])


def corrected_t_test(differences: Float[ndarray, " folds"], test_share: float) -> tuple[float, float]:
    """Standard error and two-sided p-value of a mean of fold differences (Nadeau and Bengio 2003).

    Training sets overlap between folds, so the naive variance is widened by test size / training size.
    """
    count = len(differences)
    error = np.sqrt((1 / count + test_share / (1 - test_share)) * differences.var(ddof=1))
    mean = differences.mean()
    p_value = 2 * stats.t.sf(abs(mean) / error, count - 1) if error > 0 else float(mean == 0)
    return float(error), float(p_value)


def compare(predictions: pd.DataFrame, first: str, second: str, fold_count: int, seed: int = 0) -> dict[str, float]:
    """Paired difference in ROC-AUC, first minus second, in two ways, and the smallest one that could have been found.

    Only repeats that both models have enter. `difference`, `low`, `high`: all out-of-fold predictions of a repeat
    scored together, bootstrap over customers. `fold_difference`, `p_value`: mean over folds, corrected resampled
    t-test. `detectable`: the difference that the bootstrap's spread would have told from zero with a probability of
    80 %.
    """
    seeds = [set(predictions.loc[predictions["model"] == name, "seed"]) for name in (first, second)]
    shared = predictions[predictions["seed"].isin(set.intersection(*seeds))]
    (scores, labels), (others, _) = score_table(shared, first), score_table(shared, second)
    mean, low, high = interval(scores, labels, "roc_auc", minus=others, seed=seed)
    differences = fold_values(shared, first) - fold_values(shared, second)
    _, p_value = corrected_t_test(differences, 1 / fold_count)
    error = (high - low) / (2 * stats.norm.ppf(0.975))
    detectable = error * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    found = {"difference": mean, "low": low, "high": high, "detectable": float(detectable)}
    return found | {"fold_difference": float(differences.mean()), "p_value": p_value}


def comparisons(predictions: pd.DataFrame, pairs: list[tuple[str, str]], fold_count: int, seed: int) -> pd.DataFrame:
    """`compare` for several pairs of models; indexed by "first − second"."""
    rows = {
        f"{first} − {second}": compare(predictions, first, second, fold_count, seed=seed) for first, second in pairs
    }
    return pd.DataFrame(rows).T.rename_axis("pair")


def out_of_fold(
    histories: Histories, name: str, runs: list[Run], fold_count: int, predict: Callable | None = None
) -> pd.DataFrame:
    """Test-fold predictions of `cross_validate`'s runs in the shape of `study.accuracy.evaluate`.

    With `predict(model, histories, customers)` they are made anew, for example with a part of the model switched off.
    """
    frames = []
    for place, run in enumerate(runs):
        position = run.predictions["position"].to_numpy()
        found = run.predictions.filter(like="class_").to_numpy()
        probabilities = found if predict is None else predict(run.model, histories, position)
        frames.append(prediction_frame(histories, name, *divmod(place, fold_count), position, probabilities))
    return pd.concat(frames, ignore_index=True)
