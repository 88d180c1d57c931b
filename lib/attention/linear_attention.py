"""Attention through feature maps, linear in length: tiles whose features are recomputed in the backward pass.

One row is one head of one customer. A kernel enters as a `FeatureMap`: an activation of `vectors @ directions.T`, a log
weight for every column, and one for every key in proportion to its squared norm. Sums over keys are kept relative to
2^level of their column, and levels are constants to differentiation: sums carry the whole gradient. Levels are binary
logarithms because exp2 takes a quarter of the time of exp.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from lib.attention.numerics import differentiable_gradients, needs_plain_operations

LOG2_E = math.log2(math.e)
TILE = 1024


class FeatureMap(NamedTuple):
    """Activation (exponential, cosine, relu) of logits, level of each column, log weight of a key per squared norm."""

    activation: str
    directions: Float[Tensor, "directions head_dim"]
    column_level: Float[Tensor, "rows columns"]
    norm_share: Float[Tensor, " rows"]


class State(NamedTuple):
    """Sums over keys of weight · feature · value and of weight · feature, each relative to 2^level."""

    context: Float[Tensor, "rows columns value_dim"]
    normaliser: Float[Tensor, "rows columns"]
    level: Float[Tensor, "rows columns"]


def full_precision(method: Callable) -> Callable:
    """A method of an autograd function, run outside autocast: sums over a sequence need float32."""

    @wraps(method)
    def run(ctx: FunctionCtx, first: Tensor, *rest):
        with torch.autocast(first.device.type, enabled=False):
            return method(ctx, first, *rest)

    return run


def tile_elements(device: torch.device) -> int:
    """Elements of one tile of features: it should stay in the cache of a CPU core, and fill an accelerator."""
    return 2**18 if device.type == "cpu" else 2**25


def tiles(rows: int, length: int, columns: int, tokens: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Slices of rows and tokens; all tokens of one group of rows follow each other."""
    tokens = max(1, min(tokens, length))
    group = max(1, tile_elements(device) // (tokens * columns))
    for row in range(0, rows, group):
        for token in range(0, length, tokens):
            yield slice(row, min(row + group, rows)), slice(token, min(token + tokens, length))


class Scratch:
    """A buffer that tiles of different shapes reuse: fresh memory for each would cost more than the arithmetic."""

    def __init__(self, like: Tensor, columns: int):
        self.flat = like.new_empty(max(tile_elements(like.device), TILE * columns))

    def view(self, *shape: int) -> Tensor:
        return self.flat[: torch.Size(shape).numel()].view(shape)


def log_zero(dtype: torch.dtype) -> float:
    """Stands for the logarithm of zero; finite, because the difference of two infinities is not a number."""
    return torch.finfo(dtype).min / 4


def over_columns(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over columns, for each token; batched products of matrix and vector are slow in the framework."""
    if len(features) == 1:
        return features @ weights[..., None]
    return (features * weights[:, None]).sum(-1, keepdim=True)


def over_tokens(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over tokens, for each column."""
    if len(features) == 1:
        return (features.transpose(1, 2) @ weights)[..., 0]
    return (features * weights).sum(1)


def activate(logits: Tensor, activation: str) -> Tensor:
    """Features of the kernels that need no stabiliser: both waves of the trigonometric one, or the positive part."""
    return torch.cat([logits.cos(), logits.sin()], -1) if activation == "cosine" else logits.relu()


def logit_gradient(features: Tensor, gradient: Tensor, activation: str) -> Tensor:
    """Gradient of the logits from that of the features; overwrites `gradient` where shapes allow."""
    if activation == "exponential":
        return gradient.mul_(features)
    if activation == "relu":
        return gradient.mul_(features > 0)
    cosine, sine = features.chunk(2, -1)
    by_cosine, by_sine = gradient.chunk(2, -1)
    return by_sine * cosine - by_cosine * sine


def key_levels(keys: Tensor, hidden: Tensor, feature_map: FeatureMap) -> Tensor:
    """The level of every key, which for an exponential kernel belongs into the exponent."""
    level = torch.linalg.vector_norm(keys, dim=-1).square_() * (feature_map.norm_share[:, None] * LOG2_E)
    return level.masked_fill_(hidden, log_zero(level.dtype))


def query_features(queries: Tensor, level: Tensor, feature_map: FeatureMap, out: Tensor | None = None) -> Tensor:
    """Features of queries up to a factor per query, which cancels; the largest exponential of a query is one."""
    directions = feature_map.directions.T.expand(len(queries), -1, -1)
    if feature_map.activation != "exponential":
        return activate(torch.bmm(queries, directions, out=out), feature_map.activation)
    logits = torch.baddbmm(level[:, None], queries, directions, alpha=LOG2_E, out=out)
    return logits.sub_(logits.amax(-1, keepdim=True)).exp2_()


class _Summary(torch.autograd.Function):
    """All keys and values as one State; forward and backward hold one tile of features at a time."""

    @staticmethod
    @full_precision
    def forward(ctx: FunctionCtx, keys: Tensor, values: Tensor, hidden: Tensor, feature_map: FeatureMap):
        exponential = feature_map.activation == "exponential"
        rows, columns = feature_map.column_level.shape
        context = values.new_zeros(rows, columns, values.shape[-1])
        normaliser = values.new_zeros(rows, columns)
        key_level = key_levels(keys, hidden, feature_map)
        top = key_level.amax(-1, keepdim=True).expand(rows, columns)
        level = torch.full_like(normaliser, log_zero(normaliser.dtype)) if exponential else top.contiguous()
        scratch = Scratch(keys, columns)
        for row, token in tiles(rows, keys.shape[1], columns, TILE, keys.device):
            key, value, weight = keys[row, token], values[row, token], key_level[row, token, None]
            directions = feature_map.directions.T.expand(len(key), -1, -1)
            logits = scratch.view(*key.shape[:2], directions.shape[-1])
            if exponential:
                features = torch.baddbmm(weight, key, directions, alpha=LOG2_E, out=logits)
                higher = torch.maximum(level[row], logits.amax(1))
                features.sub_(higher[:, None]).exp2_()
                decay = (level[row] - higher).exp2_()
                level[row] = higher
                context[row] *= decay[..., None]
                normaliser[row].mul_(decay).add_(features.sum(1))
            else:
                features = activate(torch.bmm(key, directions, out=logits), feature_map.activation)
                weight = (weight - level[row, None, :1]).exp2_()
                value = value * weight
                normaliser[row] += over_tokens(features, weight)
            context[row].baddbmm_(features.transpose(1, 2), value)
        if exponential:
            context /= normaliser[..., None]
            level += normaliser.log2()
            normaliser.fill_(1)
        some_key = ~hidden.all(-1, keepdim=True)
        context *= some_key[..., None]
        normaliser *= some_key
        ctx.save_for_backward(keys, values, key_level, some_key, level)
        ctx.feature_map = feature_map
        level = level + feature_map.column_level if exponential else level.clone()
        ctx.mark_non_differentiable(level)
        return context, normaliser, level

    @staticmethod
    @full_precision
    def backward(ctx: FunctionCtx, by_context: Tensor, by_normaliser: Tensor, _: Tensor):
        keys, values, key_level, some_key, level = ctx.saved_tensors
        if torch.is_grad_enabled():
            hidden = key_level <= log_zero(key_level.dtype)
            plain = partial(plain_summary, hidden=hidden, feature_map=ctx.feature_map, level=level)
            sums = lambda *inputs: plain(*inputs)[:2]  # noqa: E731
            return *differentiable_gradients(sums, (keys, values), (by_context, by_normaliser)), None, None
        activation, all_directions, _, norm_share = ctx.feature_map
        by_context, by_normaliser = by_context * some_key[..., None], by_normaliser * some_key
        by_keys, by_values = torch.empty_like(keys), torch.empty_like(values)
        columns = level.shape[1]
        scratch, other = Scratch(keys, columns), Scratch(keys, columns)
        for row, token in tiles(len(keys), keys.shape[1], columns, TILE, keys.device):
            key, value, weight = keys[row, token], values[row, token], key_level[row, token, None]
            directions = all_directions.expand(len(key), -1, -1)
            logits = scratch.view(*key.shape[:2], directions.shape[1])
            by_features = other.view(*key.shape[:2], columns)
            if activation == "exponential":
                features = torch.baddbmm(weight, key, directions.transpose(1, 2), alpha=LOG2_E, out=logits)
                features.sub_(level[row, None]).exp2_()
                torch.baddbmm(by_normaliser[row, None], value, by_context[row].transpose(1, 2), out=by_features)
                torch.bmm(features, by_context[row], out=by_values[row, token])
                by_logits = by_features.mul_(features)
                by_level = by_logits.sum(-1, keepdim=True)
            else:
                features = activate(torch.bmm(key, directions.transpose(1, 2), out=logits), activation)
                weight = (weight - level[row, None, :1]).exp2_()
                by_value = features @ by_context[row] * weight
                by_mass = over_columns(features, by_normaliser[row]) * weight
                by_level = (by_value * value).sum(-1, keepdim=True) + by_mass
                by_values[row, token] = by_value
                torch.mul(weight, by_normaliser[row, None], out=by_features)
                by_features.baddbmm_(value * weight, by_context[row].transpose(1, 2))
                by_logits = logit_gradient(features, by_features, activation)
            by_norm = by_level * (2 * norm_share[row, None, None])
            torch.mul(key, by_norm, out=by_keys[row, token]).baddbmm_(by_logits, directions)
        return by_keys, by_values, None, None


class _Read(torch.autograd.Function):
    """What queries read from a State; forward and backward hold one tile of features at a time."""

    @staticmethod
    @full_precision
    def forward(
        ctx: FunctionCtx, queries: Tensor, context: Tensor, normaliser: Tensor, level: Tensor, feature_map: FeatureMap
    ):
        rows, columns, value_dim = context.shape
        output = queries.new_empty(*queries.shape[:2], value_dim)
        mass = queries.new_empty(*queries.shape[:2], 1)
        scratch = Scratch(queries, columns)
        for row, token in tiles(rows, queries.shape[1], columns, TILE, queries.device):
            query = queries[row, token]
            logits = scratch.view(*query.shape[:2], len(feature_map.directions))
            features = query_features(query, level[row], feature_map, logits)
            torch.bmm(features, context[row], out=output[row, token])
            mass[row, token] = over_columns(features, normaliser[row])
        mass = mass.masked_fill_(mass == 0, 1)
        output /= mass
        ctx.save_for_backward(queries, context, normaliser, level, output, mass)
        ctx.feature_map = feature_map
        return output

    @staticmethod
    @full_precision
    def backward(ctx: FunctionCtx, by_output: Tensor):
        queries, context, normaliser, level, output, mass = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = lambda q, c, n: (plain_read(q, State(c, n, level), ctx.feature_map),)  # noqa: E731
            return *differentiable_gradients(plain, (queries, context, normaliser), (by_output,)), None, None
        by_queries = torch.empty_like(queries)
        by_context, by_normaliser = torch.zeros_like(context), torch.zeros_like(normaliser)
        rows, columns = normaliser.shape
        scratch, other = Scratch(queries, columns), Scratch(queries, columns)
        for row, token in tiles(rows, queries.shape[1], columns, TILE, queries.device):
            query = queries[row, token]
            logits = other.view(*query.shape[:2], len(ctx.feature_map.directions))
            features = query_features(query, level[row], ctx.feature_map, logits)
            gradient = by_output[row, token] / mass[row, token]
            by_mass = (gradient * output[row, token]).sum(-1, keepdim=True).neg_()
            turned = features.transpose(1, 2)
            by_context[row].baddbmm_(turned, gradient)
            by_normaliser[row] += over_tokens(features, by_mass)
            by_features = scratch.view(*features.shape)
            torch.mul(by_mass, normaliser[row, None], out=by_features)
            by_features.baddbmm_(gradient, context[row].transpose(1, 2))
            by_logits = logit_gradient(features, by_features, ctx.feature_map.activation)
            directions = ctx.feature_map.directions.expand(len(features), -1, -1)
            torch.bmm(by_logits, directions, out=by_queries[row, token])
        return by_queries, by_context, by_normaliser, None, None


def plain_summary(
    keys: Float[Tensor, "rows key_length head_dim"],
    values: Float[Tensor, "rows key_length value_dim"],
    hidden: Bool[Tensor, "rows key_length"],
    feature_map: FeatureMap,
    level: Float[Tensor, "rows columns"] | None = None,
) -> State:
    """The summary written out, relative to `level` if given: for second derivatives, torch.func and torch.export."""
    key_level = (keys.square().sum(-1) * (feature_map.norm_share[:, None] * LOG2_E)).masked_fill(
        hidden, log_zero(keys.dtype)
    )
    logits = keys @ feature_map.directions.T
    if feature_map.activation == "exponential":
        logits = LOG2_E * logits + key_level[..., None]
        if level is None:
            level = (logits.detach() / LOG2_E).logsumexp(1) * LOG2_E
        features, column_level = (logits - level[:, None]).exp2(), feature_map.column_level
    else:
        if level is None:
            level = key_level.detach().amax(-1, keepdim=True) + torch.zeros_like(feature_map.column_level)
        features, column_level = activate(logits, feature_map.activation), 0
        features = features * (key_level - level[:, :1]).exp2()[..., None]
    features = features * ~hidden[..., None]
    return State(features.mT @ values, features.sum(1), level + column_level)


def plain_read(
    queries: Float[Tensor, "rows query_length head_dim"], state: State, feature_map: FeatureMap
) -> Float[Tensor, "rows query_length value_dim"]:
    """The read written out."""
    logits = queries @ feature_map.directions.T
    if feature_map.activation == "exponential":
        logits = LOG2_E * logits + state.level[:, None]
        features = (logits - logits.detach().amax(-1, keepdim=True)).exp2()
    else:
        features = activate(logits, feature_map.activation)
    mass = features @ state.normaliser[..., None]
    return features @ state.context / mass.masked_fill(mass == 0, 1)


def summary(
    keys: Float[Tensor, "rows key_length head_dim"],
    values: Float[Tensor, "rows key_length value_dim"],
    hidden: Bool[Tensor, "rows key_length"],
    feature_map: FeatureMap,
) -> State:
    """Keys and values that are not hidden, as sums over columns (Choromanski et al. 2021, section 2.2)."""
    if needs_plain_operations(keys, values):
        return plain_summary(keys, values, hidden, feature_map)
    return State(*_Summary.apply(keys, values, hidden, feature_map))


def read(
    queries: Float[Tensor, "rows query_length head_dim"], state: State, feature_map: FeatureMap
) -> Float[Tensor, "rows query_length value_dim"]:
    """The weighted mean of values that each query reads from `state`; zero where the state is empty."""
    if needs_plain_operations(queries, *state):
        return plain_read(queries, state, feature_map)
    return _Read.apply(queries, *state, feature_map)
