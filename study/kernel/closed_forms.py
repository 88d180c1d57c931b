"""Closed forms: how far one estimate of exp(x·y) by random features lies from the truth.

Every projection is rotation invariant, so all follows from v = |x+y|² and δ = |x-y|². Errors are mean squares relative
to the squared truth. Estimators are named by kernel and projection, as in "positive orthogonal".
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import hyp0f1, hyp1f1

Pairs = Float[np.ndarray, "*pairs"]
Lengths, Angles = Float[np.ndarray, " lengths"], Float[np.ndarray, " angles"]
Grid = Float[np.ndarray, "lengths angles"]
LARGEST = 300.0  # v beyond which a relative error is past e^500, and its square would no longer fit a float


def rows_for(kernel: str, columns: int) -> int:
    """Rows of the projection that give so many feature columns: half as many where a row takes two."""
    return columns // 2 if kernel in ("hyperbolic", "trigonometric") else columns


def _moments(projection: str, head_dim: int) -> tuple[Callable[[Pairs], Pairs], Callable[[Pairs], Pairs]]:
    """E exp(w·z), and E exp(w₁·z ± w₂·z) for two rows of one block, as functions of |z|² (1F1 is Kummer's function)."""
    half = head_dim / 2
    return {
        "gaussian": (lambda v: np.exp(v / 2), np.exp),
        "orthogonal": (lambda v: np.exp(v / 2), lambda v: hyp1f1(head_dim, half, v / 2)),
        "fixed_norm": (lambda v: hyp0f1(half, half * v / 2), lambda v: hyp0f1(half, half * v)),
    }[projection]


def error_parts(
    kernel: str, projection: str, head_dim: int, sum_square: Pairs, difference_square: Pairs, pairs: float | None = None
) -> tuple[Pairs, Pairs]:
    """Relative variance of one row's share (divide by the number of rows), and the mean estimate over the truth.

    Lemma 2 of Choromanski et al. 2021 for independent rows; exact for the others. `pairs` are the ordered ones of rows
    within a block, per row: d-1, the default, where all blocks are full.
    """
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
    blocks, rest = divmod(features, head_dim)
    pairs = (blocks * head_dim * (head_dim - 1) + rest * (rest - 1)) / features
    variance, ratio = error_parts(kernel, projection, head_dim, sum_square, difference_square, pairs)
    return variance / features + (ratio - 1) ** 2


def squares_at(lengths: Lengths, angles: Angles) -> tuple[Grid, Grid]:
    """|x+y|² and |x-y|² of pairs with |x| = |y|, by length and angle."""
    return tuple(2 * lengths[:, None] ** 2 * (1 + sign * np.cos(angles)) for sign in (1, -1))


def error_map(kernel: str, lengths: Lengths, angles: Angles, head_dim: int, columns: int) -> Grid:
    """Root mean square error over the kernel of so many feature columns, orthogonal rows, |x| = |y|."""
    count = rows_for(kernel, columns)
    square = relative_mean_square(kernel, "orthogonal", head_dim, count, *squares_at(lengths, angles))
    return np.sqrt(square.clip(min=0))  # below zero only by rounding, where x and y all but cancel
