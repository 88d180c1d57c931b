"""Attention through feature maps, linear in length, in both directions and causal: the fast form of FAVOR+.

Tiles of features are recomputed in the backward pass. One row is one head of one customer. A kernel enters as a
`FeatureMap`: an activation of `vectors @ directions.T`, a log weight for every column, and one for every key in
proportion to its squared norm. Sums over keys are kept relative to 2^level of their column, and levels are constants to
differentiation: sums carry the whole gradient. Levels are binary logarithms: exp2 takes a quarter of the time of exp.

The causal form walks chunks with a running state. Inside a chunk every key is stabilised by itself, relative to the
state that the chunk starts from, so that no number depends on a later event; between chunks the state is rescaled as
in online softmax. Where a sum of exponentials would underflow, the chunk is halved, down to single events, where it
cannot. The backward pass recomputes a segment of chunks at a time from the states saved at segment starts.

Longer than 300 lines because both directions share their features, levels and sums, and each is derived by hand twice.
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
CHUNK = 64
SEGMENT = 8 * CHUNK
Queries = Float[Tensor, "rows query_length head_dim"]
Keys = Float[Tensor, "rows key_length head_dim"]
Values = Float[Tensor, "rows key_length value_dim"]
Hidden = Bool[Tensor, "rows key_length"]
Outputs = Float[Tensor, "rows query_length value_dim"]


class FeatureMap(NamedTuple):
    """Activation (exponential, cosine) of logits, level of each column, log weight of a key per squared norm."""

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


def waves(logits: Tensor) -> Tensor:
    """Features of the trigonometric kernel, which need no stabiliser."""
    return torch.cat([logits.cos(), logits.sin()], -1)


def logit_gradient(features: Tensor, gradient: Tensor, activation: str) -> Tensor:
    """Gradient of the logits from that of the features; overwrites `gradient` where shapes allow."""
    if activation == "exponential":
        return gradient.mul_(features)
    cosine, sine = features.chunk(2, -1)
    by_cosine, by_sine = gradient.chunk(2, -1)
    return by_sine * cosine - by_cosine * sine


def key_levels(keys: Tensor, hidden: Tensor, feature_map: FeatureMap) -> Tensor:
    """The level of every key, which for an exponential kernel belongs into the exponent."""
    level = torch.linalg.vector_norm(keys, dim=-1).square_() * (feature_map.norm_share[:, None] * LOG2_E)
    return level.masked_fill_(hidden, log_zero(level.dtype))


def features_of_queries(queries: Tensor, level: Tensor, feature_map: FeatureMap, out: Tensor | None = None) -> Tensor:
    """Features of queries up to a factor per query, which cancels; the largest exponential of a query is one."""
    directions = feature_map.directions.T.expand(len(queries), -1, -1)
    if feature_map.activation != "exponential":
        return waves(torch.bmm(queries, directions, out=out))
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
                features = waves(torch.bmm(key, directions, out=logits))
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
                features = waves(torch.bmm(key, directions.transpose(1, 2), out=logits))
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
            features = features_of_queries(query, level[row], feature_map, logits)
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
            features = features_of_queries(query, level[row], ctx.feature_map, logits)
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
    keys: Keys, values: Values, hidden: Hidden, feature_map: FeatureMap, level: Tensor | None = None
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
        features, column_level = waves(logits), 0
        features = features * (key_level - level[:, :1]).exp2()[..., None]
    features = features * ~hidden[..., None]
    return State(features.mT @ values, features.sum(1), level + column_level)


def plain_read(queries: Queries, state: State, feature_map: FeatureMap) -> Outputs:
    """The read written out."""
    logits = queries @ feature_map.directions.T
    if feature_map.activation == "exponential":
        logits = LOG2_E * logits + state.level[:, None]
        features = (logits - logits.detach().amax(-1, keepdim=True)).exp2()
    else:
        features = waves(logits)
    mass = features @ state.normaliser[..., None]
    return features @ state.context / mass.masked_fill(mass == 0, 1)


def summary(keys: Keys, values: Values, hidden: Hidden, feature_map: FeatureMap) -> State:
    """Keys and values that are not hidden, as sums over columns (Choromanski et al. 2021, section 2.2)."""
    if needs_plain_operations(keys, values):
        return plain_summary(keys, values, hidden, feature_map)
    return State(*_Summary.apply(keys, values, hidden, feature_map))


def read(queries: Queries, state: State, feature_map: FeatureMap) -> Outputs:
    """The weighted mean of values that each query reads from `state`; zero where the state is empty."""
    if needs_plain_operations(queries, *state):
        return plain_read(queries, state, feature_map)
    return _Read.apply(queries, *state, feature_map)


class _Chunk(NamedTuple):
    """What the backward pass needs of one chunk; `decay` took the state before it to the level of `start`."""

    keys: Tensor
    values: Tensor
    start: State
    query_features: Tensor
    key_features: Tensor
    weights: Tensor
    scores: Tensor
    carried: Tensor
    key_weights: Tensor
    keep: Tensor
    size: Tensor
    mass: Tensor
    output: Tensor
    decay: Tensor | None = None


def features_of_keys(keys: Tensor, key_level: Tensor, level: Tensor, feature_map: FeatureMap) -> tuple[Tensor, Tensor]:
    """Features relative to `level`, each key stabilised by itself alone, and the log weights of the keys."""
    directions, zero = feature_map.directions.T.expand(len(keys), -1, -1), log_zero(keys.dtype)
    if feature_map.activation == "exponential":
        offset = (feature_map.column_level - level)[:, None]
        logits = torch.baddbmm(offset, keys, directions, alpha=LOG2_E)
        top = logits.amax(-1)
        return logits.sub_(top[..., None]).exp2_(), torch.where(key_level > zero / 2, top + key_level, zero)
    log_weights = torch.where(key_level > zero / 2, key_level - level[:, :1], zero)
    return waves(keys @ directions), log_weights


def _chunk_forward(
    queries: Tensor, keys: Tensor, values: Tensor, key_level: Tensor, start: State, feature_map: FeatureMap
) -> tuple[_Chunk, State]:
    """Outputs of one chunk, and the state after it, at any norm that does not underflow."""
    query_features = features_of_queries(queries, start.level, feature_map)
    key_features, log_weights = features_of_keys(keys, key_level, start.level, feature_map)
    zero = log_zero(values.dtype)
    real = (log_weights > zero / 2).to(values.dtype)
    seen = (start.normaliser.abs().sum(-1, keepdim=True) == 0).to(values.dtype) * zero
    top = torch.maximum(log_weights.cummax(-1).values, seen)
    weights = (log_weights[:, None] - top[..., None]).clamp_max_(0).exp2_().mul_(real[:, None]).tril_()
    scores = (query_features @ key_features.transpose(1, 2)).mul_(weights)
    carried = (seen - top).exp2_()[..., None]
    output = torch.baddbmm((query_features @ start.context).mul_(carried), scores, values)
    mass = over_columns(query_features, start.normaliser).mul_(carried).add_(scores.sum(-1, keepdim=True))
    mass.masked_fill_((top <= zero / 2)[..., None], 1)
    output /= mass.masked_fill(mass == 0, 1)
    final = top[:, -1:]
    key_weights = (log_weights - final).exp2_().mul_(real)[..., None]
    keep = (seen - final).exp2_()
    turned = key_features.transpose(1, 2)
    context = torch.baddbmm(start.context * keep[..., None], turned, key_weights * values)
    normaliser = (start.normaliser * keep).add_(over_tokens(key_features, key_weights))
    shift, size = final, torch.ones_like(normaliser)
    if feature_map.activation == "exponential":
        size = torch.where(final > zero / 2, normaliser, 1).clamp_min(torch.finfo(normaliser.dtype).tiny)
        shift = final + size.log2()
        context, normaliser = context / size[..., None], normaliser / size
    level = start.level + torch.where(final > zero / 2, shift, 0)
    sums = (weights, scores, carried, key_weights, keep, size, mass, output)
    chunk = _Chunk(keys, values, start, query_features, key_features, *sums)
    return chunk, State(context, normaliser, level)


def _is_safe(chunk: _Chunk, after: State) -> bool:
    """Whether every sum of exponentials is far from underflow, so that what it lost is below rounding."""
    floor = torch.finfo(after.normaliser.dtype).tiny ** (2 / 3)
    return bool((chunk.mass > floor).all() & (chunk.size > floor).all())


def _raised(keys: Tensor, key_level: Tensor, state: State, feature_map: FeatureMap) -> tuple[State, Tensor]:
    """The state relative to levels that the next key does not exceed, and the factor of each column."""
    logits = LOG2_E * keys[:, 0] @ feature_map.directions.T + feature_map.column_level + key_level
    zero = log_zero(keys.dtype)
    level = torch.where(state.normaliser > 0, state.level, zero)
    higher = torch.where(key_level > zero / 2, torch.maximum(level, logits), state.level)
    decay = (level - higher).exp2()
    return State(state.context * decay[..., None], state.normaliser * decay, higher), decay


def _chunk_forward_safely(
    queries: Tensor, keys: Tensor, values: Tensor, key_level: Tensor, start: State, feature_map: FeatureMap
) -> tuple[list[_Chunk], State]:
    """One chunk, or the halves it must be cut into, and the state after it."""
    chunk, after = _chunk_forward(queries, keys, values, key_level, start, feature_map)
    if feature_map.activation != "exponential" or _is_safe(chunk, after):
        return [chunk], after
    if keys.shape[1] == 1:
        start, decay = _raised(keys, key_level, start, feature_map)
        chunk, after = _chunk_forward(queries, keys, values, key_level, start, feature_map)
        return [chunk._replace(decay=decay)], after
    half = keys.shape[1] // 2
    chunks = []
    for token in (slice(None, half), slice(half, None)):
        pieces = (tensor[:, token] for tensor in (queries, keys, values, key_level))
        part, start = _chunk_forward_safely(*pieces, start, feature_map)
        chunks += part
    return chunks, start


def _chunk_backward(
    chunk: _Chunk, by_output: Tensor, by_context: Tensor, by_normaliser: Tensor, feature_map: FeatureMap
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of one chunk: queries, keys, values, and both sums of the state it started from."""
    by_read = by_output / chunk.mass.masked_fill(chunk.mass == 0, 1)
    by_mass = -(by_read * chunk.output).sum(-1, keepdim=True)
    by_context = by_context / chunk.size[..., None]
    by_normaliser = by_normaliser / chunk.size
    query_features, key_features, context = chunk.query_features, chunk.key_features, chunk.start.context
    by_scores = torch.baddbmm(by_mass, by_read, chunk.values.transpose(1, 2)).mul_(chunk.weights)
    carried_read, carried_mass = by_read * chunk.carried, by_mass * chunk.carried
    by_query_features = torch.baddbmm(
        carried_mass * chunk.start.normaliser[:, None], carried_read, context.transpose(1, 2)
    )
    by_query_features.baddbmm_(by_scores, key_features)
    weighted = chunk.values * chunk.key_weights
    by_key_features = torch.baddbmm(chunk.key_weights * by_normaliser[:, None], weighted, by_context.transpose(1, 2))
    by_key_features.baddbmm_(by_scores.transpose(1, 2), query_features)
    by_values = (key_features @ by_context).mul_(chunk.key_weights).baddbmm_(chunk.scores.transpose(1, 2), by_read)
    by_total = over_columns(key_features, by_normaliser).mul_(chunk.key_weights)
    by_total += over_tokens(chunk.scores, by_mass)[..., None]
    by_level = (by_values * chunk.values).sum(-1, keepdim=True) + by_total
    by_queries = logit_gradient(query_features, by_query_features, feature_map.activation) @ feature_map.directions
    by_keys = logit_gradient(key_features, by_key_features, feature_map.activation) @ feature_map.directions
    by_keys.addcmul_(chunk.keys, by_level * (2 * feature_map.norm_share[:, None, None]))
    turned = query_features.transpose(1, 2)
    by_start = (by_context * chunk.keep[..., None]).baddbmm_(turned, carried_read)
    by_start_normaliser = (by_normaliser * chunk.keep).add_(over_tokens(query_features, carried_mass))
    if chunk.decay is not None:
        by_start, by_start_normaliser = by_start * chunk.decay[..., None], by_start_normaliser * chunk.decay
    return by_queries, by_keys, by_values, by_start, by_start_normaliser


class _Causal(torch.autograd.Function):
    """Outputs and final state of a sequence, from the state it starts with."""

    @staticmethod
    @full_precision
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, *start):
        *parts, feature_map = start
        state = State(*parts)
        key_level = key_levels(keys, hidden, feature_map)
        output = torch.empty_like(values)
        starts = []
        for begin in range(0, keys.shape[1], CHUNK):
            token = slice(begin, begin + CHUNK)
            if begin % SEGMENT == 0:
                starts.append(state)
            pieces = (tensor[:, token] for tensor in (queries, keys, values, key_level))
            chunks, state = _chunk_forward_safely(*pieces, state, feature_map)
            output[:, token] = torch.cat([chunk.output for chunk in chunks], 1)
        ctx.save_for_backward(queries, keys, values, key_level, *(part for start in starts for part in start))
        ctx.feature_map = feature_map
        ctx.mark_non_differentiable(state.level)
        return output, *state

    @staticmethod
    @full_precision
    def backward(ctx: FunctionCtx, by_output: Tensor, by_context: Tensor, by_normaliser: Tensor, _: Tensor):
        if torch.is_grad_enabled():
            raise NotImplementedError("causal FAVOR+ has no second derivatives; the form in both directions has")
        queries, keys, values, key_level, *saved = ctx.saved_tensors
        gradients = tuple(torch.empty_like(tensor) for tensor in (queries, keys, values))
        for begin in reversed(range(0, keys.shape[1], SEGMENT)):
            first = 3 * (begin // SEGMENT)
            state = State(*saved[first : first + 3])
            end = min(begin + SEGMENT, keys.shape[1])
            chunks = []
            for at in range(begin, end, CHUNK):
                pieces = (tensor[:, at : min(at + CHUNK, end)] for tensor in (queries, keys, values, key_level))
                part, state = _chunk_forward_safely(*pieces, state, ctx.feature_map)
                chunks += part
            while chunks:
                chunk = chunks.pop()
                token = slice(end - chunk.keys.shape[1], end)
                end = token.start
                *parts, by_context, by_normaliser = _chunk_backward(
                    chunk, by_output[:, token], by_context, by_normaliser, ctx.feature_map
                )
                for gradient, part in zip(gradients, parts, strict=True):
                    gradient[:, token] = part
        return *gradients, None, by_context, by_normaliser, None, None


def empty_state(feature_map: FeatureMap, value_dim: int) -> State:
    """The state before the first event."""
    level = torch.zeros_like(feature_map.column_level)
    return State(level.new_zeros(*level.shape, value_dim), level, level)


def causal_attention(
    queries: Queries, keys: Keys, values: Values, hidden: Hidden, state: State, feature_map: FeatureMap
) -> tuple[Outputs, State]:
    """What each query reads from the state and from keys up to its own that are not hidden, with first derivatives."""
    if needs_plain_operations(queries, keys, values, *state):
        raise NotImplementedError(
            "torch.func and torch.export can follow FAVOR+ in both directions, not the causal form"
        )
    output, *parts = _Causal.apply(queries, keys, values, hidden, *state, feature_map)
    return output, State(*parts)
