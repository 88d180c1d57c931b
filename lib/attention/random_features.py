"""Random features of the softmax kernel exp(q·k / √d): directions to project on, and maps from projections to features.

Notation of the papers: x = q d^(-1/4), y = k d^(-1/4), so that the kernel is exp(x·y); w is a row of the projection.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention import Projection

KERNELS = ("positive", "hyperbolic", "trigonometric")
PROJECTIONS = ("gaussian", "orthogonal", "fixed_norm")


class RandomFeatures(NamedTuple):
    """Features are values · exp(log_scale); a vector's values and its scale depend on that vector alone."""

    values: Float[Tensor, "*batch length columns"]
    log_scale: Float[Tensor, "*batch length"]


def check_kernel(kernel: str) -> None:
    """Raise ValueError for a kernel that does not exist, naming those that do."""
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; known are {', '.join(KERNELS)}")


def gaussian_projection(features: int, head_dim: int, generator: torch.Generator) -> Projection:
    """Independent standard normal rows, on the generator's device, in float32 whatever the default type."""
    return torch.randn(features, head_dim, generator=generator, device=generator.device, dtype=torch.float32)


def orthogonal_projection(
    features: int, head_dim: int, generator: torch.Generator, fixed_norm: bool = False
) -> Projection:
    """Rows orthogonal within blocks of head_dim, each row normally distributed (Choromanski et al. 2021, section 2.4).

    With `fixed_norm` every row has length √d instead: the regularised softmax kernel of the paper's Theorem 1.
    """
    gaussian = gaussian_projection(math.ceil(features / head_dim) * head_dim, head_dim, generator)
    basis, triangle = torch.linalg.qr(gaussian.unflatten(0, (-1, head_dim)))
    # Without the signs of R's diagonal Q is not uniform among rotations (Mezzadri 2007), and positive features of
    # vectors along (1, …, 1) are biased by tens of percent.
    blocks = basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    rows = blocks.transpose(1, 2).flatten(0, 1)[:features]
    if fixed_norm:
        return rows * math.sqrt(head_dim)
    return rows * gaussian_projection(features, head_dim, generator).norm(dim=1, keepdim=True)


def draw_projection(name: str, features: int, head_dim: int, generator: torch.Generator) -> Projection:
    """A fresh projection of the named kind; raises ValueError for unknown names and for fewer than one feature."""
    if name not in PROJECTIONS:
        raise ValueError(f"unknown projection {name!r}; known are {', '.join(PROJECTIONS)}")
    if features < 1:
        raise ValueError(f"features must be at least 1, got {features}")
    if name == "gaussian":
        return gaussian_projection(features, head_dim, generator)
    return orthogonal_projection(features, head_dim, generator, fixed_norm=name == "fixed_norm")


def _projected(vectors: Tensor, projection: Projection) -> tuple[Tensor, Tensor]:
    """The logits w·x and the half square norm |x|²/2."""
    scaled = vectors * vectors.shape[-1] ** -0.25
    return scaled @ projection.to(vectors.dtype).T, scaled.square().sum(-1) / 2


def positive_features(vectors: Float[Tensor, "*batch length head_dim"], projection: Projection) -> RandomFeatures:
    """exp(w·x - |x|²/2) / √m, the first map of Lemma 1 (Choromanski et al. 2021); products are never negative."""
    logits, norm = _projected(vectors, projection)
    top = logits.amax(-1, keepdim=True)
    log_factor = -norm - math.log(len(projection)) / 2
    return RandomFeatures((logits - top).exp(), top[..., 0] + log_factor)


def hyperbolic_features(vectors: Float[Tensor, "*batch length head_dim"], projection: Projection) -> RandomFeatures:
    """exp(±w·x - |x|²/2) / √(2m), the second map of Lemma 1; two columns for each row of the projection."""
    return positive_features(vectors, torch.cat([projection, -projection]))


def trigonometric_features(vectors: Float[Tensor, "*batch length head_dim"], projection: Projection) -> RandomFeatures:
    """exp(|x|²/2) (cos w·x, sin w·x) / √m (Rahimi & Recht 2007); products may be negative, sums of them near zero."""
    logits, norm = _projected(vectors, projection)
    return RandomFeatures(torch.cat([logits.cos(), logits.sin()], -1), norm - math.log(len(projection)) / 2)


FEATURE_MAPS = {
    "positive": positive_features,
    "hyperbolic": hyperbolic_features,
    "trigonometric": trigonometric_features,
}


def kernel_estimate(query_features: RandomFeatures, key_features: RandomFeatures) -> Tensor:
    """Estimates of exp(q·k / √d) for every pair: the product of features with their scales put back."""
    scale = query_features.log_scale[..., :, None] + key_features.log_scale[..., None, :]
    return (query_features.values @ key_features.values.transpose(-2, -1)) * scale.exp()
