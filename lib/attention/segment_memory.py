"""Attention inside segments plus a read of a memory of the segments before: what all memories here have in common."""

from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention import Coefficients, Events, Heads, Mask, PerQuery
from lib.attention.continuous_memory import Update
from lib.attention.mechanism import AttentionOutput, MultiHeadAttention
from lib.attention.numerics import constant, has_large_entries, needs_plain_operations, wide
from lib.attention.softmax import check_mask, check_state, softmax_attention

# How many different updates an even resolution solves in advance; later ones are solved when a history is that long.
WHOLE_UPDATES = 64


class Memory(NamedTuple):
    """What is kept of the past: coefficients (zero where empty) and the number of events they were made of."""

    coefficients: Coefficients
    events: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Geometry:
    """The settings that a memory's updates follow from; raises ValueError for fewer than one function or event."""

    basis: int = 64
    segment: int = 128
    through_memory: bool = field(default=True, kw_only=True)  # whether gradients flow to the events that were written

    def __post_init__(self) -> None:
        if self.basis < 1 or self.segment < 1:
            raise ValueError(f"basis and segment must be at least one, got {self.basis} and {self.segment}")

    @property
    def share(self) -> float | None:
        """The part of [0, 1] that the past keeps in an update; None for the part that keeps all at one resolution."""
        return None

    def update(self, kept: Float[Tensor, " rows"], counts: Int[Tensor, " rows"]) -> Update:
        """The matrices of an update in which the past keeps the given shares and so many events are new."""
        raise NotImplementedError


def kept_shares(
    share: float | None, seen: Int[Tensor, " rows"], fresh: Int[Tensor, " rows"] | int
) -> Float[Tensor, " rows"]:
    """The share of [0, 1] left to the events seen when fresh ones are written; zero if none were seen."""
    if share is None:
        return seen.double() / (seen + fresh).clamp(min=1)
    return share * (seen > 0).double()


@constant
def whole_updates(geometry: Geometry, count: int, device: torch.device, dtype: torch.dtype) -> Update:
    """What writes a whole segment after 0, 1, … `count` - 1 whole ones."""
    seen = torch.arange(count, device="cpu") * geometry.segment
    kept = kept_shares(geometry.share, seen, geometry.segment)
    return Update(*(part.to(device, dtype) for part in geometry.update(kept, torch.full_like(seen, geometry.segment))))


class SegmentMemoryAttention(MultiHeadAttention):
    """Softmax attention within each segment plus, by the same queries, a read of a memory of the segments before it.

    Subclasses say how a memory is carried over (`transition`) and read (`read`). It is made, kept and read in float32
    at least, whatever the type of the weights. Real events must come first.
    """

    has_causal_form = True

    def __init__(self, model_dim: int, heads: int, geometry: Geometry, causal: bool):
        super().__init__(model_dim, heads, causal)
        self.geometry = geometry
        self.basis = geometry.basis
        self.segment = geometry.segment
        self.memory_keys = nn.Linear(model_dim, model_dim, bias=False)
        self.memory_values = nn.Linear(model_dim, model_dim, bias=False)
        self.memory_projection = nn.Linear(model_dim, model_dim, bias=False)

    def read(self, queries: Heads, coefficients: Coefficients) -> tuple[Heads, PerQuery]:
        """What each query reads from the memory, zero from an empty one, and its regulariser."""
        raise NotImplementedError

    def transition(
        self, past: Float[Tensor, "rows basis points"], coefficients: Coefficients, queries: Heads, real: Mask
    ) -> Float[Tensor, "transitions basis basis"]:
        """The matrix that carries the coefficients over: the update's own, or one that depends on what was attended."""
        return past

    def empty_memory(self, batch: int) -> Memory:
        """The memory before the first event."""
        weight = self.memory_keys.weight
        coefficients = weight.new_zeros(batch, self.basis, weight.shape[1], dtype=wide(weight.dtype))
        return Memory(coefficients, torch.zeros(batch, dtype=torch.long, device=weight.device))

    def forward(self, events: Events, key_mask: Mask | None = None) -> AttentionOutput:
        """All segments of whole histories, from an empty memory. Raises ValueError if padding precedes an event."""
        self.check(events, key_mask)
        if not events.numel():
            return super().forward(events, key_mask)
        length = events.shape[1]
        segment = min(self.segment, length)
        padding = -length % segment
        if padding:
            events = F.pad(events, (0, 0, 0, padding))
            if key_mask is None:
                key_mask = torch.ones(events.shape[0], length, dtype=torch.bool, device=events.device)
            key_mask = F.pad(key_mask, (0, padding))
        events = events.unflatten(1, (-1, segment))
        batch, segments = events.shape[:2]
        queries, keys, values = self.project(events.flatten(0, 1))
        folded = None if key_mask is None else key_mask.unflatten(1, (-1, segment))
        local = self.attend(queries, keys, values, None if folded is None else folded.flatten(0, 1))
        output = self.merge(local).unflatten(0, (batch, segments)).flatten(1, 2)
        if segments == 1:
            return AttentionOutput(output[:, :length], output.new_zeros(()))
        if folded is None:
            folded = torch.ones(batch, segments, segment, dtype=torch.bool, device=events.device)
        queries = self.memory_queries(queries, events).unflatten(0, (batch, segments))
        memories = self.memories(queries, events, folded)
        context, regulariser = self.read(queries[:, 1:].flatten(0, 1), memories.flatten(0, 1))
        context = context.transpose(1, 2).flatten(2).unflatten(0, (batch, segments - 1)).flatten(1, 2)
        context = F.pad(self.memory_projection(context.to(output.dtype)), (0, 0, segment, 0))
        regulariser = masked_mean(regulariser, folded[:, 1:].flatten(0, 1)[:, None])
        return AttentionOutput((output + context)[:, :length], regulariser)

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        """Among the events of a segment. Only here do places count: the memory is read by time, from bare queries."""
        return softmax_attention(*super().placed(queries, keys), values, key_mask, self.causal)

    def placed(self, queries: Heads, keys: Heads) -> tuple[Heads, Heads]:
        """As they are: `attend` turns them."""
        return queries, keys

    def memory_heads(
        self, projection: nn.Linear, coefficients: Coefficients
    ) -> Float[Tensor, "batch heads basis head_dim"]:
        """The memory's keys or values, of every head, in its own precision."""
        projected = F.linear(coefficients, projection.weight.to(coefficients.dtype))
        return projected.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def memory_queries(self, queries: Tensor, *past: Tensor) -> Tensor:
        """The queries in the precision that reading the past with them needs."""
        return queries.double() if has_large_entries(queries, *past) else queries

    def memories(
        self,
        queries: Float[Tensor, "batch segments heads length head_dim"],
        events: Float[Tensor, "batch segments length model_dim"],
        real: Bool[Tensor, "batch segments length"],
    ) -> Float[Tensor, "batch memories basis model_dim"]:
        """What the second and every later segment finds in memory; wrong after a row's end, where nothing is read.

        Only the writing goes segment by segment. All reads are then made at once. The segments are unbound, not
        indexed: the gradient of every index would be as long as the history, and their sum quadratic in its length.
        """
        coefficients = [self.empty_memory(len(events)).coefficients]
        segments = zip(*(each.unbind(1) for each in (queries, events, real)), strict=True)
        for index, segment in enumerate(islice(segments, events.shape[1] - 1)):
            coefficients.append(self.write(coefficients[-1], *segment, self.whole_update(index)))
        return torch.stack(coefficients[1:], 1)

    def whole_update(self, segments: int) -> Update:
        """The matrices that write a whole segment after so many whole ones; a constant share has no more than two."""
        weight, constant_share = self.memory_keys.weight, self.geometry.share is not None
        count = 2 if constant_share else WHOLE_UPDATES
        segments = min(segments, 1) if constant_share else segments
        if segments < count:
            past, new = whole_updates(self.geometry, count, weight.device, wide(weight.dtype))
            return Update(past[segments, None], new[segments, None])
        seen = torch.tensor([segments * self.segment], device=weight.device)
        return self.row_updates(seen, torch.full_like(seen, self.segment))

    def write(
        self, coefficients: Coefficients, queries: Heads, events: Events, real: Mask, update: Update
    ) -> Coefficients:
        """The coefficients of the past and the new events together."""
        with torch.autocast(events.device.type, enabled=False):
            carried = self.transition(update.past, coefficients, queries, real).to(coefficients.dtype) @ coefficients
            written = carried + update.new[..., : events.shape[1]] @ events.to(coefficients.dtype)
        return written if self.geometry.through_memory else written.detach()

    def step(
        self, events: Events, key_mask: Mask | None = None, memory: Memory | None = None
    ) -> tuple[AttentionOutput, Memory]:
        """One segment of a stream, of at most `segment` events, and the memory that also holds it.

        Rows may end at any event, or have none at all, which leaves their memory as it was. Raises ValueError for the
        memory of another batch, width, device or narrower type.
        """
        self.check(events, key_mask)
        if needs_plain_operations(events):
            raise NotImplementedError("torch.func and torch.export can follow whole histories, not steps of a stream")
        if events.shape[1] > self.segment:
            raise ValueError(f"a step takes at most {self.segment} events, got {events.shape[1]}")
        if memory is None:
            memory = self.empty_memory(len(events))
        check_state(memory, ((len(events), self.basis, events.shape[2]), (len(events),)), events)
        if not events.numel():
            return super().forward(events, key_mask), memory
        queries, keys, values = self.project(events)
        output = self.merge(self.attend(queries, keys, values, key_mask))
        real = events.new_ones(events.shape[:2], dtype=torch.bool) if key_mask is None else key_mask
        queries = self.memory_queries(queries, events, memory.coefficients)
        context, regulariser = self.read(queries, memory.coefficients)
        output = output + self.memory_projection(context.transpose(1, 2).flatten(2).to(output.dtype))
        regulariser = masked_mean(regulariser, (real & (memory.events > 0)[:, None])[:, None])
        counts = real.sum(1)
        seen, whole = memory.events, (memory.events == memory.events[0]) & (counts == self.segment)
        if whole.all() and seen[0] % self.segment == 0:
            update = self.whole_update(int(seen[0]) // self.segment)
        else:
            update = self.row_updates(seen, counts)
        written = self.write(memory.coefficients, queries, events, real, update)
        coefficients = torch.where((counts > 0)[:, None, None], written, memory.coefficients)
        return AttentionOutput(output, regulariser), Memory(coefficients, memory.events + counts)

    def row_updates(self, seen: Int[Tensor, " batch"], counts: Int[Tensor, " batch"]) -> Update:
        """The matrices of each row, solved once for each distinct pair of share kept and number of new events."""
        pairs = torch.stack([kept_shares(self.geometry.share, seen, counts), counts.double()], dim=1)
        distinct, rows = torch.unique(pairs, dim=0, return_inverse=True)
        update = self.geometry.update(distinct[:, 0], distinct[:, 1].long())
        return Update(*(part.to(wide(self.memory_keys.weight.dtype))[rows] for part in update))

    def check(self, events: Tensor, key_mask: Tensor | None) -> None:
        """Raise ValueError unless events are (batch, length, model_dim) and the mask is a prefix of real events."""
        if events.dim() != 3 or events.shape[2] != self.in_projection.in_features:
            expected = f"(batch, length, {self.in_projection.in_features})"
            raise ValueError(f"events must be {expected}, got {tuple(events.shape)}")
        if key_mask is not None:
            check_mask(key_mask, *events.shape[:2])
            require_padding_last(key_mask)


def require_padding_last(key_mask: Mask) -> None:
    """Raise ValueError where padding precedes a real event; what is traced has no values to look at."""
    if not needs_plain_operations(key_mask) and (key_mask[:, 1:] & ~key_mask[:, :-1]).any():
        raise ValueError("real events must come before padding in every row")


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "..."]) -> Float[Tensor, ""]:
    """Mean over the places where the mask, once broadcast, is true; zero if there is none."""
    mask = mask.expand(values.shape)
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)
