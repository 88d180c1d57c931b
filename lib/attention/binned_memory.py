"""The memory that any other has to beat: means of the past in equal bins, attended to with softmax.

The history so far is cut into bins of equally many events, and each bin keeps their mean; when a segment arrives, the
bins are redrawn over the longer history, each old bin counting as constant inside. Queries see the bins through
ordinary softmax attention, apart from that within the segment, so that both are added as in the ∞-former.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.attention.continuous_memory import Update
from lib.attention.numerics import wide
from lib.attention.segments import Geometry, SegmentMemoryAttention
from lib.attention.softmax import softmax_attention


def bin_overlaps(
    starts: Float[Tensor, "rows cells"], widths: Float[Tensor, "rows cells"], bins: int
) -> Float[Tensor, "rows bins cells"]:
    """Share of each equal bin of [0, 1] that each cell covers; the shares of cells that cover [0, 1] sum to one."""
    edges = torch.arange(bins + 1, dtype=starts.dtype, device=starts.device)[:, None] / bins
    starts = starts[:, None]
    upper = torch.minimum(starts + widths[:, None], edges[1:])
    return (upper - torch.maximum(starts, edges[:-1])).clamp(min=0) * bins


def bin_update(bins: int, kept: Float[Tensor, " rows"], counts: Int[Tensor, " rows"], segment: int) -> Update:
    """Means in new bins from those in old bins, squeezed into [0, τ], and from `counts` new events in [τ, 1]."""
    kept, counts = kept[:, None], counts[:, None]
    old = torch.arange(bins, dtype=kept.dtype, device=kept.device) / bins
    fresh = torch.arange(segment, dtype=kept.dtype, device=kept.device)
    past = bin_overlaps(kept * old, (kept / bins).expand(-1, bins), bins)
    width = (1 - kept) / counts.clamp(min=1)
    new = bin_overlaps(kept + width * fresh, width * (fresh < counts), bins)
    return Update(past, new)


@dataclass(frozen=True)
class Bins(Geometry):
    """So many equal bins, with every event at one resolution."""

    def update(self, kept: Float[Tensor, " rows"], counts: Int[Tensor, " rows"]) -> Update:
        return bin_update(self.basis, kept, counts, self.segment)


class BinnedMemoryAttention(SegmentMemoryAttention):
    """Segment-local softmax attention plus softmax attention over `basis` bin means of all earlier segments."""

    def __init__(
        self,
        model_dim: int,
        heads: int,
        basis: int = 64,
        segment: int = 128,
        causal: bool = False,
        through_memory: bool = True,
    ):
        super().__init__(model_dim, heads, Bins(basis, segment), causal, through_memory)

    def read(
        self,
        queries: Float[Tensor, "batch heads length head_dim"],
        coefficients: Float[Tensor, "batch basis model_dim"],
    ) -> tuple[Float[Tensor, "batch heads length head_dim"], Float[Tensor, "batch heads length"]]:
        projections = (self.memory_keys, self.memory_values)
        keys, values = (self.memory_heads(projection, coefficients) for projection in projections)
        dtype = wide(queries.dtype, keys.dtype)
        context = softmax_attention(queries.to(dtype), keys.to(dtype), values.to(dtype))
        return context, coefficients.new_zeros(queries.shape[:3])
