"""Random features drawn again and again: estimates of the kernel beside the closed forms, attention on random inputs.

Frames have one row per measurement.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.performer import favor_attention
from lib.attention.random_features import FEATURE_MAPS, draw_projection, kernel_estimate
from lib.attention.softmax import softmax_attention
from study.kernel.closed_forms import error_parts, relative_mean_square, rows_for


def pair_at(length: float, angle: float, head_dim: int) -> tuple[Tensor, Tensor]:
    """Unscaled query and key whose x and y have the given length and angle; x+y lies along (1, …, 1)."""
    along = torch.ones(head_dim, dtype=torch.float64) / math.sqrt(head_dim)
    across = torch.zeros(head_dim, dtype=torch.float64)
    across[0], across[1] = math.sqrt(0.5), -math.sqrt(0.5)
    halves = length * math.cos(angle / 2) * along, length * math.sin(angle / 2) * across
    scale = head_dim**0.25
    return scale * (halves[0] + halves[1]), scale * (halves[0] - halves[1])


def block_estimates(
    kernel: str,
    query: Float[Tensor, " head_dim"],
    key: Float[Tensor, " head_dim"],
    projection: Float[Tensor, "features head_dim"],
) -> Float[Tensor, " draws"]:
    """The kernel of one pair, estimated from each head_dim rows of the projection by itself, by the library's maps."""
    head_dim = len(query)
    (left, left_scale), (right, right_scale) = (
        FEATURE_MAPS[kernel](vector[None], projection) for vector in (query, key)
    )
    shares = left[0] * right[0] * (left_scale + right_scale).exp()
    draws = len(projection) // head_dim
    return shares.view(-1, draws, head_dim).sum((0, 2)) * draws


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
            ratio = block_estimates(kernel, query, key, directions) / truth
            square = (ratio - 1).square()
            v, delta = (((query + sign * key).square().sum() * head_dim**-0.5).item() for sign in (1, -1))
            sizes = np.array([v]), np.array([delta])
            measured = {"mean": ratio.mean().item(), "mean_error": ratio.std().item() / math.sqrt(draws)}
            measured |= {"square": square.mean().item(), "square_error": square.std().item() / math.sqrt(draws)}
            theory = {"mean_expected": error_parts(kernel, projection, head_dim, *sizes)[1][0]}
            theory["square_expected"] = relative_mean_square(kernel, projection, head_dim, head_dim, *sizes)[0]
            place = {"model": name, "length": length, "angle": angle, "sum_square": v}
            rows.append({**place, **measured, **theory})
    return pd.DataFrame(rows)


def standard_errors(frame: pd.DataFrame, name: str) -> pd.Series:
    """How many standard errors lie between the measured and the expected column."""
    return (frame[name] - frame[f"{name}_expected"]) / frame[f"{name}_error"]


def output_errors(
    estimators: Sequence[str],
    scales: Sequence[float],
    sizes: Sequence[int],
    samples: int,
    length: int,
    generator: torch.Generator,
    columns: bool = False,
    head_dim: int = 16,
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
    return pd.DataFrame(rows).assign(axis="features", metric="output_error_over_uniform")


def largest_errors(
    estimators: Sequence[str],
    lengths: Sequence[int],
    sizes: Sequence[int],
    repeats: int,
    generator: torch.Generator,
    head_dim: int = 16,
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
                estimate = kernel_estimate(*(FEATURE_MAPS[kernel](one, directions) for one in (queries, keys)))
                worst = estimate.sub_((queries @ keys.T * head_dim**-0.5).exp_()).abs_().max().item()
                rows.append({"model": name, "seed": repeat, "axis": axis, "x": x, "value": worst})
    return pd.DataFrame(rows).assign(task="unit length", metric="largest_error")
