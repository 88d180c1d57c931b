"""Closed forms: how far one estimate of exp(x·y) by random features lies from the truth.

Every projection is rotation invariant, so all follows from v = |x+y|² and δ = |x-y|². Errors are mean squares relative
to the squared truth. Written 1F1 is Kummer's function, and 0F1(; d/2; d v / 4) the mean of exp(w·z) over rows w of
length √d in uniform directions, |z|² = v. Estimators are named by kernel and projection, as in "positive orthogonal".
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import hyp0f1, hyp1f1

from lib.attention.random_features import PROJECTIONS, check_kernel

Pairs = Float[np.ndarray, "*pairs"]
# Beyond this v a relative error is past e^500, and its square would no longer fit a float.
LARGEST = 300.0


def rows_for(kernel: str, columns: int) -> int:
    """Rows of the projection that give so many feature columns: half as many where a row takes two."""
    return columns // 2 if kernel in ("hyperbolic", "trigonometric") else columns


def pairs_per_feature(features: int, head_dim: int) -> float:
    """Ordered pairs of rows within a block, per row: d-1 where all blocks are full."""
    blocks, rest = divmod(features, head_dim)
    return (blocks * head_dim * (head_dim - 1) + rest * (rest - 1)) / features


def _moments(projection: str, head_dim: int) -> tuple[Callable[[Pairs], Pairs], Callable[[Pairs], Pairs]]:
    """E exp(w·z), and E exp(w₁·z ± w₂·z) for two rows of one block, as functions of |z|²."""
    if projection == "fixed_norm":
        return lambda v: hyp0f1(head_dim / 2, head_dim * v / 4), lambda v: hyp0f1(head_dim / 2, head_dim * v / 2)
    if projection == "gaussian":
        return lambda v: np.exp(v / 2), np.exp
    return lambda v: np.exp(v / 2), lambda v: hyp1f1(head_dim, head_dim / 2, v / 2)


def error_parts(
    kernel: str,
    projection: str,
    head_dim: int,
    sum_square: Pairs,
    difference_square: Pairs,
    pairs: float | None = None,
) -> tuple[Pairs, Pairs]:
    """Relative variance of one row's share (divide by the number of rows), and the mean estimate over the truth.

    Lemma 2 of Choromanski et al. 2021 for independent rows; exact for the others. `pairs` is `pairs_per_feature`,
    full blocks by default. Raises ValueError for unknown names.
    """
    check_kernel(kernel)
    if projection not in PROJECTIONS:
        raise ValueError(f"unknown projection {projection!r}; known are {', '.join(PROJECTIONS)}")
    pairs = head_dim - 1 if pairs is None else pairs
    square = -difference_square if kernel == "trigonometric" else np.minimum(sum_square, LARGEST)
    one, two = _moments(projection, head_dim)
    mean, second, pair = one(square), one(4 * square), two(square)
    if kernel in ("hyperbolic", "trigonometric"):
        second = (1 + second) / 2
    truth = np.exp(square / 2)
    return (second - mean**2 + pairs * (pair - mean**2)) / truth**2, mean / truth


def relative_mean_square(
    kernel: str, projection: str, head_dim: int, features: int, sum_square: Pairs, difference_square: Pairs
) -> Pairs:
    """E(estimate - truth)² / truth² with `features` rows; hyperbolic and trigonometric maps have two columns a row."""
    pairs = pairs_per_feature(features, head_dim)
    variance, ratio = error_parts(kernel, projection, head_dim, sum_square, difference_square, pairs)
    return variance / features + (ratio - 1) ** 2


def squares_at(
    lengths: Float[np.ndarray, " lengths"], angles: Float[np.ndarray, " angles"]
) -> tuple[Float[np.ndarray, "lengths angles"], Float[np.ndarray, "lengths angles"]]:
    """|x+y|² and |x-y|² of pairs with |x| = |y|."""
    return tuple(2 * lengths[:, None] ** 2 * (1 + sign * np.cos(angles)) for sign in (1, -1))


def error_map(
    kernel: str,
    lengths: Float[np.ndarray, " lengths"],
    angles: Float[np.ndarray, " angles"],
    head_dim: int,
    columns: int,
) -> Float[np.ndarray, "lengths angles"]:
    """Root mean square error over the kernel of so many feature columns, orthogonal rows, |x| = |y|."""
    count = rows_for(kernel, columns)
    square = relative_mean_square(kernel, "orthogonal", head_dim, count, *squares_at(lengths, angles))
    return np.sqrt(square.clip(min=0))  # below zero only by rounding, where x and y all but cancel
