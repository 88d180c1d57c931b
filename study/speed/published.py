"""The long-term memory of the ∞-former as published, transcribed for comparison of cost; not for use.

One call is one segment: rewrite the memory, score every query against every basis function, map the scores to a
Gaussian and integrate. What the exact rewrites in `lib.attention.infinite_former` avoid is kept: the query-by-basis
scores, the resampling at every update, the float32 inverse, the loop over rows in sticky sampling, the gradient as a
covariance.
Without the gate before the memory and without the short-term attention, which both sides share.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class PublishedGeometry(NamedTuple):
    """Constants made once: basis, sample values, and the regressions of a first and of a later segment."""

    means: Float[Tensor, " basis"]
    deviations: Float[Tensor, " basis"]
    readback: Float[Tensor, "samples basis"]
    first: Float[Tensor, "segment basis"]
    later: Float[Tensor, "samples_and_segment basis"]


class PublishedWeights(NamedTuple):
    """Projections of the memory, model_dim by model_dim, and the two maps from basis scores to a number."""

    keys: Float[Tensor, "model_dim model_dim"]
    values: Float[Tensor, "model_dim model_dim"]
    out: Float[Tensor, "model_dim model_dim"]
    mean: Float[Tensor, "1 basis"]
    variance: Float[Tensor, "1 basis"]


def published_density(
    points: Float[Tensor, " points"], means: Float[Tensor, " basis"], deviations: Float[Tensor, " basis"]
) -> Float[Tensor, "points basis"]:
    """ψ as normalised densities."""
    scaled = (points[..., None] - means) / deviations
    return torch.exp(-0.5 * scaled**2) / (math.sqrt(2 * math.pi) * deviations)


def published_regression(
    points: Float[Tensor, " points"], means: Float[Tensor, " basis"], deviations: Float[Tensor, " basis"], ridge: float
) -> Float[Tensor, "points basis"]:
    """G = Fᵀ(FFᵀ + λI)⁻¹ by an explicit inverse."""
    design = published_density(points, means, deviations).T
    return design.T @ (design @ design.T + ridge * torch.eye(len(means))).inverse()


def published_geometry(
    basis: int, segment: int, samples: int = 512, contraction: float = 0.75, ridge: float = 0.5, width: float = 1.0
) -> PublishedGeometry:
    """Everything in single precision, as released."""
    means = torch.linspace(0, 1, basis)
    deviations = torch.full_like(means, width / (basis - 1))
    grid = torch.arange(1, samples + 1) / samples
    fresh = torch.arange(1, segment + 1) / segment
    later = torch.cat([contraction * grid, contraction + (1 - contraction) * fresh])
    return PublishedGeometry(
        means,
        deviations,
        published_density(grid, means, deviations),
        published_regression((torch.arange(segment) + 0.5) / segment, means, deviations, ridge),
        published_regression(later, means, deviations, ridge),
    )


class PublishedExpectation(torch.autograd.Function):
    """E_p[ψ] from the canonical parameters of the Gaussian; the gradient is the covariance of (t, t²) with ψ."""

    @staticmethod
    def forward(ctx, canonical: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
        variance = -0.5 / canonical[:, 1]
        mean = canonical[:, 0] * variance
        total = deviations**2 + variance[:, None]
        expected = torch.exp(-0.5 * (mean[:, None] - means) ** 2 / total) / torch.sqrt(2 * math.pi * total)
        ctx.save_for_backward(mean, variance, expected, means, deviations)
        return expected

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        mean, variance, expected, means, deviations = ctx.saved_tensors
        mean, variance = mean[:, None], variance[:, None]
        total = deviations**2 + variance
        joint_mean = (mean * deviations**2 + means * variance) / total
        joint_variance = variance * deviations**2 / total
        first = expected * joint_mean - mean * expected
        second = expected * (joint_variance + joint_mean**2) - (variance + mean**2) * expected
        return torch.stack([(gradient * first).sum(-1), (gradient * second).sum(-1)], dim=-1), None, None


def published_sticky_samples(
    mean: Float[Tensor, "batch heads length"],
    variance: Float[Tensor, "batch heads length"],
    geometry: PublishedGeometry,
    samples: int,
) -> Float[Tensor, "batch samples basis"]:
    """For each row of the batch, values of ψ at times drawn from the histogram of the previous read."""
    edges = torch.linspace(0, 1, 129)
    rows = []
    for row in range(len(mean)):
        normal = torch.distributions.Normal(mean[row].flatten(), variance[row].flatten().sqrt())
        heights = normal.cdf(edges[:, None]).sum(-1)
        shares = torch.distributions.Categorical(probs=heights.diff() / heights.diff().sum())
        times = edges[shares.sample((samples,))].sort().values
        rows.append(published_density(times, geometry.means, geometry.deviations))
    return torch.stack(rows)


def published_memory(
    events: Float[Tensor, "batch length model_dim"],
    queries: Float[Tensor, "batch heads length head_dim"],
    past: Float[Tensor, "batch basis model_dim"] | None,
    read: tuple[Tensor, Tensor] | None,
    geometry: PublishedGeometry,
    weights: PublishedWeights,
    prior_deviation: float = 0.05,
) -> tuple[Float[Tensor, "batch length model_dim"], Float[Tensor, ""], Tensor, tuple[Tensor, Tensor]]:
    """Write a segment, then read: context, regulariser, coefficients and the read that the next sticky update needs.

    `past` are the coefficients so far, cut from the graph; `read` is the previous mean and variance, or None for equal
    steps.
    """
    batch, heads, length, head_dim = queries.shape
    signal = events.transpose(1, 2)
    if past is None:
        coefficients = signal @ geometry.first
    else:
        sampled = geometry.readback
        if read is not None:
            sampled = published_sticky_samples(*read, geometry, len(geometry.readback))
        old = past.transpose(1, 2) @ sampled.transpose(-2, -1)
        coefficients = torch.cat([old, signal], dim=-1) @ geometry.later
    coefficients = coefficients.transpose(1, 2)
    keys = F.linear(coefficients, weights.keys).unflatten(-1, (heads, head_dim)).transpose(1, 2)
    values = F.linear(coefficients, weights.values).unflatten(-1, (heads, head_dim)).transpose(1, 2)
    scores = (queries / head_dim**0.5) @ keys.transpose(-1, -2)
    mean = F.linear(scores, weights.mean).squeeze(-1).sigmoid()
    variance = F.softplus(F.linear(scores, weights.variance)).squeeze(-1).clamp(min=1e-4)
    prior = prior_deviation**2
    regulariser = 0.5 * (variance / prior - torch.log(variance / prior) - 1).mean()
    canonical = torch.stack([(mean / variance).flatten(), (-0.5 / variance).flatten()], dim=-1)
    expected = PublishedExpectation.apply(canonical, geometry.means, geometry.deviations)
    context = expected.view(batch, heads, length, -1) @ values
    context = F.linear(context.transpose(1, 2).flatten(2), weights.out)
    return context, regulariser, coefficients.detach(), (mean.detach(), variance.detach())
