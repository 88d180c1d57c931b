"""Predictions of trainings on chosen customers, kept on disk: what cross-validation by folds does not cover."""

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy import ndarray

from lib import data, dependencies, paths, train
from lib.data import Histories
from lib.model import ModelConfig
from lib.train import TrainConfig


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

    Loaded when configs, data, customers and code are unchanged. Nothing of the others but their events, at prediction,
    is read.
    """
    digest = name(histories, learners, others, model_config, config, seed)
    file = paths.MEASUREMENTS / "local" / "trainings" / f"{model_config.attention}-{digest}.npy"
    if not file.exists():
        model, _ = train.train(histories, learners, model_config, config, seed, title)
        save(file, train.predict(model, histories, others, config.evaluation_events))
    return np.load(file)


def name(
    histories: Histories,
    learners: Integer[ndarray, " learners"],
    others: Integer[ndarray, " others"],
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
) -> str:
    """Digest of everything that decides the probabilities."""
    settings = [dataclasses.asdict(each) for each in (model_config, config)]
    code = dependencies.code_hash([Path(__file__), *train.sources(model_config.attention)])
    known = [data.vocabulary(column).tolist() for column in data.CATEGORIES]
    customers = [each.tolist() for each in (learners, others)]
    key = json.dumps([settings, histories.checksum, known, customers, code, seed, torch.__version__])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def save(file: Path, array: ndarray) -> None:
    """Write under a temporary name, then rename: a file is whole or absent."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    with os.fdopen(descriptor, "wb") as stream:
        np.save(stream, array)
    os.replace(partial, file)
