"""Random features drawn again and again: estimates of the kernel by the closed forms, attention on random inputs."""

import math
from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lib.attention import Projection
from lib.attention.performer import favor_attention
from lib.attention.random_features import FEATURE_MAPS, draw_projection, kernel_estimate
from lib.attention.softmax import softmax_attention
from study.kernel.closed_forms import error_parts, relative_mean_square, rows_for

HEAD_DIM = 16  # of random inputs
Vector = Float[Tensor, " head_dim"]


def pair_at(length: float, angle: float, head_dim: int) -> tuple[Tensor, Tensor]:
    """Unscaled query and key whose x and y have the given length and angle; x+y lies along (1, …, 1)."""
    along = torch.ones(head_dim, dtype=torch.float64) / math.sqrt(head_dim)
    across = torch.zeros(head_dim, dtype=torch.float64)
    across[0], across[1] = math.sqrt(0.5), -math.sqrt(0.5)
    half_sum, half_difference = length * math.cos(angle / 2) * along, length * math.sin(angle / 2) * across
    return head_dim**0.25 * (half_sum + half_difference), head_dim**0.25 * (half_sum - half_difference)


def block_estimates(kernel: str, query: Vector, key: Vector, projection: Projection) -> Float[Tensor, " draws"]:
    """The kernel of one pair, estimated from each head_dim rows of the projection by itself, by the library's maps."""
    (left, left_scale), (right, right_scale) = (FEATURE_MAPS[kernel](each[None], projection) for each in (query, key))
    shares = left[0] * right[0] * (left_scale + right_scale).exp()
    draws = len(projection) // len(query)
    return shares.view(-1, draws, len(query)).sum((0, 2)) * draws


def pair_errors(
    estimators: Sequence[str], pairs: Sequence[tuple[float, float]], draws: int, generator: Generator
) -> pd.DataFrame:
    """By (length, angle): mean and square error, relative, of estimates from HEAD_DIM rows, and what is expected."""
    rows = []
    for name in estimators:
        kernel, projection = name.split(" ")
        directions = draw_projection(projection, draws * HEAD_DIM, HEAD_DIM, generator).double()
        for length, angle in pairs:
            query, key = pair_at(length, angle, HEAD_DIM)
            truth = (query @ key * HEAD_DIM**-0.5).exp()
            ratio = block_estimates(kernel, query, key, directions) / truth
            square = (ratio - 1).square()
            sizes = [((query + sign * key).square().sum(0, True) * HEAD_DIM**-0.5).numpy() for sign in (1, -1)]
            row = {"model": name, "length": length, "angle": angle, "sum_square": sizes[0].item()}
            for metric, values in (("mean", ratio), ("square", square)):
                row |= {metric: values.mean().item(), f"{metric}_error": values.std().item() / math.sqrt(draws)}
            row["mean_expected"] = error_parts(kernel, projection, HEAD_DIM, *sizes)[1].item()
            row["square_expected"] = relative_mean_square(kernel, projection, HEAD_DIM, HEAD_DIM, *sizes).item()
            rows.append(row)
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
    generator: Generator,
    columns: bool = False,
) -> pd.DataFrame:
    """Mean square error of attention outputs over that of uniform attention, on normal inputs of each variance.

    `sizes` are rows of the projection, or columns of the features; each sample has its own inputs and projection.
    """
    rows = []
    for scale in scales:
        for sample in range(samples):
            queries, keys, values = torch.randn(3, 1, 1, length, HEAD_DIM, generator=generator)
            queries, keys = queries * scale**0.5, keys * scale**0.5
            exact = softmax_attention(queries, keys, values)
            uniform = (values.mean(2, keepdim=True) - exact).square().mean()
            for name in estimators:
                kernel, projection = name.split(" ")
                for size in sizes:
                    count = rows_for(kernel, size) if columns else size
                    directions = draw_projection(projection, count, HEAD_DIM, generator)
                    error = (favor_attention(queries, keys, values, directions, kernel) - exact).square().mean()
                    place = {"model": name, "task": f"variance {scale:g}", "seed": sample, "x": size}
                    rows.append({**place, "value": (error / uniform).item()})
    return pd.DataFrame(rows).assign(axis="features", metric="output_error_over_uniform")


def largest_errors(
    estimators: Sequence[str], lengths: Sequence[int], sizes: Sequence[int], repeats: int, generator: Generator
) -> pd.DataFrame:
    """Largest error of the unnormalised matrix, |x| = |y| = 1, by L at the largest m and by m at the largest L."""
    sweeps = {("length", n, n, max(sizes)) for n in lengths} | {("features", m, max(lengths), m) for m in sizes}
    rows = []
    for name in estimators:
        kernel, projection = name.split(" ")
        for axis, x, length, size in sorted(sweeps):
            for repeat in range(repeats):
                vectors = torch.randn(2, length, HEAD_DIM, generator=generator)
                queries, keys = vectors / vectors.norm(dim=-1, keepdim=True) * HEAD_DIM**0.25
                directions = draw_projection(projection, size, HEAD_DIM, generator)
                estimate = kernel_estimate(*(FEATURE_MAPS[kernel](one, directions) for one in (queries, keys)))
                worst = estimate.sub_((queries @ keys.T * HEAD_DIM**-0.5).exp_()).abs_().max().item()
                rows.append({"model": name, "seed": repeat, "axis": axis, "x": x, "value": worst})
    return pd.DataFrame(rows).assign(task="unit length", metric="largest_error")
