"""How well basis functions hold a history after one regression, and Gaussian reads checked by quadrature."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from lib.attention.continuous_memory import (
    basis_values,
    cell_middles,
    expected_basis,
    gaussian_basis,
    gaussian_divergence,
    ridge_coefficients,
)
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.runs import build_classifier
from study.insight import batch_of

LEAST_EXPECTATION = 1e-200  # below it, the integrand leaves the range of double precision
# Events over which a signal's correlation falls by e; independent events have none.
SIGNALS = {"white noise": 0.0, "correlated over 8 events": 8.0, "correlated over 64 events": 64.0}


def reconstruction_matrix(
    length: int, basis: int, width: float = 1.0, ridge: float = 0.5
) -> Float[Tensor, "length length"]:
    """What one regression makes of every event of a history: the signal at its own places."""
    design = basis_values(cell_middles(length), gaussian_basis(basis, (width,)))
    return design @ ridge_coefficients(design[None], ridge)[0]


def expected_error(matrix: Float[Tensor, "length length"], correlation_length: float) -> float:
    """Relative root mean square error for a stationary signal whose correlation falls by e over that many events."""
    index = torch.arange(len(matrix), dtype=torch.float64)
    lags = (index[:, None] - index).abs()
    covariance = torch.exp(-lags / correlation_length) if correlation_length else (lags == 0).double()
    missed = torch.eye(len(matrix), dtype=torch.float64) - matrix
    return float(torch.sqrt((missed @ covariance * missed).sum() / len(matrix)))


def drawn_signals(length: int, correlation_length: float, draws: int, seed: int) -> Float[Tensor, "length draws"]:
    """Signals of unit variance whose correlation falls by e over so many events, or independent events for zero."""
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(length, draws, generator=generator, dtype=torch.float64)
    keep = math.exp(-1 / correlation_length) if correlation_length else 0.0
    for place in range(1, length):
        signal[place] = keep * signal[place - 1] + math.sqrt(1 - keep**2) * signal[place]
    return signal


def simulated_errors(
    matrix: Float[Tensor, "length length"], correlation_length: float, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    """Mean squared errors of drawn signals."""
    signal = drawn_signals(len(matrix), correlation_length, draws, seed)
    return (signal - matrix @ signal).square().mean(0).numpy()


def history_errors(
    matrix: Float[Tensor, "length length"], histories: Float[Tensor, "customers length model_dim"]
) -> Float[np.ndarray, " customers"]:
    """Relative root mean square error for each customer's embedded events, about their own mean."""
    signal = (histories - histories.mean(1, keepdim=True)).double()
    missed = signal - matrix @ signal
    return (missed.square().sum((1, 2)) / signal.square().sum((1, 2))).sqrt().numpy()


def resolution(matrix: Float[Tensor, "length length"]) -> float:
    """Full width at half maximum, in events, of what a single event in the middle becomes."""
    spread = matrix[:, len(matrix) // 2]
    return float((spread > spread.max() / 2).sum())


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

    `x` is the setting's value of `axis`; simulated errors come with their standard error, customers' with quartiles.
    """
    rows = []
    for setting in settings:
        matrix = reconstruction_matrix(length, **setting)
        for name, correlation_length in SIGNALS.items():
            drawn = simulated_errors(matrix, correlation_length, draws, seed)
            spread = drawn.std(ddof=1) / math.sqrt(draws)
            measured = {"expected_squared_error": expected_error(matrix, correlation_length) ** 2}
            measured |= {"squared_error": drawn.mean(), "squared_error_standard_error": spread}
            rows += [(name, setting[axis], metric, value) for metric, value in measured.items()]
        errors = history_errors(matrix, real) ** 2
        for metric, share in (("squared_error", 0.5), ("squared_error_low", 0.25), ("squared_error_high", 0.75)):
            rows.append(("embedded histories", setting[axis], metric, float(np.quantile(errors, share))))
        rows.append(("all", setting[axis], "degrees_of_freedom", float(matrix.trace())))
        rows.append(("all", setting[axis], "resolution_events", resolution(matrix)))
    return pd.DataFrame(rows, columns=["split", "x", "metric", "value"]).assign(axis=axis)


def quadrature_rows(means: Sequence[float], deviations: Sequence[float], basis: int) -> pd.DataFrame:
    """Largest relative difference over the basis between the closed form of E_p[ψ] and adaptive quadrature.

    `x` is the deviation of p. The integrand's mass lies within twelve deviations of a known peak.
    """
    functions, rows = gaussian_basis(basis), []
    width = functions.deviations[0]
    for mean in means:
        for deviation in deviations:
            place, variance = (torch.tensor([value], dtype=torch.float64) for value in (mean, deviation**2))
            closed = expected_basis(place, variance, functions)[0].tolist()
            total, worst = math.hypot(deviation, width), 0.0
            for centre, value in zip(functions.centres.tolist(), closed, strict=True):
                peak = (mean * width**2 + centre * deviation**2) / total**2
                reach = 12 * deviation * width / total
                integral = quad(product, peak - reach, peak + reach, (mean, deviation, centre, width), epsabs=0)[0]
                if max(value, integral) > LEAST_EXPECTATION:
                    worst = max(worst, abs(value - integral) / max(integral, LEAST_EXPECTATION))
            rows.append((f"mean {mean:g}", deviation, worst))
    table = pd.DataFrame(rows, columns=["split", "x", "value"])
    return table.assign(axis="deviation", metric="relative_difference")


def product(t: float, mean: float, deviation: float, centre: float, width: float) -> float:
    """p(t) ψ(t)."""
    return float(np.exp(norm.logpdf(t, mean, deviation) + norm.logpdf(t, centre, width)))


def divergence_error(deviations: Sequence[float], prior: float) -> float:
    """Largest difference between the regulariser and the integral of p log(p / prior), both in nats."""
    worst = 0.0
    for deviation in deviations:
        closed = float(gaussian_divergence(torch.tensor(deviation**2, dtype=torch.float64), prior))
        integral = quad(divergence_density, -12 * deviation, 12 * deviation, (deviation, prior))[0]
        worst = max(worst, abs(closed - integral) / max(1.0, closed))
    return worst


def divergence_density(t: float, deviation: float, prior: float) -> float:
    """p(t) log(p(t) / prior(t))."""
    return float(norm.pdf(t, 0, deviation) * (norm.logpdf(t, 0, deviation) - norm.logpdf(t, 0, prior)))


def mass_inside(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Share of a Gaussian's mass between 0 and 1, where the signal is."""
    return norm.cdf(1, mean, deviation) - norm.cdf(0, mean, deviation)


def mean_densities(densities: pd.DataFrame) -> pd.DataFrame:
    """Mean over queries of the Gaussians with columns `mean` and `width`, at equal steps of [0, 1], by head and run."""
    places, rows = np.linspace(0, 1, 101), []
    for (head, run), of_head in densities.groupby(["head", "split"]):
        heights = norm.pdf(places[:, None], of_head["mean"].to_numpy(), of_head["width"].to_numpy()).mean(1)
        rows.append(pd.DataFrame({"model": f"head {head}", "split": run, "x": places, "value": heights}))
    return pd.concat(rows, ignore_index=True).assign(axis="place", metric="density")
