"""How well basis functions hold a history after one regression: in expectation, simulated, and of customers."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from lib.attention.continuous_memory import basis_values, cell_middles, gaussian_basis, ridge_coefficients
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.runs import build_classifier
from study.insight import batch_of

# Events over which a signal's correlation falls by e; independent events have none.
SIGNALS = {"white noise": 0.0, "correlated over 8 events": 8.0, "correlated over 64 events": 64.0}


def reconstruction_matrix(
    length: int, basis: int, width: float = 1.0, ridge: float = 0.5
) -> Float[Tensor, "length length"]:
    """What one regression makes of every event of a history: the signal at its own places."""
    design = basis_values(cell_middles(length), gaussian_basis(basis, (width,)))
    return design @ ridge_coefficients(design[None], ridge)[0]


def expected_squared_error(matrix: Float[Tensor, "length length"], correlation_length: float) -> float:
    """Share of the variance missed of a stationary signal whose correlation falls by e over that many events."""
    index = torch.arange(len(matrix), dtype=torch.float64)
    lags = (index[:, None] - index).abs()
    covariance = torch.exp(-lags / correlation_length) if correlation_length else (lags == 0).double()
    missed = torch.eye(len(matrix), dtype=torch.float64) - matrix
    return float((missed @ covariance * missed).sum() / len(matrix))


def drawn_signals(length: int, correlation_length: float, draws: int, seed: int) -> Float[Tensor, "length draws"]:
    """Signals of unit variance whose correlation falls by e over so many events, or independent events for zero."""
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(length, draws, generator=generator, dtype=torch.float64)
    keep = math.exp(-1 / correlation_length) if correlation_length else 0.0
    for place in range(1, length):
        signal[place] = keep * signal[place - 1] + math.sqrt(1 - keep**2) * signal[place]
    return signal


def history_errors(
    matrix: Float[Tensor, "length length"], histories: Float[Tensor, "customers length model_dim"]
) -> Float[np.ndarray, " customers"]:
    """Share of the variance missed of each customer's embedded events, about their own mean."""
    signal = (histories - histories.mean(1, keepdim=True)).double()
    missed = signal - matrix @ signal
    return (missed.square().sum((1, 2)) / signal.square().sum((1, 2))).numpy()


def embedded_histories(
    histories: Histories, length: int, customers: int, model_dim: int, seed: int
) -> Float[Tensor, "customers length model_dim"]:
    """The last events, through an untrained embedding, of the first customers that have so many.

    Raises ValueError if no customer has.
    """
    long = np.flatnonzero(histories.lengths >= length)[:customers]
    if not len(long):
        raise ValueError(f"no customer has {length} events")
    model = build_classifier(histories, ModelConfig(model_dim=model_dim), seed).eval()
    batch = batch_of(histories, long, length)
    with torch.no_grad():
        return model.embedding(batch.categories, batch.numbers, batch.days)


def reconstruction_rows(
    settings: Sequence[dict[str, int | float]], axis: str, length: int, draws: int, seed: int, real: Tensor
) -> pd.DataFrame:
    """Squared error of each signal for each setting of `reconstruction_matrix`: expected, simulated, and of customers.

    `x` is the setting's value of `axis`; simulated errors come with their standard error, customers' are medians.
    """
    rows = []
    for setting in settings:
        matrix, x = reconstruction_matrix(length, **setting), setting[axis]
        for name, correlation_length in SIGNALS.items():
            signal = drawn_signals(length, correlation_length, draws, seed)
            drawn = (signal - matrix @ signal).square().mean(0).numpy()
            rows.append((name, x, "expected_squared_error", expected_squared_error(matrix, correlation_length)))
            rows.append((name, x, "squared_error", drawn.mean()))
            rows.append((name, x, "squared_error_standard_error", drawn.std(ddof=1) / math.sqrt(draws)))
        rows.append(("embedded histories", x, "squared_error", float(np.median(history_errors(matrix, real)))))
    return pd.DataFrame(rows, columns=["split", "x", "metric", "value"]).assign(axis=axis)


def mean_densities(densities: pd.DataFrame) -> pd.DataFrame:
    """Mean over queries of the Gaussians with columns `mean` and `width`, at equal steps of [0, 1], by head and run."""
    places, rows = np.linspace(0, 1, 101), []
    for (head, run), of_head in densities.groupby(["head", "split"]):
        heights = norm.pdf(places[:, None], of_head["mean"].to_numpy(), of_head["width"].to_numpy()).mean(1)
        rows.append(pd.DataFrame({"model": f"head {head}", "split": run, "x": places, "value": heights}))
    return pd.concat(rows, ignore_index=True).assign(axis="place", metric="density")
