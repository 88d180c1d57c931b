"""What training costs: seconds per epoch or fit, and peak memory, each in a process of its own after a warm-up."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator

from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.speed.fresh_process import apart
from study.speed.memory import map_blocks_separately, peak_memory

COLUMNS = ("epoch_seconds", "peak_memory_mib")
TIMED_EPOCHS = 3


def training_cost(
    histories: Histories, customers: np.ndarray, model: ModelConfig, config: TrainConfig
) -> dict[str, float]:
    """Median seconds of an epoch over these customers, and the rise of resident memory while one is trained, MiB.

    Missing where the machine's memory ran out.
    """
    return _measured((_epoch_seconds, _epoch_memory), histories, customers, model, config)


def fitting_cost(model: BaseEstimator, table: np.ndarray | sparse.csr_array, labels: np.ndarray) -> dict[str, float]:
    """Seconds of one whole fit of a classical model, and the rise of resident memory during it, MiB; or missing."""
    return _measured((_fit_seconds, _fit_memory), model, table, labels)


def _measured(functions: tuple[Callable[..., float], ...], *arguments: object) -> dict[str, float]:
    found = dict.fromkeys(COLUMNS, math.nan)
    for column, function in zip(COLUMNS, functions, strict=True):
        with suppress(MemoryError):
            found[column] = apart(function, *arguments)
    return found


def _epoch_seconds(histories, customers, model, config) -> float:
    _, history = train(histories, customers, model, replace(config, epochs=1 + TIMED_EPOCHS), 0, "cost")
    return float(history["seconds"].iloc[1:].median())


def _epoch_memory(histories, customers, model, config) -> float:
    map_blocks_separately()
    once = replace(config, epochs=1)
    train(histories, customers, model, once, 0, "warm-up")
    with peak_memory() as peak:
        train(histories, customers, model, once, 0, "cost")
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
