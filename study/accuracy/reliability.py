"""Whether probabilities are calibrated: calibration error, and what chance alone would give.

Of two classes the probability of the second is judged; of more the probability of the most probable one.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from study.accuracy import evaluate
from study.accuracy.evaluate import Labels, Scores

BINS = 10
SIMULATIONS = 1000


def confidences(
    scores: Scores, labels: Labels
) -> tuple[Float[ndarray, "repeats customers"], Bool[ndarray, "repeats customers"]]:
    """The probability that is judged, and whether its class is the true one."""
    if scores.shape[-1] == 2:
        return scores[..., 1], np.broadcast_to(labels == 1, scores.shape[:2])
    return scores.max(-1), scores.argmax(-1) == labels


def calibration_error(
    probability: Float[ndarray, " customers"], correct: Bool[ndarray, "draws customers"], bins: int = BINS
) -> Float[ndarray, " draws"]:
    """Expected calibration error: mean gap of probability and frequency over bins of equal numbers of customers."""
    order, count = np.argsort(probability, kind="stable"), len(probability)
    starts = np.unique(np.arange(bins) * count // bins)
    return np.abs(np.add.reduceat((probability - correct)[:, order], starts, axis=1)).sum(1) / count


def calibration(scores: Scores, labels: Labels, seed: int) -> dict[str, float]:
    """Calibration error averaged over repeats, and its 95 % quantile if the probabilities were true.

    The error is positive even then, because frequencies in bins vary: labels are drawn from the probabilities, with the
    same uniform numbers in every repeat, and scored alike.
    """
    probability, correct = confidences(scores, labels)
    uniforms = np.random.default_rng(seed).random((SIMULATIONS, len(labels)))
    found = [calibration_error(one, truth[None])[0] for one, truth in zip(probability, correct, strict=True)]
    chance = np.mean([calibration_error(one, uniforms < one) for one in probability], axis=0)
    return {
        "calibration_error": float(np.mean(found)),
        "calibration_error_limit": float(np.quantile(chance, 0.95)),
    }


def calibrations(predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The calibration of every model; indexed by model."""
    models = predictions["model"].unique()
    rows = {name: calibration(*evaluate.score_table(predictions, name), seed) for name in models}
    return pd.DataFrame(rows).T.rename_axis("model")
