"""Attention inside segments plus a read of a memory of the segments before: what all memories here have in common."""

from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention import Coefficients, Events, Heads, Mask, constant, has_large_entries, needs_plain_operations, wide
from lib.attention.continuous_memory import Update
from lib.attention.mechanism import AttentionOutput, MultiHeadAttention
from lib.attention.softmax import check_mask, check_state, softmax_attention


class Memory(NamedTuple):
    """What is kept of the past: coefficients (zero where empty) and the number of events they were made of."""

    coefficients: Coefficients
    events: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Geometry:
    """What a memory's updates follow from, by `update(kept, counts)`: which shares of the past and how many new events.

    Raises ValueError for fewer than one function or event.
    """

    basis: int = 64
    segment: int = 128
    through_memory: bool = field(default=True, kw_only=True)  # whether gradients flow to the events that were written

    def __post_init__(self) -> None:
        if self.basis < 1 or self.segment < 1:
            raise ValueError(f"basis and segment must be at least one, got {self.basis} and {self.segment}")

    share = None
    """The part of [0, 1] that the past keeps in an update; None for the part that keeps all at one resolution."""

    def kept(self, seen: Int[Tensor, " rows"], fresh: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The share of [0, 1] left to the events seen when fresh ones are written; zero if none were seen."""
        if self.share is None:
            return seen.double() / (seen + fresh).clamp(min=1)
        return self.share * (seen > 0).double()


@constant
def whole_update(geometry: Geometry, segments: int, device: torch.device, dtype: torch.dtype) -> Update:
    """The matrices that write a whole segment after so many whole ones."""
    fresh = torch.tensor([geometry.segment], device="cpu")
    update = geometry.update(geometry.kept(segments * fresh, fresh), fresh)
    return Update(*(part.to(device, dtype) for part in update))


class SegmentMemoryAttention(MultiHeadAttention):
    """Softmax attention within each segment plus, by the same queries, a read of a memory of the segments before it.

    Subclasses say how a memory, of float32 at least, is carried over (`transition`); `read(queries, coefficients)` says
    what each query reads from it, zero from an empty one, and with which regulariser.
    """

    has_causal_form = True

    def __init__(self, model_dim: int, heads: int, geometry: Geometry, causal: bool):
        super().__init__(model_dim, heads, causal)
        self.geometry, self.basis, self.segment = geometry, geometry.basis, geometry.segment
        self.memory_keys = nn.Linear(model_dim, model_dim, bias=False)
        self.memory_values = nn.Linear(model_dim, model_dim, bias=False)
        self.memory_projection = nn.Linear(model_dim, model_dim, bias=False)

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
        real = events.new_ones(events.shape[:2], dtype=torch.bool) if key_mask is None else key_mask
        real = F.pad(real, (0, padding)).unflatten(1, (-1, segment))
        events = F.pad(events, (0, 0, 0, padding)).unflatten(1, (-1, segment))
        batch, segments = events.shape[:2]
        queries, keys, values = self.project(events.flatten(0, 1))
        all_real = key_mask is None and not padding
        local = self.attend(queries, keys, values, None if all_real else real.flatten(0, 1))
        output = self.merge(local).unflatten(0, (batch, segments)).flatten(1, 2)
        if segments == 1:
            return AttentionOutput(output[:, :length], output.new_zeros(()))
        # Large norms are read with in double precision.
        queries = queries.double() if has_large_entries(queries, events) else queries
        queries = queries.unflatten(0, (batch, segments))
        memories = [self.empty_memory(batch).coefficients]
        # Unbound, not indexed: the gradient of an index is as long as the history, their sum quadratic in its length.
        written = zip(*(each.unbind(1) for each in (queries, events, real)), strict=True)
        for index, one in enumerate(islice(written, segments - 1)):
            memories.append(self.write(memories[-1], *one, self.whole_update(index)))
        later = (queries[:, 1:], torch.stack(memories[1:], 1), real[:, 1:])
        context, regulariser = self.recall(*(each.flatten(0, 1) for each in later), output.dtype)
        context = F.pad(context.unflatten(0, (batch, segments - 1)).flatten(1, 2), (0, 0, segment, 0))
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

    def recall(
        self, queries: Heads, coefficients: Coefficients, counted: Mask, dtype: torch.dtype
    ) -> tuple[Events, Float[Tensor, ""]]:
        """Z_LTM, and the mean over the queries that count of the read's regulariser; zero if there are none."""
        context, regulariser = self.read(queries, coefficients)
        counted = counted[:, None].expand(regulariser.shape)
        mean = regulariser.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)
        return self.memory_projection(context.transpose(1, 2).flatten(2).to(dtype)), mean

    def whole_update(self, segments: int) -> Update:
        """The matrices that write a whole segment after so many whole ones; a constant share has no more than two."""
        weight = self.memory_keys.weight
        segments = segments if self.geometry.share is None else min(segments, 1)
        return whole_update(self.geometry, segments, weight.device, wide(weight.dtype))

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
        memory = self.empty_memory(len(events)) if memory is None else memory
        check_state(memory, ((len(events), self.basis, events.shape[2]), (len(events),)), events)
        if not events.numel():
            return super().forward(events, key_mask), memory
        queries, keys, values = self.project(events)
        output = self.merge(self.attend(queries, keys, values, key_mask))
        real = events.new_ones(events.shape[:2], dtype=torch.bool) if key_mask is None else key_mask
        queries = queries.double() if has_large_entries(queries, events, memory.coefficients) else queries
        counts, seen = real.sum(1), memory.events
        context, regulariser = self.recall(queries, memory.coefficients, real & (seen > 0)[:, None], output.dtype)
        if ((counts == self.segment) & (seen == seen[0]) & (seen % self.segment == 0)).all():
            update = self.whole_update(int(seen[0]) // self.segment)
        else:
            update = self.row_updates(seen, counts)
        written = self.write(memory.coefficients, queries, events, real, update)
        coefficients = torch.where((counts > 0)[:, None, None], written, memory.coefficients)
        return AttentionOutput(output + context, regulariser), Memory(coefficients, seen + counts)

    def row_updates(self, seen: Int[Tensor, " batch"], counts: Int[Tensor, " batch"]) -> Update:
        """The matrices of each row, solved once for each distinct pair of share kept and number of new events."""
        pairs = torch.stack([self.geometry.kept(seen, counts), counts.double()], dim=1)
        distinct, rows = torch.unique(pairs, dim=0, return_inverse=True)
        update = self.geometry.update(distinct[:, 0], distinct[:, 1].long())
        return Update(*(part.to(wide(self.memory_keys.weight.dtype))[rows] for part in update))

    def check(self, events: Tensor, key_mask: Tensor | None) -> None:
        """Raise ValueError unless the mask fits the events and is a prefix of real ones in every row."""
        if key_mask is not None:
            check_mask(key_mask, *events.shape[:2])
            require_padding_last(key_mask)


def require_padding_last(key_mask: Mask) -> None:
    """Raise ValueError where padding precedes a real event; what is traced has no values to look at."""
    if not needs_plain_operations(key_mask) and (key_mask[:, 1:] & ~key_mask[:, :-1]).any():
        raise ValueError("real events must come before padding in every row")
