"""Faults of published FAVOR+ code, each as a literal transcription, beside the form that does not have it.

The transcriptions follow the widely used implementations as described in their sources and issue trackers: orthogonal
rows from an uncorrected QR, a stabiliser that leaves out the norm and looks at all keys, an additive epsilon, and a
padding mask on the values alone.
"""

import math
from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.attention.performer import favor_attention
from lib.attention.random_features import gaussian_projection, orthogonal_projection
from study.kernel.kernel_error import block_estimates, pair_at

EPSILON = 1e-4


def uncorrected_projection(
    features: int, head_dim: int, generator: torch.Generator
) -> Float[Tensor, "features head_dim"]:
    """Orthogonal blocks straight from the QR: the first entry of the first row is negative in every one of them."""
    basis, _ = torch.linalg.qr(torch.randn(features // head_dim, head_dim, head_dim, generator=generator))
    return basis.transpose(1, 2).flatten(0, 1) * gaussian_projection(features, head_dim, generator).norm(dim=1)[:, None]


def published_features(
    vectors: Float[Tensor, "*batch length head_dim"],
    projection: Float[Tensor, "features head_dim"],
    keys: bool,
    epsilon: float = EPSILON,
) -> Float[Tensor, "*batch length features"]:
    """exp(w·x - |x|²/2 - max w·x) + ε: the maximum is over a query's features, or over all keys and features."""
    scaled = vectors * vectors.shape[-1] ** -0.25
    logits, norms = scaled @ projection.T, scaled.square().sum(-1, keepdim=True) / 2
    top = logits.amax((-2, -1), keepdim=True) if keys else logits.amax(-1, keepdim=True)
    return (logits - norms - top).exp() + epsilon


def published_attention(
    queries: Float[Tensor, "batch heads length head_dim"],
    keys: Float[Tensor, "batch heads length head_dim"],
    values: Float[Tensor, "batch heads length head_dim"],
    projection: Float[Tensor, "features head_dim"],
    causal: bool = False,
    value_mask: Bool[Tensor, "batch length"] | None = None,
    epsilon: float = EPSILON,
) -> Float[Tensor, "batch heads length head_dim"]:
    """Linear attention as published: padded values are zero, but padded keys stay in the denominator."""
    if value_mask is not None:
        values = values * value_mask[:, None, :, None]
    asked = published_features(queries, projection, keys=False, epsilon=epsilon)
    given = published_features(keys, projection, keys=True, epsilon=epsilon)
    weights = asked @ given.transpose(-2, -1)
    weights = weights.tril() if causal else weights
    return weights @ values / weights.sum(-1, keepdim=True)


def epsilon_share(
    keys: Float[Tensor, "batch heads length head_dim"], projection: Float[Tensor, "features head_dim"]
) -> float:
    """The part of the key features' sum that is ε."""
    with_epsilon = published_features(keys, projection, keys=True).sum()
    without = published_features(keys, projection, keys=True, epsilon=0.0).sum()
    return (1 - without / with_epsilon).item()


def relative_change(one: Tensor, other: Tensor) -> float:
    """‖one - other‖ / ‖other‖."""
    return ((one - other).norm() / other.norm()).item()


def future_leak(queries: Tensor, keys: Tensor, values: Tensor, projection: Tensor) -> dict[str, float]:
    """How much the causal outputs before the last event change when the last key is six times as long."""
    longer = keys.clone()
    longer[:, :, -1] *= 6
    changed = {}
    for name, form in (("published", published_attention), ("ours", favor_attention)):
        before, after = (form(queries, each, values, projection, causal=True)[:, :, :-1] for each in (keys, longer))
        changed[name] = relative_change(after, before)
    return changed


def padding_leak(queries: Tensor, keys: Tensor, values: Tensor, projection: Tensor) -> dict[str, float]:
    """How much the outputs of the first half change when the second half is padding instead of not there."""
    half = queries.shape[2] // 2
    mask = (torch.arange(queries.shape[2]) < half).expand(queries.shape[0], -1)
    short = [tensor[:, :, :half] for tensor in (queries, keys, values)]
    published = published_attention(queries, keys, values, projection, value_mask=mask)[:, :, :half]
    ours = favor_attention(queries, keys, values, projection, key_mask=mask)[:, :, :half]
    return {
        "published": relative_change(published, published_attention(*short, projection)),
        "ours": relative_change(ours, favor_attention(*short, projection)),
    }


def sign_bias(head_dims: Sequence[int], draws: int, generator: torch.Generator) -> pd.DataFrame:
    """Mean estimate over truth for positive features, x+y of length two along ±(1, …, 1), with its standard error."""
    rows = []
    forms = {"published": uncorrected_projection, "ours": orthogonal_projection}
    for dim in head_dims:
        query, key = pair_at(1.0, 0.01, dim)
        truth = (query @ key * dim**-0.5).exp()
        for name, draw in forms.items():
            directions = draw(draws * dim, dim, generator).double()
            for sign in (1, -1):
                ratio = block_estimates("positive", sign * query, sign * key, directions, dim) / truth
                error = ratio.std().item() / math.sqrt(draws)
                row = {"model": name, "split": f"{sign:+d}", "x": dim, "mean": ratio.mean().item()}
                rows.append({**row, "mean_expected": 1.0, "mean_error": error})
    return pd.DataFrame(rows)


def attention_faults(
    cases: Sequence[tuple[int, float]], length: int, features: int, repeats: int, generator: torch.Generator
) -> pd.DataFrame:
    """ε's share, the future's and the padding's influence for normal inputs of each (head_dim, variance)."""
    rows = []
    for dim, variance in cases:
        for repeat in range(repeats):
            queries, keys, values = torch.randn(3, 1, 2, length, dim, generator=generator)
            queries, keys = queries * variance**0.5, keys * variance**0.5
            projection = orthogonal_projection(features, dim, generator)
            inputs = queries, keys, values, projection
            found = {
                "epsilon_share": {"published": epsilon_share(keys, projection), "ours": 0.0},
                "change_by_the_future": future_leak(*inputs),
                "change_by_padding": padding_leak(*inputs),
            }
            place = {"task": f"d = {dim}, variance {variance:g}", "seed": repeat}
            for metric, by_form in found.items():
                rows += [{**place, "model": name, "metric": metric, "value": value} for name, value in by_form.items()]
    return pd.DataFrame(rows).assign(axis="length", x=length)
