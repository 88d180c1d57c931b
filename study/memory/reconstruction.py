"""How well basis functions hold a history after one regression: in expectation, simulated, and of customers."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.continuous_memory import basis_values, cell_middles, gaussian_basis, ridge_coefficients
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.runs import build_classifier
from study.insight import batch_of

SIGNALS = {
    "white noise": 0.0,
    "correlated over 8 events": math.exp(-1 / 8),
    "correlated over 64 events": math.exp(-1 / 64),
}
"""Stationary signals of unit variance, by the correlation of neighbouring events."""


def reconstruction_matrix(
    length: int, basis: int, width: float = 1.0, ridge: float = 0.5
) -> Float[Tensor, "length length"]:
    """What one regression makes of every event of a history: the signal at its own places."""
    design = basis_values(cell_middles(length), gaussian_basis(basis, (width,)))
    return design @ ridge_coefficients(design[None], ridge)[0]


def expected_squared_error(matrix: Float[Tensor, "length length"], correlation: float) -> float:
    """Share of the variance that is missed of a signal whose neighbours have this correlation."""
    index = torch.arange(len(matrix), dtype=torch.float64)
    covariance = correlation ** (index[:, None] - index).abs()
    missed = torch.eye(len(matrix), dtype=torch.float64) - matrix
    return float((missed @ covariance * missed).sum() / len(matrix))


def drawn_signals(length: int, correlation: float, draws: int, seed: int) -> Float[Tensor, "length draws"]:
    """Signals of unit variance whose neighbours have this correlation."""
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(length, draws, generator=generator, dtype=torch.float64)
    for place in range(1, length):
        signal[place] = correlation * signal[place - 1] + math.sqrt(1 - correlation**2) * signal[place]
    return signal


def embedded_histories(
    histories: Histories, length: int, customers: int, seed: int
) -> Float[Tensor, "customers length model_dim"]:
    """The last events, through an untrained embedding, of the first customers that have so many."""
    long = np.flatnonzero(histories.lengths >= length)[:customers]
    model = build_classifier(histories, ModelConfig(), seed).eval()
    batch = batch_of(histories, long, length)
    with torch.no_grad():
        return model.embedding(batch.categories, batch.numbers, batch.days)


def reconstruction_rows(
    settings: Sequence[dict[str, int | float]], axis: str, length: int, draws: int, seed: int, real: Tensor
) -> pd.DataFrame:
    """Share of the variance missed, for each setting of `reconstruction_matrix`: expected, simulated, and of customers.

    `x` is the setting's value of `axis`; simulated errors come with their standard error, customers' are medians.
    """
    centred, rows = (real - real.mean(1, keepdim=True)).double(), []
    for setting in settings:
        matrix, x = reconstruction_matrix(length, **setting), setting[axis]
        for name, correlation in SIGNALS.items():
            signal = drawn_signals(length, correlation, draws, seed)
            drawn = (signal - matrix @ signal).square().mean(0).numpy()
            rows.append((name, x, "expected_squared_error", expected_squared_error(matrix, correlation)))
            rows.append((name, x, "squared_error", drawn.mean()))
            rows.append((name, x, "squared_error_standard_error", drawn.std(ddof=1) / math.sqrt(draws)))
        missed = (centred - matrix @ centred).square().sum((1, 2)) / centred.square().sum((1, 2))
        rows.append(("embedded histories", x, "squared_error", float(missed.quantile(0.5))))
    return pd.DataFrame(rows, columns=["split", "x", "metric", "value"]).assign(axis=axis)
