"""Experiments on the error of random features: repeated draws beside the closed forms, and attention on random inputs.

An estimator is named by kernel and projection, as in "positive orthogonal". Frames have one row per measurement.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.performer import favor_attention
from lib.attention.random_features import (
    FEATURE_MAPS,
    RandomFeatures,
    best_tilt,
    draw_projection,
    kernel_estimate,
    tilted_features,
)
from lib.attention.softmax import softmax_attention
from study.kernel.kernel_variance import error_parts, relative_mean_square, sphere_moment


def rows_for(kernel: str, columns: int) -> int:
    """Rows of the projection that give so many feature columns: half as many where a row takes two."""
    return columns // 2 if kernel in ("hyperbolic", "trigonometric") else columns


def dot_product_spread(head_dims: Sequence[int], pairs: int, length: int, generator: torch.Generator) -> pd.DataFrame:
    """Variance of q·k for standard normal vectors with its standard error, and the share of keys that softmax uses.

    The share is exp(entropy) / length, with scores as they are and divided by √d.
    """
    rows = []
    for dim in head_dims:
        products = (torch.randn(2, pairs, dim, generator=generator).prod(0)).sum(1)
        squares = products.square()
        queries, keys = torch.randn(2, length, dim, generator=generator)
        scores = queries @ keys.T
        used = {
            name: torch.special.entr((scores * factor).softmax(-1)).sum(-1).exp().mean().item() / length
            for name, factor in (("share_unscaled", 1.0), ("share_scaled", dim**-0.5))
        }
        error = squares.std().item() / math.sqrt(pairs)
        rows.append({"x": dim, "variance": squares.mean().item(), "standard_error": error, **used})
    return pd.DataFrame(rows)


def pair_at(length: float, angle: float, head_dim: int) -> tuple[Tensor, Tensor]:
    """Unscaled query and key whose x and y have the given length and angle; x+y lies along (1, …, 1)."""
    along = torch.ones(head_dim, dtype=torch.float64) / math.sqrt(head_dim)
    across = torch.zeros(head_dim, dtype=torch.float64)
    across[0], across[1] = math.sqrt(0.5), -math.sqrt(0.5)
    halves = length * math.cos(angle / 2) * along, length * math.sin(angle / 2) * across
    scale = head_dim**0.25
    return scale * (halves[0] + halves[1]), scale * (halves[0] - halves[1])


def features_of(kernel: str, vectors: Tensor, projection: Tensor, sum_square: float) -> RandomFeatures:
    """The kernel's features; FAVOR++ has the tilt that is best for |x+y|² = `sum_square`."""
    if kernel != "favor++":
        return FEATURE_MAPS[kernel](vectors, projection)
    tilt = best_tilt(vectors.new_full((1, 1), sum_square), vectors.shape[-1])
    return tilted_features(vectors, projection, tilt)


def block_estimates(
    kernel: str,
    query: Float[Tensor, " head_dim"],
    key: Float[Tensor, " head_dim"],
    projection: Float[Tensor, "features head_dim"],
    block: int,
) -> Float[Tensor, " draws"]:
    """The kernel of one pair, estimated from each `block` rows of the projection by itself, by the library's maps."""
    sum_square = (query + key).square().sum().item() * len(query) ** -0.5
    pair = [features_of(kernel, vector[None], projection, sum_square) for vector in (query, key)]
    (left, left_scale), (right, right_scale) = pair
    shares = left[0] * right[0] * (left_scale + right_scale).exp()
    shares = shares.view(-1, len(projection) // block, block).sum((0, 2))
    return shares * (len(projection) / block)


def expected_ratio(kernel: str, projection: str, head_dim: int, sum_square: float, difference_square: float) -> float:
    """Mean estimate over truth: one, but for rows of fixed norm g(d v / 4) exp(-v / 2)."""
    if projection != "fixed_norm":
        return 1.0
    square = -difference_square if kernel == "trigonometric" else sum_square
    return float(sphere_moment(np.array([square]), head_dim)[0] * math.exp(-square / 2))


def pair_errors(
    estimators: Sequence[str],
    pairs: Sequence[tuple[float, float]],
    head_dim: int,
    draws: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """For pairs of (length, angle): relative mean and mean square error of `draws` estimates from head_dim rows each.

    Each has its standard error and the closed form beside it.
    """
    rows = []
    for name in estimators:
        kernel, projection = name.split(" ")
        directions = draw_projection(projection, draws * head_dim, head_dim, generator).double()
        for length, angle in pairs:
            query, key = pair_at(length, angle, head_dim)
            truth = (query @ key * head_dim**-0.5).exp()
            ratio = block_estimates(kernel, query, key, directions, head_dim) / truth
            square = (ratio - 1).square()
            v, delta = (((query + sign * key).square().sum() * head_dim**-0.5).item() for sign in (1, -1))
            tilt = best_tilt(torch.tensor(v), head_dim).item() if kernel == "favor++" else 0.0
            sizes = np.array([v]), np.array([delta])
            expected = relative_mean_square(kernel, projection, head_dim, head_dim, *sizes, tilt)[0]
            measured = {"mean": ratio.mean().item(), "mean_error": ratio.std().item() / math.sqrt(draws)}
            measured |= {"square": square.mean().item(), "square_error": square.std().item() / math.sqrt(draws)}
            theory = {"mean_expected": expected_ratio(kernel, projection, head_dim, v, delta)}
            place = {"model": name, "length": length, "angle": angle, "sum_square": v, "difference_square": delta}
            rows.append({**place, **measured, **theory, "square_expected": expected})
    return pd.DataFrame(rows)


def standard_errors(frame: pd.DataFrame, name: str) -> pd.Series:
    """How many standard errors lie between the measured and the expected column."""
    return (frame[name] - frame[f"{name}_expected"]) / frame[f"{name}_error"]


def squares_at(
    lengths: Float[np.ndarray, " lengths"], angles: Float[np.ndarray, " angles"]
) -> tuple[Float[np.ndarray, "lengths angles"], Float[np.ndarray, "lengths angles"]]:
    """|x+y|² and |x-y|² of pairs with |x| = |y|."""
    return tuple(2 * lengths[:, None] ** 2 * (1 + sign * np.cos(angles)) for sign in (1, -1))


def ratio_map(
    lengths: Float[np.ndarray, " lengths"], angles: Float[np.ndarray, " angles"], columns: bool
) -> Float[np.ndarray, "lengths angles"]:
    """log₁₀ of the trigonometric over the positive mean square error, independent rows, |x| = |y|.

    At an equal number of draws, or of feature columns, of which a trigonometric draw takes two.
    """
    squares = squares_at(lengths, angles)
    parts = [error_parts(kernel, "gaussian", 16, *squares)[0] for kernel in ("trigonometric", "positive")]
    with np.errstate(divide="ignore"):
        return np.log10(parts[0]) - np.log10(parts[1]) + (math.log10(2) if columns else 0.0)


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


def orthogonal_gain(head_dims: Sequence[int], squares: Float[np.ndarray, " squares"]) -> pd.DataFrame:
    """Share of the independent error that orthogonal rows leave, full blocks, for |x+y|² = |x-y|² = x.

    With it the share that Theorem 2 of Choromanski et al. 2021 guarantees for positive features.
    """
    frames = []
    for dim in head_dims:
        for kernel in ("positive", "hyperbolic", "trigonometric"):
            parts = [error_parts(kernel, name, dim, squares, squares)[0] for name in ("orthogonal", "gaussian")]
            frames.append(pd.DataFrame({"model": kernel, "split": f"d = {dim}", "value": parts[0] / parts[1]}))
        independent = error_parts("positive", "gaussian", dim, squares, squares)[0]
        bound = 1 - 2 * (dim - 1) / (dim + 2) * (1 - np.exp(-squares / 2)) ** 2 / independent
        frames.append(pd.DataFrame({"model": "theorem_2", "split": f"d = {dim}", "value": bound}))
    return pd.concat(frames).assign(x=np.tile(squares, 4 * len(head_dims)), axis="sum_square", metric="share_of_error")


def relative_errors_table(
    estimators: Sequence[str], squares: Sequence[float], head_dim: int, columns: int
) -> pd.DataFrame:
    """Root mean square error relative to the kernel by closed form, at equal columns, for |x+y|² = |x-y|² = x."""
    rows = []
    for name in estimators:
        kernel, projection = name.split(" ")
        count = rows_for(kernel, columns)
        for square in squares:
            tilt = best_tilt(torch.tensor(square), head_dim).item() if kernel == "favor++" else 0.0
            sizes = np.array([square]), np.array([square])
            error = relative_mean_square(kernel, projection, head_dim, count, *sizes, tilt)[0]
            rows.append({"model": name, "x": square, "value": math.sqrt(error)})
    return pd.DataFrame(rows).assign(axis="sum_square", metric="relative_rmse")


def fixed_norm_ratio(squares: Float[np.ndarray, " squares"], head_dim: int) -> Float[np.ndarray, " squares"]:
    """The regularised over the softmax kernel, 0F1(; d/2; d v / 4) exp(-v / 2): never above one (Theorem 1)."""
    return sphere_moment(squares, head_dim) * np.exp(-squares / 2)


def output_errors(
    estimators: Sequence[str],
    scales: Sequence[float],
    sizes: Sequence[int],
    samples: int,
    length: int,
    head_dim: int,
    generator: torch.Generator,
    columns: bool = False,
) -> pd.DataFrame:
    """Mean square error of attention outputs over that of uniform attention, on normal inputs of variance `scale`.

    `sizes` are rows of the projection, or columns of the features; each sample has its own inputs and projection.
    """
    rows = []
    for scale in scales:
        for sample in range(samples):
            queries, keys, values = torch.randn(3, 1, 1, length, head_dim, generator=generator)
            queries, keys = queries * scale**0.5, keys * scale**0.5
            exact = softmax_attention(queries, keys, values)
            uniform = (values.mean(2, keepdim=True) - exact).square().mean()
            for name in estimators:
                kernel, projection = name.split(" ")
                for size in sizes:
                    count = rows_for(kernel, size) if columns else size
                    directions = draw_projection(projection, count, head_dim, generator)
                    error = (favor_attention(queries, keys, values, directions, kernel) - exact).square().mean()
                    place = {"model": name, "task": f"variance {scale:g}", "seed": sample, "x": size}
                    rows.append({**place, "value": (error / uniform).item()})
    axis = "columns" if columns else "features"
    return pd.DataFrame(rows).assign(axis=axis, metric="output_error_over_uniform")


def sup_errors(
    estimators: Sequence[str],
    lengths: Sequence[int],
    sizes: Sequence[int],
    repeats: int,
    head_dim: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Largest error over all entries of the unnormalised matrix, x and y of length one, as L and m grow.

    Lengths are swept at the largest size, sizes at the largest length.
    """
    sweeps = {("length", n, n, max(sizes)) for n in lengths} | {("features", m, max(lengths), m) for m in sizes}
    rows = []
    for name in estimators:
        kernel, projection = name.split(" ")
        for axis, x, length, size in sorted(sweeps):
            for repeat in range(repeats):
                vectors = torch.randn(2, length, head_dim, generator=generator)
                queries, keys = vectors / vectors.norm(dim=-1, keepdim=True) * head_dim**0.25
                directions = draw_projection(projection, size, head_dim, generator)
                estimate = kernel_estimate(*(features_of(kernel, one, directions, 2.0) for one in (queries, keys)))
                worst = estimate.sub_((queries @ keys.T * head_dim**-0.5).exp_()).abs_().max().item()
                rows.append({"model": name, "seed": repeat, "axis": axis, "x": x, "value": worst})
    return pd.DataFrame(rows).assign(task="unit length", metric="largest_error")


def attention_times(
    estimators: Sequence[str], columns: int, length: int, head_dim: int, repeats: int, generator: torch.Generator
) -> pd.DataFrame:
    """CPU milliseconds of one forward pass at equal columns, repeated after one that does not count."""
    rows = []
    queries, keys, values = torch.randn(3, 1, 4, length, head_dim, generator=generator)
    for name in estimators:
        kernel, projection = name.split(" ")
        count = rows_for(kernel, columns)
        directions = draw_projection(projection, count, head_dim, generator)
        for repeat in range(-1, repeats):
            started = time.process_time()
            favor_attention(queries, keys, values, directions, kernel)
            rows.append({"model": name, "seed": repeat, "value": 1000 * (time.process_time() - started)})
    rows = pd.DataFrame(rows).query("seed >= 0")
    return rows.assign(axis="columns", x=columns, metric="forward_cpu_ms")
