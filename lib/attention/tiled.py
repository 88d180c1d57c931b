"""Attention through feature maps, linear in length, in both directions and causal: the fast form of FAVOR+.

One row is one head of one customer. With features φ(q), φ(k) and values extended by a one, v⁺ = [v, 1], all is sums:

    S = Σ φ(k) v⁺ᵀ,    [numerator, mass] = φ(q)ᵀ S,    output = numerator / mass.

In both directions S is over all keys. In the causal form a tile is cut into chunks; chunk c starts from the sums S_c of
all keys before it and adds its own, where P holds the products of its own queries and keys up to the diagonal:

    S_{c+1} = S_c + Φ(K_c)ᵀ V⁺_c,    [numerator, mass]_c = Φ(Q_c) S_c + P_c V⁺_c,    P_c = tril(Φ(Q_c) Φ(K_c)ᵀ).

Backwards, with D⁺ = [D, -D·output] for D = ∂output / mass, the gradients of the sums run from the last chunk to the
first:

    ∂S_c = ∂S_{c+1} + Φ(Q_c)ᵀ D⁺_c,           ∂P_c = tril(D⁺_c V⁺_cᵀ),
    ∂Φ(Q_c) = D⁺_c S_cᵀ + ∂P_c Φ(K_c),        ∂Φ(K_c) = V⁺_c ∂S_{c+1}ᵀ + ∂P_cᵀ Φ(Q_c),
    ∂V_c = Φ(K_c) ∂S_{c+1} + P_cᵀ D_c.

Sums are kept transposed and saved at the start of every tile, whose features are recomputed in the backward pass. They
are relative to 2^level of their column (exp2 is faster than exp); levels are constants to differentiation. A query is
stabilised by its largest feature, which cancels. A causal tile has the level of the sums before it or, where it is
higher or nothing was seen, of its first key, so that nothing depends on a later event and no mass is below one. Where
later keys rise so far above it that sums might overflow, the tile is halved, down to single events, which cannot.
Over 300 lines because both directions share this, and each is derived by hand.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lib.attention import differentiable_gradients, needs_plain_operations

LOG2_E = math.log2(math.e)
TILE = 512
LARGEST_SUM = 2.0**60
Queries = Float[Tensor, "rows query_length head_dim"]
Keys = Float[Tensor, "rows key_length head_dim"]
Values = Float[Tensor, "rows key_length value_dim"]
Hidden = Bool[Tensor, "rows key_length"]
Outputs = Float[Tensor, "rows query_length value_dim"]


class FeatureMap(NamedTuple):
    """exp(w·x + s|x|²) or, unless exponential, (cos w·x, sin w·x) exp(s|x|²), for directions w; queries need no s."""

    exponential: bool
    directions: Float[Tensor, "directions head_dim"]
    norm_share: float

    @property
    def columns(self) -> int:
        return len(self.directions) * (1 if self.exponential else 2)


class State(NamedTuple):
    """Sums over keys of [value, 1] · feature, each column relative to 2^level."""

    sums: Float[Tensor, "rows value_dim+1 columns"]
    level: Float[Tensor, "rows columns"]


def full_precision(method: Callable) -> Callable:
    """A method of an autograd function, run outside autocast: sums over a sequence need float32."""

    @wraps(method)
    def run(ctx, first: Tensor, *rest):
        with torch.autocast(first.device.type, enabled=False):
            return method(ctx, first, *rest)

    return run


def tile_elements(device: torch.device) -> int:
    """Elements of one tile of features: it should stay in the cache of a CPU core, and fill an accelerator."""
    return 3 * 2**16 if device.type == "cpu" else 2**25


def groups(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Rows whose tiles are computed together."""
    count = max(1, tile_elements(device) // (TILE * columns))
    return [slice(row, min(row + count, rows)) for row in range(0, rows, count)]


def tiles(length: int) -> list[slice]:
    """Slices of so many events, the last one perhaps shorter."""
    return [slice(begin, min(begin + TILE, length)) for begin in range(0, length, TILE)]


def log_zero(dtype: torch.dtype) -> float:
    """Stands for the logarithm of zero; finite, because the difference of two infinities is not a number."""
    return torch.finfo(dtype).min / 4


def extended(values: Tensor) -> Tensor:
    """V⁺: values and a one."""
    return F.pad(values, (0, 1), value=1.0)


class Scratch:
    """A buffer that tiles of different shapes reuse: fresh memory, which is not in the cache, would cost more."""

    def __init__(self, like: Tensor, columns: int):
        self.flat = like.new_empty(max(tile_elements(like.device), TILE * columns))

    def view(self, vectors: Tensor, columns: int) -> Tensor:
        shape = torch.Size((*vectors.shape[:2], columns))
        return self.flat[: shape.numel()].view(shape)


def levels_of_keys(keys: Tensor, hidden: Tensor, feature_map: FeatureMap) -> Tensor:
    """The logarithm of every key's own factor exp(s|x|²); that of zero where it is hidden."""
    level = keys.square().sum(-1) * (feature_map.norm_share * LOG2_E)
    return level.masked_fill(hidden, log_zero(level.dtype))


def logits_of(vectors: Tensor, level: Tensor, feature_map: FeatureMap, out: Tensor | None = None) -> Tensor:
    """The logarithms of exponential features times 2^level, or w·x."""
    directions = feature_map.directions.T.expand(len(vectors), -1, -1)
    if not feature_map.exponential:
        return torch.bmm(vectors, directions, out=out)
    return torch.baddbmm(level, vectors, directions, alpha=LOG2_E, out=out)


def highest(logits: Tensor, key_level: Tensor, feature_map: FeatureMap) -> Tensor:
    """The level of every column that none of the keys exceeds."""
    if feature_map.exponential:
        return logits.detach().amax(1)
    return key_level.detach().amax(1, keepdim=True).expand(-1, feature_map.columns)


def features_of_keys(logits: Tensor, key_level: Tensor, level: Tensor, feature_map: FeatureMap) -> Tensor:
    """Features of keys relative to 2^level; overwrites the logits where shapes allow."""
    if feature_map.exponential:
        return logits.sub_(level[:, None]).exp2_()
    return torch.cat([logits.cos(), logits.sin()], -1) * (key_level - level[:, :1]).exp2_()[..., None]


def features_of_queries(queries: Tensor, level: Tensor, feature_map: FeatureMap, out: Tensor | None = None) -> Tensor:
    """Features of queries, times 2^level, up to a factor per query; the largest exponential of a query is one."""
    logits = logits_of(queries, level[:, None], feature_map, out)
    if not feature_map.exponential:
        return torch.cat([logits.cos(), logits.sin()], -1)
    return logits.sub_(logits.detach().amax(-1, keepdim=True)).exp2_()


def gradients_of_reading(by_output: Tensor, output: Tensor, mass: Tensor) -> Tensor:
    """D⁺: the gradients of numerator and mass."""
    by_numerator = by_output / mass
    return torch.cat([by_numerator, -(by_numerator * output).sum(-1, keepdim=True)], -1)


def gradients_of_logits(features: Tensor, gradient: Tensor, feature_map: FeatureMap) -> Tensor:
    """Gradients of w·x from those of features; overwrites `gradient` where shapes allow."""
    if feature_map.exponential:
        return gradient.mul_(features)
    cosine, sine = features.chunk(2, -1)
    by_cosine, by_sine = gradient.chunk(2, -1)
    return by_sine * cosine - by_cosine * sine


def gradients_of_keys(keys, features, gradient, feature_map: FeatureMap, out: Tensor | None = None) -> Tensor:
    """Gradients of keys from those of their features, through w·x and s|x|²; overwrites `gradient`."""
    by_logits = gradients_of_logits(features, gradient, feature_map)
    by_level = (by_logits if feature_map.exponential else features * gradient).sum(-1, keepdim=True)
    by_keys = torch.bmm(by_logits, feature_map.directions.expand(len(keys), -1, -1), out=out)
    return by_keys.addcmul_(keys, by_level, value=2 * feature_map.norm_share)


def plain_attention(queries: Queries, keys: Keys, values: Values, hidden: Hidden, feature_map: FeatureMap) -> Outputs:
    """Both directions in plain operations, for second derivatives and for those who follow every step."""
    key_level = levels_of_keys(keys, hidden, feature_map)
    logits = logits_of(keys, key_level[..., None], feature_map)
    level = highest(logits, key_level, feature_map)
    features = features_of_keys(logits, key_level, level, feature_map) * ~hidden[..., None]
    total = features_of_queries(queries, level, feature_map) @ (features.mT @ extended(values))
    mass = total[..., -1:]
    return total[..., :-1] / mass.masked_fill(mass == 0, 1)


class _BothDirections(torch.autograd.Function):
    """Outputs, and the level of every column; forward and backward hold one tile of features at a time."""

    @staticmethod
    @full_precision
    def forward(ctx, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, feature_map: FeatureMap):
        width, columns = len(feature_map.directions), feature_map.columns
        key_levels = levels_of_keys(keys, hidden, feature_map)
        sums = values.new_zeros(len(keys), values.shape[-1] + 1, columns)
        level = torch.full_like(sums[:, 0], log_zero(sums.dtype))
        output = values.new_empty(*queries.shape[:2], values.shape[-1])
        mass = values.new_empty(*queries.shape[:2], 1)
        scratch = Scratch(keys, columns)
        for row in groups(len(keys), columns, keys.device):
            for token in tiles(keys.shape[1]):
                key, key_level = keys[row, token], key_levels[row, token]
                logits = logits_of(key, key_level[..., None], feature_map, scratch.view(key, width))
                higher = torch.maximum(level[row], highest(logits, key_level, feature_map))
                features = features_of_keys(logits, key_level, higher, feature_map)
                sums[row] *= (level[row] - higher).exp2_()[:, None]
                sums[row].baddbmm_(extended(values[row, token]).mT, features)
                level[row] = higher
            nothing = hidden[row].all(-1)[:, None]
            sums[row].masked_fill_(nothing[..., None], 0)
            level[row].masked_fill_(nothing, 0)
            for token in tiles(queries.shape[1]):
                query = queries[row, token]
                features = features_of_queries(query, level[row], feature_map, scratch.view(query, width))
                torch.bmm(features, sums[row][:, :-1].mT, out=output[row, token])
                # A row times a matrix is what the framework does fast.
                mass[row, token] = (sums[row][:, -1:] @ features.mT).mT
        mass.masked_fill_(mass == 0, 1)
        output /= mass
        ctx.save_for_backward(queries, keys, values, key_levels, sums, level, output, mass)
        ctx.feature_map = feature_map
        ctx.mark_non_differentiable(level)
        return output, level

    @staticmethod
    @full_precision
    def backward(ctx, by_output: Tensor, _: Tensor):
        queries, keys, values, key_levels, sums, level, output, mass = ctx.saved_tensors
        feature_map = ctx.feature_map
        if torch.is_grad_enabled():
            hidden = key_levels <= log_zero(key_levels.dtype)
            plain = lambda *inputs: (plain_attention(*inputs, hidden, feature_map),)  # noqa: E731
            return *differentiable_gradients(plain, (queries, keys, values), (by_output,)), None, None
        directions, width, columns = feature_map.directions, len(feature_map.directions), feature_map.columns
        scratch, other = Scratch(keys, columns), Scratch(keys, columns)
        by_queries, by_keys, by_values = (torch.empty_like(tensor) for tensor in (queries, keys, values))
        for row in groups(len(keys), columns, keys.device):
            by_sums = torch.zeros_like(sums[row])
            for token in tiles(queries.shape[1]):
                query = queries[row, token]
                features = features_of_queries(query, level[row], feature_map, scratch.view(query, width))
                by_total = gradients_of_reading(by_output[row, token], output[row, token], mass[row, token])
                by_sums.baddbmm_(by_total.mT, features)
                by_features = torch.bmm(by_total, sums[row], out=other.view(query, columns))
                by_logits = gradients_of_logits(features, by_features, feature_map)
                torch.bmm(by_logits, directions.expand(len(query), -1, -1), out=by_queries[row, token])
            for token in tiles(keys.shape[1]):
                key, key_level = keys[row, token], key_levels[row, token]
                logits = logits_of(key, key_level[..., None], feature_map, scratch.view(key, width))
                features = features_of_keys(logits, key_level, level[row], feature_map)
                torch.bmm(features, by_sums[:, :-1].mT, out=by_values[row, token])
                by_features = torch.bmm(extended(values[row, token]), by_sums, out=other.view(key, columns))
                gradients_of_keys(key, features, by_features, feature_map, by_keys[row, token])
        return by_queries, by_keys, by_values, None, None


def attention(
    queries: Queries, keys: Keys, values: Values, hidden: Hidden, feature_map: FeatureMap
) -> tuple[Outputs, Float[Tensor, "rows columns"] | None]:
    """What each query reads from the keys that are not hidden, zero where there are none; levels, unless traced."""
    if needs_plain_operations(queries, keys, values):
        return plain_attention(queries, keys, values, hidden, feature_map), None
    return _BothDirections.apply(queries, keys, values, hidden, feature_map)


class _Tile(NamedTuple):
    """A tile's features and scores and the sums before each of its chunks; tensors are (rows · chunks, …)."""

    query_features: Tensor
    key_features: Tensor
    scores: Tensor
    starts: Tensor
    decay: Tensor
    size: Tensor
    end: State


def chunk_length(length: int, value_dim: int) -> int:
    """Long enough for products of matrices, short enough that half of the scores, which are hidden, cost little."""
    return min(64 if value_dim > 32 else 32, length)


def in_chunks(tensor: Tensor, chunk: int) -> Tensor:
    """Every chunk of every row as a row."""
    return tensor.reshape(-1, chunk, tensor.shape[-1])


def sums_before(own: Tensor, start: Tensor, reverse: bool = False) -> Tensor:
    """What all chunks before each (after it, if `reverse`) add to `start`: one product with a triangle of ones."""
    own = own.unflatten(0, (len(start), -1))
    before = own.new_ones(own.shape[1], own.shape[1]).tril_(-1)
    before = (before.T if reverse else before).expand(len(start), -1, -1)
    return torch.bmm(before, own.flatten(2)).view_as(own).add_(start[:, None]).flatten(0, 1)


def level_of_tile(keys: Tensor, key_level: Tensor, past: State, feature_map: FeatureMap) -> tuple[Tensor, Tensor]:
    """The level that the past alone determines, and the factor that takes the past's sums to it."""
    zero = log_zero(keys.dtype)
    nothing = (past.sums[:, -1] == 0).all(-1)
    first = torch.where(nothing, (key_level > zero / 2).int().argmax(1), 0)[:, None]
    first_level = key_level.gather(1, first)
    logits = logits_of(keys.take_along_dim(first[..., None], 1), first_level[..., None], feature_map)
    before = past.level.masked_fill(nothing[:, None], zero)
    level = torch.maximum(before, highest(logits, first_level, feature_map))
    return level.masked_fill(level < zero / 2, 0), (before - level).exp2_()


def tile_of(queries, keys, values, key_level, past: State, feature_map: FeatureMap) -> _Tile:
    """Features, scores and the sums before every chunk, from the state before the tile."""
    chunk, rows = chunk_length(*values.shape[1:]), len(keys)
    level, decay = level_of_tile(keys, key_level, past, feature_map)
    logits = logits_of(keys, key_level[..., None], feature_map)
    key_features = in_chunks(features_of_keys(logits, key_level, level, feature_map), chunk)
    query_features = in_chunks(features_of_queries(queries, level, feature_map), chunk)
    scores = (query_features @ key_features.mT).tril_()
    own = extended(in_chunks(values, chunk)).mT @ key_features
    starts = sums_before(own, past.sums * decay[:, None])
    end = starts.unflatten(0, (rows, -1))[:, -1] + own.unflatten(0, (rows, -1))[:, -1]
    if feature_map.exponential:
        size = end[:, -1].masked_fill(end[:, -1] == 0, 1)
    else:
        size = (key_level.amax(1, keepdim=True) - level).clamp_min_(0).exp2_()
    state = State(end / size[:, None], level + size.log2())
    return _Tile(query_features, key_features, scores, starts, decay, size, state)


def read_tile(tile: _Tile, values: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and masses of a tile."""
    output = tile.query_features @ tile.starts[:, :-1].mT
    output.baddbmm_(tile.scores, in_chunks(values, tile.scores.shape[1]))
    mass = (tile.starts[:, -1:] @ tile.query_features.mT).mT + tile.scores.sum(-1, keepdim=True)
    mass.masked_fill_(mass == 0, 1)
    output /= mass
    return output.view(values.shape), mass.reshape(*values.shape[:2], 1)


def walk(inputs: Sequence[Tensor], state: State, feature_map: FeatureMap) -> Iterator[tuple[slice, _Tile]]:
    """Tiles of queries, keys, values and levels of keys, each as long as its sums stay far from overflow."""
    begin, end, most = 0, inputs[0].shape[1], TILE
    while begin < end:
        length = min(most, end - begin)
        length -= length % chunk_length(length, inputs[2].shape[-1])
        token = slice(begin, begin + length)
        tile = tile_of(*(tensor[:, token] for tensor in inputs), state, feature_map)
        if length > 1 and not (tile.size <= LARGEST_SUM).all():
            most = length // 2
            continue
        yield token, tile
        state, begin, most = tile.end, token.stop, min(2 * length, TILE)


def tile_backward(tile: _Tile, keys, values, by_total, by_end, feature_map: FeatureMap) -> tuple[Tensor, ...]:
    """Gradients of queries, keys, values and of the sums before the tile."""
    query_features, key_features, scores, starts, decay, size, _ = tile
    chunk, rows = scores.shape[1], len(keys)
    by_total, value = in_chunks(by_total, chunk), extended(in_chunks(values, chunk))
    by_scores = (by_total @ value.mT).tril_()
    own = by_total.mT @ query_features
    by_sums = sums_before(own, by_end / size[:, None], reverse=True)
    by_past = (by_sums.unflatten(0, (rows, -1))[:, 0] + own.unflatten(0, (rows, -1))[:, 0]) * decay[:, None]
    by_values = (key_features @ by_sums[:, :-1].mT).baddbmm_(scores.mT, by_total[..., :-1])
    by_features = (by_total @ starts).baddbmm_(by_scores, key_features)
    by_queries = gradients_of_logits(query_features, by_features, feature_map) @ feature_map.directions
    torch.bmm(value, by_sums, out=by_features).baddbmm_(by_scores.mT, query_features)
    by_keys = gradients_of_keys(in_chunks(keys, chunk), key_features, by_features, feature_map)
    return by_queries.view_as(keys), by_keys.view_as(keys), by_values.view(values.shape), by_past


class _Causal(torch.autograd.Function):
    """Outputs and final state of a sequence, from the state it starts with."""

    @staticmethod
    @full_precision
    def forward(ctx, queries, keys, values, hidden, sums, level, feature_map: FeatureMap):
        key_levels = levels_of_keys(keys, hidden, feature_map)
        output, mass = torch.empty_like(values), values.new_empty(*values.shape[:2], 1)
        starts, end = [], State(torch.empty_like(sums), torch.empty_like(level))
        for row in groups(len(keys), feature_map.columns, keys.device):
            state = State(sums[row], level[row])
            for part in tiles(keys.shape[1]):
                starts += state
                inputs = [tensor[row, part] for tensor in (queries, keys, values, key_levels)]
                for token, tile in walk(inputs, state, feature_map):
                    found = read_tile(tile, inputs[2][:, token])
                    output[row, part][:, token], mass[row, part][:, token] = found
                    state = tile.end
            end.sums[row], end.level[row] = state
        ctx.save_for_backward(queries, keys, values, key_levels, output, mass, *starts)
        ctx.feature_map = feature_map
        ctx.mark_non_differentiable(end.level)
        return output, *end

    @staticmethod
    @full_precision
    def backward(ctx, by_output: Tensor, by_end: Tensor, _: Tensor):
        if torch.is_grad_enabled():
            raise NotImplementedError("causal FAVOR+ has no second derivatives; the form in both directions has")
        *inputs, output, mass = ctx.saved_tensors[:6]
        starts, feature_map = list(ctx.saved_tensors[6:]), ctx.feature_map
        gradients = [torch.empty_like(tensor) for tensor in inputs[:3]]
        by_start = torch.empty_like(by_end)
        for row in reversed(groups(len(by_end), feature_map.columns, by_end.device)):
            by_sums = by_end[row]
            for part in reversed(tiles(output.shape[1])):
                level, sums = starts.pop(), starts.pop()
                pieces = [tensor[row, part] for tensor in inputs]
                reading = [tensor[row, part] for tensor in (by_output, output, mass)]
                for token, tile in reversed(list(walk(pieces, State(sums, level), feature_map))):
                    by_total = gradients_of_reading(*(tensor[:, token] for tensor in reading))
                    _, key, value, _ = (tensor[:, token] for tensor in pieces)
                    *found, by_sums = tile_backward(tile, key, value, by_total, by_sums, feature_map)
                    for gradient, piece in zip(gradients, found, strict=True):
                        gradient[row, part][:, token] = piece
            by_start[row] = by_sums
        return *gradients, None, by_start, None, None


def causal_attention(
    queries: Queries, keys: Keys, values: Values, hidden: Hidden, state: State, feature_map: FeatureMap
) -> tuple[Outputs, State]:
    """What each query reads from the state and from keys up to its own that are not hidden, with first derivatives."""
    if needs_plain_operations(queries, keys, values, *state):
        raise NotImplementedError("torch.func and torch.export follow FAVOR+ in both directions, not the causal form")
    output, *end = _Causal.apply(queries, keys, values, hidden, *state, feature_map)
    return output, State(*end)
