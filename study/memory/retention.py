"""What a continuous memory keeps: exact linear maps from events to what is read back, and their spectrum.

At given times of resampling everything here is linear in the events, so that no error has to be simulated.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.baselines import bin_overlaps, bin_update
from lib.attention.continuous_memory import (
    Basis,
    Update,
    basis_values,
    cell_middles,
    gaussian_basis,
    quantile_times,
    ridge_update,
)

READ_AT = 200  # points of a segment over which what is read is averaged
ATTENTION_BINS = 128  # in which a sticky memory counts attention
# By what a memory keeps, in every figure: other than the mechanisms' own, but for softmax over everything.
COLOURS = {"segment": "#9a9a9a", "uniform": "#b5327a", "sticky": "#7a63d8", "sticky_random": "#b79df0"}
COLOURS |= {"even": "#96802a", "bins": "#4f8291", "everything": "#0a6ab0"}


@dataclass(frozen=True)
class MemoryConfig:
    """Geometry of a memory; `sampling` is one of the ∞-former's, "sticky_random" or "bins".

    The segment with the number `marked` is followed while others arrive. With a sticky sampling, every later segment
    pays it the share `attended` of its attention, wherever the memory holds it by then, and the rest evenly.
    """

    sampling: str = "uniform"
    basis: int = 64
    segment: int = 128
    samples: int = 256
    contraction: float = 0.75
    ridge: float = 0.5
    attended: float = 0.0
    marked: int = 6

    @property
    def functions(self) -> Basis:
        """The radial basis."""
        return gaussian_basis(self.basis)

    def update(self, seen: int) -> tuple[float, Update]:
        """Share kept of the past and the matrices of an update after `seen` whole segments."""
        kept = 0.0 if seen == 0 else self.contraction
        if self.sampling in ("even", "bins"):
            kept = seen / (seen + 1)
        share, count = torch.tensor([kept], dtype=torch.float64), torch.tensor([self.segment])
        if self.sampling == "bins":
            return kept, bin_update(self.basis, share, count, self.segment)
        return kept, ridge_update(self.functions, share, count, self.samples, self.segment, self.ridge)


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
            overlaps = bin_overlaps(low.reshape(1, 1), width.reshape(1, 1), self.config.basis)
            return overlaps[0, :, 0] / (width * self.config.basis)
        return basis_values(low + (high - low) * cell_middles(READ_AT), self.config.functions).mean(0)

    def gain_and_error(self, segment: int) -> tuple[float, float]:
        """Response of a segment's remembered mean to a constant in it, and that mean's error for independent events.

        The error is relative to the mean's own standard deviation: one is as bad as not knowing it.
        """
        responses = torch.einsum("n,sne->se", self.reader(segment), self.maps)
        events = responses.shape[1]
        wanted = torch.zeros_like(responses)
        wanted[segment] = 1 / events
        return float(responses[segment].sum()), float((responses - wanted).norm() * math.sqrt(events))


def spectral_radius(config: MemoryConfig) -> float:
    """Largest modulus of an eigenvalue of T, where B ← T B + G X when the past is read back at equal steps."""
    readback = basis_values(cell_middles(config.samples), config.functions)
    return float(torch.linalg.eigvals(config.update(1)[1].past[0] @ readback).abs().max())


def resampling_times(
    config: MemoryConfig, edges: Float[Tensor, " edges"], generator: torch.Generator | None
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " bin_edges"]]:
    """Times at which a sticky update reads the past, and the cumulative attention at the bins' edges."""
    reached = grid = torch.linspace(0, 1, ATTENTION_BINS + 1, dtype=torch.float64)
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
    grid = torch.linspace(0, 1, ATTENTION_BINS + 1, dtype=torch.float64)
    for seen in range(segments):
        if seen < 2 or config.sampling in ("even", "bins"):  # the others' matrices no longer change
            kept, update = config.update(seen)
        transition = update.past[0]
        if seen and config.sampling != "bins":
            times = cell_middles(config.samples)
            if config.sampling.startswith("sticky"):
                times, reached = resampling_times(config, edges, generator)
                edges = torch.from_numpy(np.interp(edges, grid, reached))
            transition = transition @ basis_values(times, config.functions)
        maps = [transition @ one for one in maps if seen] + [update.new[0]]
        edges = torch.cat([edges * kept, torch.ones(1, dtype=torch.float64)])
        yield Remembered(torch.stack(maps), edges, config)


def retention_rows(config: MemoryConfig, ages: int, seed: int | None = None) -> pd.DataFrame:
    """Gain and error of the marked segment after 0, 1, … later ones; mean error of the others older than two."""
    generator, marked = None if seed is None else torch.Generator().manual_seed(seed), config.marked
    rows = []
    for age, memory in enumerate(islice(growing_memory(config, marked + ages, generator), marked, None)):
        gain, error = memory.gain_and_error(marked)
        others = [memory.gain_and_error(other)[1] for other in range(1, marked + age - 2) if other != marked]
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
