"""What the mechanisms are compared with inside the same encoder: nothing, segments alone, a recurrent network, bins.

The memory that any other has to beat is made of means of the past in equal bins, redrawn over the longer history when a
segment arrives, each old bin counting as constant inside, and read through softmax attention of its own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention import Coefficients, Events, Heads, Mask, PerQuery, wide
from lib.attention.continuous_memory import Update
from lib.attention.mechanism import AttentionOutput, MultiHeadAttention
from lib.attention.segment_memory import Geometry, SegmentMemoryAttention, require_padding_last
from lib.attention.softmax import softmax_attention


class NoAttention(nn.Module):
    """The attention removed: events do not see each other, and only the pooling joins them."""

    def forward(self, events: Events, key_mask: Mask | None = None) -> AttentionOutput:
        return AttentionOutput(events.new_zeros(events.shape), events.new_zeros(()))


class LocalAttention(MultiHeadAttention):
    """Softmax attention within segments of `segment` events: the ∞-former without its memory, Z = Z_T."""

    def __init__(self, model_dim: int, heads: int, segment: int = 128):
        super().__init__(model_dim, heads)
        if segment < 1:
            raise ValueError(f"segment must be at least one event, got {segment}")
        self.segment = segment

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        batch, _, length, _ = queries.shape
        padding = -length % self.segment
        segments = (length + padding) // self.segment
        if key_mask is None:
            key_mask = queries.new_ones((batch, length)).bool()
        mask = F.pad(key_mask, (0, padding)).unflatten(1, (segments, self.segment)).flatten(0, 1)
        folded = [
            F.pad(each, (0, 0, 0, padding)).unflatten(2, (segments, self.segment)).transpose(1, 2).flatten(0, 1)
            for each in (queries, keys, values)
        ]
        output = softmax_attention(*folded, mask).unflatten(0, (batch, segments))
        return output.transpose(1, 2).flatten(2, 3)[:, :, :length]


class Recurrence(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) in the place of attention: each event sees those before it."""

    def __init__(self, model_dim: int):
        super().__init__()
        self.unit = nn.GRU(model_dim, model_dim, batch_first=True)

    def forward(self, events: Events, key_mask: Mask | None = None) -> AttentionOutput:
        """Padding follows the events, so that no real event sees it. Raises ValueError if it precedes one."""
        if not events.numel():
            return AttentionOutput(events, events.new_zeros(()))
        if key_mask is not None:
            require_padding_last(key_mask)
        return AttentionOutput(self.unit(events)[0], events.new_zeros(()))


def bin_overlaps(
    starts: Float[Tensor, "rows cells"], widths: Float[Tensor, "rows cells"], bins: int
) -> Float[Tensor, "rows bins cells"]:
    """Share of each equal bin of [0, 1] that each cell covers; the shares of cells that cover [0, 1] sum to one."""
    edges = torch.arange(bins + 1, dtype=starts.dtype, device=starts.device)[:, None] / bins
    starts = starts[:, None]
    upper = torch.minimum(starts + widths[:, None], edges[1:])
    return (upper - torch.maximum(starts, edges[:-1])).clamp(min=0) * bins


@dataclass(frozen=True)
class Bins(Geometry):
    """So many equal bins, with every event at one resolution."""

    def update(self, kept: Float[Tensor, " rows"], counts: Int[Tensor, " rows"]) -> Update:
        """Means in new bins from those in old bins, squeezed into [0, τ], and from `counts` new events in [τ, 1]."""
        kept, counts = kept[:, None], counts[:, None]
        old = torch.arange(self.basis, dtype=kept.dtype, device=kept.device) / self.basis
        fresh = torch.arange(self.segment, dtype=kept.dtype, device=kept.device)
        past = bin_overlaps(kept * old, (kept / self.basis).expand(-1, self.basis), self.basis)
        width = (1 - kept) / counts.clamp(min=1)
        return Update(past, bin_overlaps(kept + width * fresh, width * (fresh < counts), self.basis))


class BinnedMemoryAttention(SegmentMemoryAttention):
    """Segment-local softmax attention plus softmax attention over `basis` bin means of all earlier segments."""

    def __init__(self, model_dim: int, heads: int, basis: int = 64, segment: int = 128, causal: bool = False):
        super().__init__(model_dim, heads, Bins(basis, segment), causal)

    def read(self, queries: Heads, coefficients: Coefficients) -> tuple[Heads, PerQuery]:
        projections = (self.memory_keys, self.memory_values)
        keys, values = (self.memory_heads(projection, coefficients) for projection in projections)
        dtype = wide(queries.dtype, keys.dtype)
        context = softmax_attention(queries.to(dtype), keys.to(dtype), values.to(dtype))
        return context, coefficients.new_zeros(queries.shape[:3])
