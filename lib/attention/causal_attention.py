"""Causal attention through feature maps: chunks with a running state, linear in length, nothing of the future.

Inside a chunk every key is stabilised by itself, relative to the state that the chunk starts from, so that no number
depends on a later event; between chunks the state is rescaled as in online softmax. At norms so large that a sum of
exponentials would underflow, the chunk is halved, down to single events, where it cannot. The backward pass recomputes
one segment of chunks at a time from the states saved at segment starts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx

from lib.attention.linear_attention import (
    LOG2_E,
    FeatureMap,
    State,
    activate,
    full_precision,
    key_levels,
    log_zero,
    logit_gradient,
    over_columns,
    over_tokens,
    query_features,
)
from lib.attention.numerics import needs_plain_operations

CHUNK = 64
SEGMENT = 8 * CHUNK


class _Chunk(NamedTuple):
    """What the backward pass needs of one chunk; `decay` took the state before it to the level of `start`."""

    queries: Tensor
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


def _key_features(keys: Tensor, key_level: Tensor, level: Tensor, feature_map: FeatureMap) -> tuple[Tensor, Tensor]:
    """Features relative to `level`, each key stabilised by itself alone, and the log weights of the keys."""
    directions, zero = feature_map.directions.T.expand(len(keys), -1, -1), log_zero(keys.dtype)
    if feature_map.activation == "exponential":
        offset = (feature_map.column_level - level)[:, None]
        logits = torch.baddbmm(offset, keys, directions, alpha=LOG2_E)
        top = logits.amax(-1)
        return logits.sub_(top[..., None]).exp2_(), torch.where(key_level > zero / 2, top + key_level, zero)
    log_weights = torch.where(key_level > zero / 2, key_level - level[:, :1], zero)
    return activate(keys @ directions, feature_map.activation), log_weights


def _chunk_forward(
    queries: Tensor, keys: Tensor, values: Tensor, key_level: Tensor, start: State, feature_map: FeatureMap
) -> tuple[_Chunk, State]:
    """Outputs of one chunk, and the state after it, at any norm that does not underflow."""
    asked = query_features(queries, start.level, feature_map)
    given, log_weights = _key_features(keys, key_level, start.level, feature_map)
    zero = log_zero(values.dtype)
    real = (log_weights > zero / 2).to(values.dtype)
    seen = (start.normaliser.abs().sum(-1, keepdim=True) == 0).to(values.dtype) * zero
    top = torch.maximum(log_weights.cummax(-1).values, seen)
    weights = (log_weights[:, None] - top[..., None]).clamp_max_(0).exp2_().mul_(real[:, None]).tril_()
    scores = (asked @ given.transpose(1, 2)).mul_(weights)
    carried = (seen - top).exp2_()[..., None]
    output = torch.baddbmm((asked @ start.context).mul_(carried), scores, values)
    mass = over_columns(asked, start.normaliser).mul_(carried).add_(scores.sum(-1, keepdim=True))
    mass.masked_fill_((top <= zero / 2)[..., None], 1)
    output /= mass.masked_fill(mass == 0, 1)
    final = top[:, -1:]
    key_weights = (log_weights - final).exp2_().mul_(real)[..., None]
    keep = (seen - final).exp2_()
    turned = given.transpose(1, 2)
    context = torch.baddbmm(start.context * keep[..., None], turned, key_weights * values)
    normaliser = (start.normaliser * keep).add_(over_tokens(given, key_weights))
    shift, size = final, torch.ones_like(normaliser)
    if feature_map.activation == "exponential":
        size = torch.where(final > zero / 2, normaliser, 1).clamp_min(torch.finfo(normaliser.dtype).tiny)
        shift = final + size.log2()
        context, normaliser = context / size[..., None], normaliser / size
    level = start.level + torch.where(final > zero / 2, shift, 0)
    chunk = _Chunk(
        queries, keys, values, start, asked, given, weights, scores, carried, key_weights, keep, size, mass, output
    )
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
    asked, given, context = chunk.query_features, chunk.key_features, chunk.start.context
    by_scores = torch.baddbmm(by_mass, by_read, chunk.values.transpose(1, 2)).mul_(chunk.weights)
    carried_read, carried_mass = by_read * chunk.carried, by_mass * chunk.carried
    by_asked = torch.baddbmm(carried_mass * chunk.start.normaliser[:, None], carried_read, context.transpose(1, 2))
    by_asked.baddbmm_(by_scores, given)
    weighted = chunk.values * chunk.key_weights
    by_given = torch.baddbmm(chunk.key_weights * by_normaliser[:, None], weighted, by_context.transpose(1, 2))
    by_given.baddbmm_(by_scores.transpose(1, 2), asked)
    by_values = (given @ by_context).mul_(chunk.key_weights).baddbmm_(chunk.scores.transpose(1, 2), by_read)
    by_total = over_columns(given, by_normaliser).mul_(chunk.key_weights)
    by_total += over_tokens(chunk.scores, by_mass)[..., None]
    by_level = (by_values * chunk.values).sum(-1, keepdim=True) + by_total
    by_queries = logit_gradient(asked, by_asked, feature_map.activation) @ feature_map.directions
    by_keys = logit_gradient(given, by_given, feature_map.activation) @ feature_map.directions
    by_keys.addcmul_(chunk.keys, by_level * (2 * feature_map.norm_share[:, None, None]))
    turned = asked.transpose(1, 2)
    by_start = (by_context * chunk.keep[..., None]).baddbmm_(turned, carried_read)
    by_start_normaliser = (by_normaliser * chunk.keep).add_(over_tokens(asked, carried_mass))
    if chunk.decay is not None:
        by_start, by_start_normaliser = by_start * chunk.decay[..., None], by_start_normaliser * chunk.decay
    return by_queries, by_keys, by_values, by_start, by_start_normaliser


class _Causal(torch.autograd.Function):
    """Outputs and final state of a sequence, from the state it starts with."""

    @staticmethod
    @full_precision
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        hidden: Tensor,
        context: Tensor,
        normaliser: Tensor,
        level: Tensor,
        feature_map: FeatureMap,
    ):
        state = State(context, normaliser, level)
        key_level = key_levels(keys, hidden, feature_map)
        output = torch.empty_like(values)
        starts = []
        for begin in range(0, keys.shape[1], CHUNK):
            token = slice(begin, begin + CHUNK)
            if begin % SEGMENT == 0:
                starts.append(state)
            pieces = (tensor[:, token] for tensor in (queries, keys, values, key_level))
            chunks, state = _chunk_forward_safely(*pieces, state, feature_map)
            output[:, token] = (
                chunks[0].output if len(chunks) == 1 else torch.cat([chunk.output for chunk in chunks], 1)
            )
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
    queries: Float[Tensor, "rows length head_dim"],
    keys: Float[Tensor, "rows length head_dim"],
    values: Float[Tensor, "rows length value_dim"],
    hidden: Bool[Tensor, "rows length"],
    state: State,
    feature_map: FeatureMap,
) -> tuple[Float[Tensor, "rows length value_dim"], State]:
    """What each query reads from the state and from keys up to its own that are not hidden, with first derivatives."""
    if needs_plain_operations(queries, keys, values, *state):
        raise NotImplementedError(
            "torch.func and torch.export can follow FAVOR+ in both directions, not the causal form"
        )
    output, *parts = _Causal.apply(queries, keys, values, hidden, *state, feature_map)
    return output, State(*parts)


def weights_until(
    queries: Float[Tensor, "rows query_length head_dim"],
    keys: Float[Tensor, "rows key_length head_dim"],
    hidden: Bool[Tensor, "rows key_length"],
    level: Float[Tensor, "rows columns"],
    until: Int[Tensor, " query_length"],
    feature_map: FeatureMap,
) -> Float[Tensor, "rows query_length key_length"]:
    """Normalised weights of every query for the keys up to position `until`; zeros where there is none."""
    with torch.autocast(queries.device.type, enabled=False):
        asked = query_features(queries, level, feature_map)
        given, log_weights = _key_features(keys, key_levels(keys, hidden, feature_map), level, feature_map)
        visible = torch.arange(keys.shape[1], device=keys.device) <= until[:, None]
        zero = log_zero(queries.dtype)
        log_weights = log_weights[:, None].masked_fill(~visible, zero)
        top = log_weights.amax(-1, keepdim=True)
        weights = (asked @ given.transpose(1, 2)) * (log_weights - top).exp2() * (log_weights > zero / 2)
        mass = weights.sum(-1, keepdim=True)
        return weights / mass.masked_fill(mass == 0, 1)
