"""What a continuous memory keeps: exact linear maps from events to what is read back, and their spectrum.

At given times of resampling everything here is linear in the events, so that no error has to be simulated.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.baselines import BinnedMemoryAttention, bin_overlaps, bin_update
from lib.attention.continuous_memory import (
    Update,
    basis_values,
    cell_middles,
    gaussian_basis,
    quantile_times,
    ridge_update,
)
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings

READ_AT = 200
"""Points of a segment over which what is read is averaged."""


@dataclass(frozen=True)
class MemoryConfig:
    """Geometry of a memory; `sampling` is one of the ∞-former's or "bins", `width` in units of the centres' spacing.

    The segment with the number `marked` is followed while others arrive. With a sticky sampling, every later segment
    pays it the share `attended` of its attention, wherever the memory holds it by then, and the rest evenly.
    """

    sampling: str = "uniform"
    basis: int = 64
    segment: int = 128
    samples: int = 256
    contraction: float = 0.75
    width: float = 1.0
    ridge: float = 0.5
    attended: float = 0.0
    marked: int = 6
    bins: int = 128


@dataclass(frozen=True)
class Remembered:
    """After some segments: the coefficients as linear maps of every segment's events, and where each segment lies."""

    maps: Float[Tensor, "segments basis events"]
    edges: Float[Tensor, " edges"]
    config: MemoryConfig

    def reader(self, segment: int) -> Float[Tensor, " basis"]:
        """Weights of the coefficients in the mean of the signal over a segment's place."""
        low, high = self.edges[segment], self.edges[segment + 1]
        if self.config.sampling == "bins":
            width = (high - low).clamp(min=1e-12)
            return bin_overlaps(low.reshape(1, 1), width.reshape(1, 1), self.config.basis)[0, :, 0] / (
                width * self.config.basis
            )
        positions = low + (high - low) * cell_middles(READ_AT)
        return basis_values(positions, functions(self.config)).mean(0)

    def responses(self, segment: int) -> Float[Tensor, "segments events"]:
        """How the mean read in a segment's place depends on every event."""
        return torch.einsum("n,sne->se", self.reader(segment), self.maps)


def functions(config: MemoryConfig):
    """The radial basis of the configuration."""
    return gaussian_basis(config.basis, (config.width,))


def update_of(config: MemoryConfig, seen: int) -> tuple[float, Update]:
    """Share kept of the past and the matrices of an update after `seen` whole segments."""
    kept = 0.0 if seen == 0 else config.contraction
    if config.sampling in ("even", "bins"):
        kept = seen / (seen + 1)
    share, count = torch.tensor([kept], dtype=torch.float64), torch.tensor([config.segment])
    if config.sampling == "bins":
        return kept, bin_update(config.basis, share, count, config.segment)
    return kept, ridge_update(functions(config), share, count, config.samples, config.segment, config.ridge)


def transition_matrix(config: MemoryConfig) -> Float[Tensor, "basis basis"]:
    """T of the recurrence B ← T B + G X when the past is read back at equal steps."""
    readback = basis_values(cell_middles(config.samples), functions(config))
    return update_of(config, 1)[1].past[0] @ readback


def resampling_times(
    config: MemoryConfig, edges: Float[Tensor, " edges"], generator: torch.Generator | None
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " bin_edges"]]:
    """Times at which a sticky update reads the past, and the cumulative attention at the bins' edges."""
    grid = torch.linspace(0, 1, config.bins + 1, dtype=torch.float64)
    reached = grid
    if len(edges) > config.marked + 1:
        low, high = edges[config.marked], edges[config.marked + 1]
        reached = (1 - config.attended) * grid + config.attended * (grid.clamp(low, high) - low) / (high - low)
    quantiles = cell_middles(config.samples)
    if generator is not None:
        quantiles = torch.sort(torch.rand(config.samples, generator=generator, dtype=torch.float64))[0]
    return quantile_times(reached.diff()[None], quantiles[None])[0], reached


def growing_memory(
    config: MemoryConfig, segments: int, generator: torch.Generator | None = None
) -> Iterator[Remembered]:
    """The memory after each of so many whole segments; a generator draws the times of "sticky_random"."""
    edges, maps = torch.zeros(1, dtype=torch.float64), []
    grid = torch.linspace(0, 1, config.bins + 1, dtype=torch.float64)
    changing = config.sampling in ("even", "bins")
    for seen in range(segments):
        if changing or seen < 2:
            kept, update = update_of(config, seen)
        transition = update.past[0]
        if seen and config.sampling != "bins":
            times = cell_middles(config.samples)
            if config.sampling.startswith("sticky"):
                times, reached = resampling_times(config, edges, generator)
                edges = torch.from_numpy(np.interp(edges, grid, reached))
            transition = transition @ basis_values(times, functions(config))
        maps = [transition @ one for one in maps if seen] + [update.new[0]]
        edges = torch.cat([edges * kept, torch.ones(1, dtype=torch.float64)])
        yield Remembered(torch.stack(maps), edges, config)


def gain_and_error(memory: Remembered, segment: int) -> tuple[float, float]:
    """Response of a segment's remembered mean to a constant in it; and the error of that mean for independent events.

    The error is relative to the mean's own standard deviation: one is as bad as not knowing it.
    """
    responses = memory.responses(segment)
    events = responses.shape[1]
    wanted = torch.zeros_like(responses)
    wanted[segment] = 1 / events
    return float(responses[segment].sum()), float((responses - wanted).norm() * math.sqrt(events))


def retention_rows(config: MemoryConfig, ages: int, seed: int | None = None) -> pd.DataFrame:
    """Gain and error of the marked segment after 0, 1, … later ones; mean error of the others older than two."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    rows = []
    for count, memory in enumerate(growing_memory(config, config.marked + ages, generator)):
        age = count - config.marked
        if age < 0:
            continue
        gain, error = gain_and_error(memory, config.marked)
        others = [gain_and_error(memory, other)[1] for other in range(1, count - 2) if other != config.marked]
        rows += [(age, "gain", gain), (age, "relative_error", error)]
        rows.append((age, "relative_error_others", float(np.mean(others))))
    return pd.DataFrame(rows, columns=["x", "metric", "value"]).assign(axis="age", seed=seed)


def horizon(config: MemoryConfig) -> float:
    """Age in segments at which a segment is as narrow as the centres' spacing: (1 - τ) τ^age (N - 1) = 1."""
    return math.log((1 - config.contraction) * (config.basis - 1)) / -math.log(config.contraction)


def half_life(rows: pd.DataFrame) -> float:
    """Age at which the gain falls through one half for good, interpolated; missing if it does not."""
    gains = rows[rows["metric"] == "gain"].sort_values("x")["value"].to_numpy()
    above = np.flatnonzero(gains >= 0.5)
    if not len(above) or above[-1] == len(gains) - 1:
        return math.nan
    last = above[-1]
    return float(last + (gains[last] - 0.5) / (gains[last] - gains[last + 1]))


def decay_rate(transition: Float[Tensor, "basis basis"], powers: int) -> Float[np.ndarray, " powers"]:
    """‖Tᵃ‖^(1/a) for a = 1, 2, …: never below the largest eigenvalue's modulus, and in the limit equal (Gelfand)."""
    power, rates, logarithm = torch.eye(len(transition), dtype=transition.dtype), [], 0.0
    for exponent in range(1, powers + 1):
        power = transition @ power
        norm = torch.linalg.matrix_norm(power, 2)
        # Powers are kept at norm one, so that high ones do not vanish.
        power, logarithm = power / norm, logarithm + math.log(norm)
        rates.append(math.exp(logarithm / exponent))
    return np.array(rates)


def spectral_radius(transition: Float[Tensor, "basis basis"]) -> float:
    """The largest modulus of an eigenvalue."""
    return float(torch.linalg.eigvals(transition).abs().max())


def variants(base: MemoryConfig, attended: float) -> dict[str, MemoryConfig]:
    """The memories compared: every sampling, sticky ones with and without attention to the marked segment."""
    named = {sampling: replace(base, sampling=sampling) for sampling in ("uniform", "even", "bins")}
    named["sticky, flat attention"] = replace(base, sampling="sticky")
    named["sticky, attended"] = replace(base, sampling="sticky", attended=attended)
    named["sticky, drawn at random, attended"] = replace(base, sampling="sticky_random", attended=attended)
    return named


def operations(length: int, model_dim: int, segment: int, basis: int) -> dict[str, int]:
    """Multiplications and additions, in pairs, of one layer's attention without its projections of events.

    Softmax: scores and values, L² d twice. The ∞-former: the same within segments, L S d twice; writing and reading,
    L N d twice; and for every segment the recurrence, N² d, and the memory's values, N d².
    """
    softmax = 2 * length**2 * model_dim
    segments = -(-length // segment)
    memory = 2 * length * basis * model_dim + segments * (basis**2 * model_dim + basis * model_dim**2)
    return {"softmax": softmax, "infinite_former": 2 * length * segment * model_dim + memory}


def layer_maps_error(config: MemoryConfig, segments: int, seed: int) -> float:
    """Largest difference, relative to the largest coefficient, between the attention layer's memory and these maps."""
    generator = torch.Generator().manual_seed(seed)
    events = torch.randn(1, segments * config.segment, 4, generator=generator)
    *_, remembered = growing_memory(config, segments)
    expected = torch.einsum("sne,sed->nd", remembered.maps, events[0].double().unflatten(0, (segments, -1)))
    if config.sampling == "bins":
        layer = BinnedMemoryAttention(4, 1, config.basis, config.segment)
    else:
        sizes = (config.basis, config.segment, config.sampling, config.contraction, config.samples, (config.width,))
        layer = InfiniteFormerAttention(4, 1, MemorySettings(*sizes))
    memory = None
    with torch.no_grad():
        for part in events.split(config.segment, dim=1):
            _, memory = layer.step(part, None, memory)
    return float((memory.coefficients[0] - expected).abs().max() / expected.abs().max())
