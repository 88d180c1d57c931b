"""Accuracy with its uncertainty: scores out of fold, bootstrap intervals, paired differences, calibration.

Predictions are one frame for all models: model, seed (the repeat), fold, position (of the customer), label, seconds (of
the training) and the probabilities class_0 to class_{K-1}. Every customer is predicted once per repeat, by a model that
never saw it. A resample of customers is a row of weights (how often each was drawn).
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
BATCH = 500  # resamples scored together: bounds the memory
SIMULATIONS = 1000  # of labels, were the probabilities true

Probabilities = Float[ndarray, "customers classes"]
Scores = Float[ndarray, "repeats customers classes"]
Labels = Integer[ndarray, " customers"]
Weights = Float[ndarray, "resamples customers"]
Values = Float[ndarray, " resamples"]
Positions = Integer[ndarray, " customers"]


def prediction_frame(
    histories: Histories, model: str, seed: int, fold: int, position: Positions, probabilities: Probabilities
) -> pd.DataFrame:
    """Predictions of one fold in the one shape of this module."""
    keys = {"model": model, "seed": seed, "fold": fold, "position": position, "label": histories.labels[position]}
    return pd.DataFrame(keys | {f"class_{number}": column for number, column in enumerate(probabilities.T)})


def score_table(predictions: pd.DataFrame, model: str) -> tuple[Scores, Labels]:
    """One model's probabilities and the labels. Raises ValueError unless every repeat predicts each customer once."""
    chosen = predictions[predictions["model"] == model]
    columns = chosen.filter(like="class_").columns
    tables = [chosen.pivot(index="seed", columns="position", values=name) for name in columns]
    scores = np.stack([table.to_numpy(np.float64) for table in tables], axis=-1)
    if np.isnan(scores).any():
        raise ValueError(f"{model}: a customer is missing from a repeat")
    return scores, chosen.drop_duplicates("position").sort_values("position")["label"].to_numpy()


def separation(score: Float[ndarray, " customers"], positive: Bool[ndarray, " customers"], weights: Weights) -> Values:
    """Area under the ROC curve: the weighted share of pairs that are ranked correctly, ties counting half."""
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ranked = weights[:, order]
    inside, outside = (np.add.reduceat(ranked * side[order], ties, axis=1) for side in (positive, ~positive))
    below = outside.cumsum(1) - outside / 2
    return (inside * below).sum(1) / (inside.sum(1) * outside.sum(1))


def roc_auc(probabilities: Probabilities, labels: Labels, weights: Weights) -> Values:
    """Area under the ROC curve; of more than two classes the mean over classes, each against the others."""
    classes = probabilities.shape[1]
    chosen = [1] if classes == 2 else range(classes)
    return np.mean([separation(probabilities[:, each], labels == each, weights) for each in chosen], axis=0)


def accuracy(probabilities: Probabilities, labels: Labels, weights: Weights) -> Values:
    """Share of customers whose most probable class is theirs."""
    return weights @ (probabilities.argmax(1) == labels) / weights.sum(1)


def log_loss(probabilities: Probabilities, labels: Labels, weights: Weights) -> Values:
    """Mean of minus the logarithm of the own class's probability, in nats."""
    own = probabilities[np.arange(len(labels)), labels]
    return weights @ -np.log(own.clip(np.finfo(float).eps)) / weights.sum(1)


METRICS = {"roc_auc": roc_auc, "accuracy": accuracy, "log_loss": log_loss}


def value(metric: str, scores: Scores, labels: Labels) -> Float[ndarray, " repeats"]:
    """The metric of every repeat."""
    once = np.ones((1, len(labels)))
    return np.concatenate([METRICS[metric](repeat, labels, once) for repeat in scores])


def resamples(labels: Labels, seed: int) -> Iterator[Weights]:
    """How often each customer was drawn: with replacement, as many of every label as there are."""
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(0, RESAMPLES, BATCH):
        drawn = np.concatenate([generator.choice(group, (BATCH, len(group))) for group in groups], axis=1)
        places = drawn + len(labels) * np.arange(BATCH)[:, None]
        yield np.bincount(places.ravel(), minlength=BATCH * len(labels)).reshape(BATCH, -1).astype(float)


def bootstrap(scores: Scores, labels: Labels, metric: str, seed: int) -> Float[ndarray, " draws"]:
    """The metric averaged over repeats: first of the customers as they are, then of every resample of them."""
    weights = (np.ones((1, len(labels))), *resamples(labels, seed))
    return np.concatenate(
        [np.mean([METRICS[metric](repeat, labels, each) for repeat in scores], axis=0) for each in weights]
    )


def interval(
    scores: Scores,
    labels: Labels,
    metric: str,
    minus: Float[ndarray, "other_repeats customers classes"] | None = None,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A metric, or the paired difference to that of other scores, with its 95 % bootstrap interval over customers."""
    drawn = bootstrap(scores, labels, metric, seed)
    if minus is not None:
        drawn = drawn - bootstrap(minus, labels, metric, seed)
    low, high = np.percentile(drawn[1:], [2.5, 97.5])
    return float(drawn[0]), float(low), float(high)


def score_rows(predictions: pd.DataFrame, metrics: list[str] | None = None, seed: int = 0) -> pd.DataFrame:
    """Every metric of every model, as columns model, metric, value, low, high."""
    tables = {model: score_table(predictions, model) for model in predictions["model"].unique()}
    rows = [
        (model, metric, *interval(*table, metric, seed=seed))
        for model, table in tables.items()
        for metric in metrics or METRICS
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high"])


def spread(predictions: pd.DataFrame) -> pd.DataFrame:
    """By model, mean and standard deviation of ROC-AUC over repeats."""
    models = predictions["model"].unique()
    values = pd.DataFrame({model: value("roc_auc", *score_table(predictions, model)) for model in models})
    return values.agg(["mean", "std"]).T.rename_axis("model")


def comparisons(predictions: pd.DataFrame, pairs: list[tuple[str, str]], seed: int = 0) -> pd.DataFrame:
    """Paired differences in ROC-AUC, first minus second, with 95 % intervals that hold for all the pairs at once.

    Of pair j let d_j be the difference found, d*_j that of a resample of customers (the same one for all pairs) and s_j
    its standard deviation over resamples; q is the 95 % quantile of max_j |d*_j − d_j| / s_j, the interval d_j ± q s_j
    (max-t; Westfall and Young 1993). Only repeats that both models have enter. `detectable` is the difference that such
    an interval would have kept from zero with a probability of 80 %. Indexed by "first − second".
    """
    repeats = {name: frozenset(chosen["seed"]) for name, chosen in predictions.groupby("model")}
    drawn = {}
    for pair in pairs:
        shared = repeats[pair[0]] & repeats[pair[1]]
        for model in [model for model in pair if (model, shared) not in drawn]:
            table = score_table(predictions[predictions["seed"].isin(shared)], model)
            drawn[model, shared] = bootstrap(*table, "roc_auc", seed)
        drawn[pair] = drawn[pair[0], shared] - drawn[pair[1], shared]
    draws = np.stack([drawn[pair] for pair in pairs])
    found, error = draws[:, 0], draws[:, 1:].std(1)
    distance = np.abs(draws[:, 1:] - found[:, None])
    largest = np.divide(distance, error[:, None], out=np.zeros_like(distance), where=error[:, None] > 0).max(0)
    reach = np.quantile(largest, 0.95)
    table = {"difference": found, "low": found - reach * error, "high": found + reach * error}
    table["detectable"] = (reach + stats.norm.ppf(0.8)) * error
    return pd.DataFrame(table, index=pd.Index([" − ".join(pair) for pair in pairs], name="pair"))


def out_of_fold(
    histories: Histories, name: str, runs: list[Run], fold_count: int, predict: Callable | None = None
) -> pd.DataFrame:
    """Test-fold predictions of `cross_validate`'s runs, or what `predict(model, histories, customers)` makes."""
    frames = []
    for place, run in enumerate(runs):
        position = run.predictions["position"].to_numpy()
        found = run.predictions.filter(like="class_").to_numpy()
        probabilities = found if predict is None else predict(run.model, histories, position)
        frame = prediction_frame(histories, name, *divmod(place, fold_count), position, probabilities)
        frames.append(frame.assign(seconds=run.history["seconds"].sum()))
    return pd.concat(frames, ignore_index=True)


def calibration_error(
    probability: Float[ndarray, " customers"], correct: Bool[ndarray, "draws customers"], bins: int = 10
) -> Float[ndarray, " draws"]:
    """Expected calibration error: mean gap of probability and frequency over bins of equal numbers of customers."""
    order, count = np.argsort(probability, kind="stable"), len(probability)
    starts = np.unique(np.arange(bins) * count // bins)
    return np.abs(np.add.reduceat((probability - correct)[:, order], starts, axis=1)).sum(1) / count


def calibration(scores: Scores, labels: Labels, seed: int) -> tuple[float, float]:
    """Calibration error averaged over repeats, and its 95 % quantile if the probabilities were true.

    Of two classes the second's probability is judged, of more that of the most probable one. Even true probabilities
    have an error: labels are drawn from them, with the same uniform numbers in every repeat, and scored.
    """
    if scores.shape[-1] == 2:
        probability, correct = scores[..., 1], np.broadcast_to(labels == 1, scores.shape[:2])
    else:
        probability, correct = scores.max(-1), scores.argmax(-1) == labels
    uniforms = np.random.default_rng(seed).random((SIMULATIONS, len(labels)))
    found = [calibration_error(one, truth[None])[0] for one, truth in zip(probability, correct, strict=True)]
    chance = np.mean([calibration_error(one, uniforms < one) for one in probability], axis=0)
    return float(np.mean(found)), float(np.quantile(chance, 0.95))


def calibrations(predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Calibration error of every model and what chance stays below in 95 % of cases."""
    rows = {name: calibration(*score_table(predictions, name), seed) for name in predictions["model"].unique()}
    columns = ["calibration_error", "calibration_error_limit"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")
