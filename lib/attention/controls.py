"""What the mechanisms are compared with inside the same encoder: nothing, segments alone, and a recurrent network."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lib.attention.segments import require_padding_last
from lib.attention.softmax import AttentionOutput, MultiHeadAttention, softmax_attention


class NoAttention(nn.Module):
    """The attention removed: events do not see each other, and only the pooling joins them."""

    def forward(
        self, events: Float[Tensor, "batch length model_dim"], key_mask: Bool[Tensor, "batch length"] | None = None
    ) -> AttentionOutput:
        return AttentionOutput(events.new_zeros(events.shape), events.new_zeros(()))


class LocalAttention(MultiHeadAttention):
    """Softmax attention within segments of `segment` events: the ∞-former without its memory, Z = Z_T."""

    def __init__(self, model_dim: int, heads: int, segment: int = 128):
        super().__init__(model_dim, heads)
        if segment < 1:
            raise ValueError(f"segment must be at least one event, got {segment}")
        self.segment = segment

    def attend(
        self,
        queries: Float[Tensor, "batch heads length head_dim"],
        keys: Float[Tensor, "batch heads length head_dim"],
        values: Float[Tensor, "batch heads length head_dim"],
        key_mask: Bool[Tensor, "batch length"] | None,
    ) -> Float[Tensor, "batch heads length head_dim"]:
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
        if model_dim < 1:
            raise ValueError(f"model_dim must be at least one, got {model_dim}")
        self.unit = nn.GRU(model_dim, model_dim, batch_first=True)

    def forward(
        self, events: Float[Tensor, "batch length model_dim"], key_mask: Bool[Tensor, "batch length"] | None = None
    ) -> AttentionOutput:
        """Padding follows the events, so that no real event sees it. Raises ValueError if it precedes one."""
        if not events.numel():
            return AttentionOutput(events, events.new_zeros(()))
        if key_mask is not None:
            require_padding_last(key_mask)
        return AttentionOutput(self.unit(events)[0], events.new_zeros(()))
