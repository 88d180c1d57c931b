"""Predictions of trainings on chosen customers, kept on disk: what cross-validation by folds does not cover."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray

from lib import dependencies, paths
from lib.data.histories import Histories
from lib.storage import read_checksummed, write_checksummed
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import fingerprint, predict, train


def probabilities(
    histories: Histories,
    learners: Integer[ndarray, " learners"],
    others: Integer[ndarray, " others"],
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    title: str,
) -> Float[ndarray, "others classes"]:
    """Class probabilities of the other customers from a model trained on the learners.

    Loaded when configs, data, customers and code are unchanged; a damaged file is named on stderr and made anew.
    Nothing of the others but their events, at prediction, is read.
    """
    decisive = (dependencies.code_hash([Path(__file__)]), [each.tolist() for each in (learners, others)], seed)
    digest = fingerprint(histories, model_config, config, *decisive)
    file = paths.MEASUREMENTS / "local" / "trainings" / f"{model_config.attention}-{digest}.npy"
    content = read_checksummed(file)
    if content is None:
        model, _ = train(histories, learners, model_config, config, seed, title)
        stream = io.BytesIO()
        np.save(stream, predict(model, histories, others, config.evaluation_events))
        content = stream.getvalue()
        write_checksummed(file, content)
    return np.load(io.BytesIO(content))
