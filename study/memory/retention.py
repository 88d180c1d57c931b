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

from lib.attention.baselines import Bins, bin_overlaps
from lib.attention.continuous_memory import basis_values, cell_middles, quantile_times
from lib.attention.infinite_former import MemorySettings
from lib.attention.segment_memory import Geometry, kept_shares

MARKED = 6  # the segment that is followed, after so many others
READ_AT = 200  # points of a segment over which what is read is averaged
# By what a memory keeps, in every figure: other than the mechanisms' own; softmax over everything has softmax's.
COLOURS = {"segment": "#9a9a9a", "uniform": "#b5327a", "sticky": "#7a63d8", "sticky_random": "#b79df0"}
COLOURS |= {"even": "#96802a", "bins": "#4f8291", "everything": "#0a6ab0"}


@dataclass(frozen=True)
class Remembered:
    """After some segments: the coefficients as linear maps of every segment's events, and where each segment lies."""

    maps: Float[Tensor, "segments basis events"]
    edges: Float[Tensor, " edges"]
    geometry: Geometry

    def reader(self, segment: int) -> Float[Tensor, " basis"]:
        """Weights of the coefficients in the mean of the signal over a segment's place."""
        low, high = self.edges[segment], self.edges[segment + 1]
        if isinstance(self.geometry, Bins):
            width = (high - low).clamp(min=1e-12)
            overlaps = bin_overlaps(low.reshape(1, 1), width.reshape(1, 1), self.geometry.basis)
            return overlaps[0, :, 0] / (width * self.geometry.basis)
        return basis_values(low + (high - low) * cell_middles(READ_AT), self.geometry.functions("cpu")).mean(0)

    def gain_and_error(self, segment: int) -> tuple[float, float]:
        """Response of a segment's remembered mean to a constant in it, and that mean's error for independent events.

        The error is relative to the mean's own standard deviation: one is as bad as not knowing it.
        """
        responses = torch.einsum("n,sne->se", self.reader(segment), self.maps)
        events = responses.shape[1]
        wanted = torch.zeros_like(responses)
        wanted[segment] = 1 / events
        return float(responses[segment].sum()), float((responses - wanted).norm() * math.sqrt(events))


def spectral_radius(settings: MemorySettings) -> float:
    """Largest modulus of an eigenvalue of T, where B ← T B + G X when the past is read back at equal steps."""
    update = settings.update(torch.tensor([settings.contraction]), torch.tensor([settings.segment]))
    return float(torch.linalg.eigvals(update.past[0]).abs().max())


def growing_memory(
    geometry: Geometry, segments: int, attended: float = 0.0, generator: torch.Generator | None = None
) -> Iterator[Remembered]:
    """The memory after each of so many whole segments.

    Of the attention that sticky memories follow, each segment after the marked one pays it the share `attended` and the
    rest goes evenly. A generator draws the times of "sticky_random".
    """
    edges, maps, count = torch.zeros(1, dtype=torch.float64), [], torch.tensor([geometry.segment])
    for seen in range(segments):
        if seen < 2 or geometry.share is None:  # the others' matrices no longer change
            kept = kept_shares(geometry.share, seen * count, count)
            update = geometry.update(kept, count)
        transition = update.past[0]
        if seen and isinstance(geometry, MemorySettings) and geometry.sticky:
            reached = grid = torch.linspace(0, 1, geometry.bins + 1, dtype=torch.float64)
            if seen > MARKED:
                low, high = edges[MARKED : MARKED + 2]
                reached = (1 - attended) * grid + attended * (grid.clamp(low, high) - low) / (high - low)
            quantiles = cell_middles(geometry.samples)
            if generator is not None:
                quantiles = torch.rand(geometry.samples, generator=generator, dtype=torch.float64).msort()
            times = quantile_times(reached.diff()[None], quantiles[None])[0]
            edges = torch.from_numpy(np.interp(edges, grid, reached))
            transition = transition @ basis_values(times, geometry.functions("cpu"))
        maps = [*(transition @ one for one in maps), update.new[0]]
        edges = torch.cat([edges * kept, torch.ones(1, dtype=torch.float64)])
        yield Remembered(torch.stack(maps), edges, geometry)


def retention_rows(geometry: Geometry, ages: int, attended: float = 0.0, seed: int | None = None) -> pd.DataFrame:
    """Gain and error of the marked segment after 0, 1, … later ones; mean error of the others older than two."""
    generator, rows = None if seed is None else torch.Generator().manual_seed(seed), []
    for age, memory in enumerate(islice(growing_memory(geometry, MARKED + ages, attended, generator), MARKED, None)):
        gain, error = memory.gain_and_error(MARKED)
        others = [memory.gain_and_error(other)[1] for other in range(1, MARKED + age - 2) if other != MARKED]
        rows += [(age, "gain", gain), (age, "relative_error", error)]
        rows.append((age, "relative_error_others", float(np.mean(others))))
    return pd.DataFrame(rows, columns=["x", "metric", "value"]).assign(axis="age", seed=seed)


def horizon(settings: MemorySettings) -> float:
    """Age in segments at which a segment is as narrow as the centres' spacing: (1 - τ) τ^age (N - 1) = 1."""
    return math.log((1 - settings.contraction) * (settings.basis - 1)) / -math.log(settings.contraction)


def half_life(rows: pd.DataFrame) -> float:
    """Age at which the gain falls through one half for good, interpolated; missing if it does not."""
    gains = rows[rows["metric"] == "gain"].sort_values("x")["value"].to_numpy()
    above = np.flatnonzero(gains >= 0.5)
    if not len(above) or above[-1] == len(gains) - 1:
        return math.nan
    last = above[-1]
    return float(last + (gains[last] - 0.5) / (gains[last] - gains[last + 1]))
