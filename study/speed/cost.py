"""What training costs: seconds and peak memory, each in a process of its own."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator

from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.speed.fresh_process import map_blocks_separately, peak_mib, run_in_fresh_process

TIMED_EPOCHS = 3


def training_cost(
    histories: Histories, customers: np.ndarray, model: ModelConfig, config: TrainConfig
) -> dict[str, float]:
    """Median seconds of an epoch over these customers, and the rise of resident memory while one is trained, MiB.

    Each in a process of its own after a warm-up; missing where the machine's memory ran out.
    """
    given = (histories, customers, model, config)
    return {
        "epoch_seconds": _or_missing(_epoch_seconds, *given),
        "peak_memory_mib": _or_missing(_rise, _train_epoch, *given),
    }


def fitting_cost(model: BaseEstimator, table: np.ndarray | sparse.csr_array, labels: np.ndarray) -> dict[str, float]:
    """The same of one whole fit of a classical model."""
    return {
        "epoch_seconds": _or_missing(_seconds, model.fit, table, labels),
        "peak_memory_mib": _or_missing(_rise, model.fit, table, labels),
    }


def _or_missing(function: Callable[..., float], *arguments: object) -> float:
    try:
        return run_in_fresh_process(function, *arguments)
    except MemoryError:
        return math.nan


def _epoch_seconds(histories, customers, model, config) -> float:
    _, history = train(histories, customers, model, replace(config, epochs=1 + TIMED_EPOCHS), 0, "cost")
    return float(history["seconds"].iloc[1:].median())


def _train_epoch(histories, customers, model, config) -> None:
    train(histories, customers, model, replace(config, epochs=1), 0, "cost")


def _seconds(work, *arguments) -> float:
    work(*arguments)
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def _rise(work, *arguments) -> float:
    map_blocks_separately()
    work(*arguments)
    return peak_mib(work, *arguments)
