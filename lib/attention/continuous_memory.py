"""A history as a continuous signal on [0, 1]: basis, regression, Gaussian reading and rewriting (Martins et al. 2022).

The signal is x(t) = Bᵀ ψ(t): `coefficients` B weigh basis functions ψ. Events have equal cells, the oldest near 0.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.attention import Heads, Mask, PerQuery, constant, differentiable_gradients, needs_plain_operations

GAUSSIANS_AT_ONCE = 2**15  # stay in a processor's cache


class Basis(NamedTuple):
    """Gaussian densities on [0, 1]; indices run over the deviations of the first centre, then of the second."""

    centres: Float[Tensor, " centres"]
    deviations: tuple[float, ...]


class Density(NamedTuple):
    """The Gaussian over the past, from 0 (the oldest) to 1 (the newest), with which each head of each query reads."""

    mean: PerQuery
    variance: PerQuery


class Update(NamedTuple):
    """Matrices that turn the past, as coefficients or as samples, and the new events into coefficients of both."""

    past: Float[Tensor, "rows basis points"]
    new: Float[Tensor, "rows basis segment"]


@constant
def gaussian_basis(basis: int, widths: tuple[float, ...] = (1.0,), device: torch.device | str = "cpu") -> Basis:
    """Equally spaced centres in double precision; `widths` are standard deviations in units of the centres' spacing.

    Raises ValueError unless the widths are positive and their number divides `basis` with two centres or more for each.
    """
    if not widths or not all(0 < width < math.inf for width in widths):
        raise ValueError(f"widths must be positive, got {widths}")
    if basis % len(widths) or basis // len(widths) < 2:
        raise ValueError(f"basis must be a multiple of {len(widths)} widths with two centres each, got {basis}")
    centres = torch.linspace(0, 1, basis // len(widths), dtype=torch.float64, device=device)
    return Basis(centres, tuple(width / (len(centres) - 1) for width in widths))


def cell_middles(count: int, device: torch.device | str = "cpu") -> Float[Tensor, " count"]:
    """The middles of `count` equal cells of [0, 1]."""
    return (torch.arange(count, dtype=torch.float64, device=device) + 0.5) / count


def basis_values(positions: Float[Tensor, "*shape"], basis: Basis) -> Float[Tensor, "*shape basis"]:
    """ψ(t) at the given positions: normalised densities N(t; μ_j, σ_j²)."""
    densities = []
    for deviation in basis.deviations:
        gaussians = _gaussians(positions, torch.full_like(positions, deviation**2), basis.centres.to(positions))
        densities.append(gaussians.div_(deviation * math.sqrt(2 * math.pi)))
    return torch.stack(densities, dim=-1).flatten(-2) if len(densities) > 1 else densities[0]


def ridge_coefficients(
    design: Float[Tensor, "rows samples basis"], ridge: float
) -> Float[Tensor, "rows basis samples"]:
    """(FᵀF + λI)⁻¹ Fᵀ for the design matrix F and a positive λ: regression as one product, solved by Cholesky."""
    gram = design.mT @ design + ridge * torch.eye(design.shape[-1], dtype=design.dtype, device=design.device)
    return torch.cholesky_solve(design.mT, torch.linalg.cholesky(gram))


def ridge_update(
    basis: Basis,
    contraction: Float[Tensor, " rows"],
    counts: Int[Tensor, " rows"],
    samples: int,
    segment: int,
    ridge: float,
    right_ends: bool = False,
    zeros_outside: bool = False,
) -> Update:
    """The regression on `samples` points of the past in [0, τ] and `counts` new events in [τ, 1] (“unbounded memory”).

    A contraction τ of zero means that there is no past. Padding has no weight, and without new events the update is
    zero. Solved in double precision. As the authors' code has it, points may sit at the `right_ends` of their cells in
    all updates but the first, and the signal may be told to be zero at places outside [0, 1].
    """
    contraction, real_counts = contraction.double()[:, None], counts[:, None].clamp(min=1)
    has_past = contraction > 0
    in_cell = torch.where(has_past, 1.0, 0.5) if right_ends else 0.5
    index = torch.arange(segment, device=counts.device)
    places = contraction + (1 - contraction) * (index + in_cell) / real_counts
    real = index < counts[:, None]
    old = torch.arange(samples, dtype=torch.float64, device=counts.device)
    past = basis_values(contraction * ((old + in_cell) / samples), basis) * has_past[..., None]
    designs = [past, basis_values(places, basis) * real[..., None]]
    if zeros_outside:
        # On each side about half as many as there are points.
        points = 2 * (real_counts + samples * has_past)
        margin = 1 / (2 * real_counts + samples * has_past).double()
        index = torch.arange(int(points.max()), device=counts.device)
        outside = margin - 0.5 + index * (2 - 2 * margin) / (points - 1)
        is_used = ((outside < 0) | (outside > 1)) & (index < points)
        designs.append(basis_values(outside, basis) * is_used[..., None])
    solved = ridge_coefficients(torch.cat(designs, dim=1), ridge) * real.any(-1)[:, None, None]
    return Update(*solved[..., : samples + segment].split([samples, segment], dim=-1))


def expected_basis(
    mean: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"], basis: Basis
) -> Float[Tensor, "*shape basis"]:
    """E_p[ψ_j] = N(μ; μ_j, σ_j² + σ²) for p = N(μ, σ²), the integral of continuous softmax attention in closed form."""
    offsets = mean[..., None] - basis.centres.to(mean)
    totals = [variance[..., None] + deviation**2 for deviation in basis.deviations]
    densities = [torch.exp(-0.5 * offsets.square() / v) * torch.rsqrt(2 * math.pi * v) for v in totals]
    return torch.stack(densities, dim=-1).flatten(-2)


def gaussian_read(
    mean: PerQuery, variance: PerQuery, basis: Basis, values: Float[Tensor, "batch heads basis head_dim"]
) -> Heads:
    """E_p[ψ]ᵀ V, the value signal, which fades outside [0, 1], averaged under each query's Gaussian on the whole line.

    Nothing of size length times basis is kept for the backward pass.
    """
    if needs_plain_operations(mean, variance, values):
        return expected_basis(mean, variance, basis) @ values
    centres = basis.centres.to(mean)
    of_deviations = values.flatten(0, 1).unflatten(1, (len(centres), -1)).unbind(2)
    means, variances = mean.flatten(0, 1), variance.flatten(0, 1)
    parts = zip(basis.deviations, of_deviations, strict=True)
    context = sum(_GaussianRead.apply(means, variances + width**2, centres, part) for width, part in parts)
    return context.unflatten(0, mean.shape[:2])


def _gaussians(mean: Tensor, variance: Tensor, centres: Tensor) -> Tensor:
    """exp(-(μ - c)² / 2v) for every centre, by powers of two: the exponential is 4 to 10 times slower on a CPU."""
    offsets = mean[..., None] - centres
    exponents = offsets.square_().mul_((-0.5 * math.log2(math.e) / variance)[..., None])
    return exponents.clamp_min_(-64.0).exp2_()  # where slow denormal numbers have not begun


def _tiles(mean: Tensor, variance: Tensor, centres: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows with their Gaussians."""
    step = max(1, GAUSSIANS_AT_ONCE // (mean.shape[1] * len(centres)))
    for tile in (slice(start, start + step) for start in range(0, len(mean), step)):
        yield tile, _gaussians(mean[tile], variance[tile], centres)


class _GaussianRead(torch.autograd.Function):
    """Σ_j N(μ; c_j, v) V_j. The backward pass computes the Gaussians again, and their gradient as three moments."""

    @staticmethod
    def forward(ctx, mean: Tensor, variance: Tensor, centres: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(mean, variance, centres, values)
        context = values.new_empty(*mean.shape, values.shape[-1])
        with torch.autocast(mean.device.type, enabled=False):
            for tile, gaussians in _tiles(mean, variance, centres):
                torch.bmm(gaussians, values[tile], out=context[tile])
        return context.mul_(torch.rsqrt(2 * math.pi * variance)[..., None])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        mean, variance, centres, values = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = lambda m, v, x: (expected_basis(m, v, Basis(centres, (0.0,))) @ x,)  # noqa: E731
            *into_density, into_values = differentiable_gradients(plain, (mean, variance, values), (gradient,))
            return *into_density, None, into_values
        gradient = gradient * torch.rsqrt(2 * math.pi * variance)[..., None]
        # Moments about the middle of the interval: about zero, small variances would cancel more digits.
        offset, place = mean - 0.5, centres - 0.5
        powers = torch.stack([torch.ones_like(place), place, place.square()])
        into_values = torch.empty_like(values)
        moments = mean.new_empty(len(mean), 3, mean.shape[1])
        with torch.autocast(mean.device.type, enabled=False):
            for tile, gaussians in _tiles(mean, variance, centres):
                into_values[tile] = (gradient[tile].mT @ gaussians).mT
                moments[tile] = powers @ (gradient[tile] @ values[tile].mT).mul_(gaussians).mT
        zeroth, first, second = moments.unbind(1)
        into_mean = (first - offset * zeroth) / variance
        spread = second - 2 * offset * first + offset.square() * zeroth
        into_variance = 0.5 * (spread / variance - zeroth) / variance
        return into_mean, into_variance, None, into_values


def gaussian_divergence(variance: Float[Tensor, "*shape"], prior_deviation: float) -> Float[Tensor, "*shape"]:
    """KL in nats from N(μ, σ²) to a Gaussian of the same mean and the prior's deviation."""
    ratio = variance / prior_deviation**2
    return 0.5 * (ratio - ratio.log() - 1)


def density_masses(mean: PerQuery, variance: PerQuery, real: Mask, bins: int) -> Float[Tensor, "batch bins"]:
    """Share of the attention of all heads and real queries in equal bins of [0, 1]; equal shares if none is real."""
    edges = torch.linspace(0, 1, bins + 1, dtype=mean.dtype, device=mean.device)
    # A scale of zero makes the error function of padded queries vanish at every edge.
    scale = torch.rsqrt(2 * variance) * real[:, None]
    heights = torch.zeros_like(edges)
    for means, scales in zip(mean.unbind(1), scale.unbind(1), strict=True):  # a head at a time takes less memory
        heights = heights + (edges - means[..., None]).mul_(scales[..., None]).erf_().sum(1)
    masses = heights.diff(dim=-1).clamp(min=0)
    total = masses.sum(-1, keepdim=True)
    return torch.where(total > 0, masses / total.clamp(min=torch.finfo(total.dtype).tiny), 1 / bins)


def quantile_times(
    masses: Float[Tensor, "batch bins"], quantiles: Float[Tensor, "batch samples"]
) -> Float[Tensor, "batch samples"]:
    """Times at which the piecewise linear distribution of the bins' masses reaches the quantiles."""
    bins = masses.shape[-1]
    reached = masses.cumsum(-1)
    reached = reached / reached[:, -1:]
    if needs_plain_operations(masses):
        index = (reached[:, None] < quantiles[..., None]).sum(-1).clamp(max=bins - 1)
    else:
        index = torch.searchsorted(reached, quantiles).clamp(max=bins - 1)
    mass = masses.gather(-1, index).clamp(min=torch.finfo(masses.dtype).tiny)
    inside = 1 - (reached.gather(-1, index) - quantiles) / mass
    return (index + inside.clamp(0, 1)) / bins
