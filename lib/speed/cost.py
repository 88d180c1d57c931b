"""What training costs: seconds per epoch or fit, and peak memory, each in a process of its own after a warm-up."""

import time
from dataclasses import replace

import numpy as np
from sklearn.base import ClassifierMixin

from lib import train
from lib.data import Histories
from lib.speed.fresh_process import apart
from lib.speed.memory import map_blocks_separately, peak_memory
from lib.train import TrainConfig
from lib.training.model import ModelConfig

COLUMNS = ("epoch_seconds", "peak_memory_mib")


def training_cost(
    histories: Histories, customers: np.ndarray, model: ModelConfig, config: TrainConfig, epochs: int = 3
) -> dict[str, float]:
    """Median seconds of an epoch over these customers, and the rise of resident memory while one is trained, MiB."""
    arguments = (histories, customers, model, config, epochs)
    return dict(zip(COLUMNS, (apart(_epoch_seconds, *arguments), apart(_epoch_memory, *arguments)), strict=True))


def fitting_cost(model: ClassifierMixin, table: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Seconds of one whole fit of a classical model, and the rise of resident memory during it, MiB."""
    arguments = (model, table, labels)
    return dict(zip(COLUMNS, (apart(_fit_seconds, *arguments), apart(_fit_memory, *arguments)), strict=True))


def _epoch_seconds(histories, customers, model, config, epochs) -> float:
    _, history = train.train(histories, customers, model, replace(config, epochs=1 + epochs), 0, "cost")
    return float(history["seconds"].iloc[1:].median())


def _epoch_memory(histories, customers, model, config, epochs) -> float:
    map_blocks_separately()
    once = replace(config, epochs=1)
    train.train(histories, customers, model, once, 0, "warm-up")
    with peak_memory() as peak:
        train.train(histories, customers, model, once, 0, "cost")
    return peak.mib


def _fit_seconds(model, table, labels) -> float:
    model.fit(table, labels)
    started = time.perf_counter()
    model.fit(table, labels)
    return time.perf_counter() - started


def _fit_memory(model, table, labels) -> float:
    map_blocks_separately()
    model.fit(table, labels)
    with peak_memory() as peak:
        model.fit(table, labels)
    return peak.mib
