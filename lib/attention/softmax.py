"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2), and the frame that all mechanisms share."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from lib.attention import Events, Heads, KeyMask, Keys, Mask, Outputs, Queries, Values
from lib.attention.numerics import constant, has_large_entries, is_transformed, wide

SLOWEST_TURN = 1000  # events per radian; with 10,000 (Su et al. 2021) few pairs of a narrow head turn among near events


class AttentionOutput(NamedTuple):
    """What an attention layer returns: its output, and the regulariser (nats, zero if none) that the loss adds."""

    output: Events
    regulariser: Float[Tensor, ""]


def check_shapes(queries: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor | None, causal: bool) -> None:
    """Raise ValueError unless the tensors are (batch, heads, length, head_dim) and fit together."""
    for name, tensor in (("queries", queries), ("keys", keys), ("values", values)):
        if tensor.dim() != 4:
            raise ValueError(f"{name} must be (batch, heads, length, head_dim), got shape {tuple(tensor.shape)}")
    if queries.shape[:2] != keys.shape[:2] or queries.shape[3] != keys.shape[3]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} must agree in batch, heads and head_dim"
        )
    if keys.shape[:3] != values.shape[:3]:
        raise ValueError(
            f"keys {tuple(keys.shape)} and values {tuple(values.shape)} must agree in batch, heads and length"
        )
    if causal and queries.shape[2] != keys.shape[2]:
        raise ValueError(f"causal attention needs one query per key, got {queries.shape[2]} and {keys.shape[2]}")
    if key_mask is not None:
        check_mask(key_mask, keys.shape[0], keys.shape[2])


def check_mask(key_mask: Tensor, batch: int, length: int) -> None:
    """Raise ValueError unless the mask says of every event whether it is real."""
    if key_mask.dtype != torch.bool or key_mask.shape != (batch, length):
        expected = (batch, length)
        raise ValueError(f"key_mask must be boolean of shape {expected}, got {key_mask.dtype} {tuple(key_mask.shape)}")


def check_state(state: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...], events: Tensor) -> None:
    """Raise ValueError unless what a stream carried so far has the shapes, device and precision of its next part."""
    for part, shape in zip(state, shapes, strict=True):
        if part.shape != shape or part.device != events.device:
            expected = f"{tuple(shape)} on {events.device}"
            raise ValueError(
                f"the stream's state does not fit: expected {expected}, got {tuple(part.shape)} on {part.device}"
            )
        if part.is_floating_point() and wide(part.dtype, events.dtype) != part.dtype:
            raise ValueError(f"the stream's state does not fit: {part.dtype} is narrower than {wide(events.dtype)}")


def attention_weights(
    queries: Queries, keys: Keys, key_mask: KeyMask | None = None, causal: bool = False
) -> Float[Tensor, "batch heads query_length key_length"]:
    """The matrix softmax(Q Kᵀ / √d) (Vaswani et al. 2017, equation 1); a query without any key has weights of zero."""
    check_shapes(queries, keys, keys, key_mask, causal)
    if has_large_entries(queries, keys):
        return attention_weights(queries.double(), keys.double(), key_mask, causal).to(queries.dtype)
    scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
    hidden = None if key_mask is None else ~key_mask[:, None, None, :]
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        hidden = future if hidden is None else hidden | future
    if hidden is None:
        return scores.softmax(-1)
    # The lowest finite score instead of minus infinity: a row without keys stays finite, and so does its gradient.
    return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0)


def explicit_softmax_attention(
    queries: Queries, keys: Keys, values: Values, key_mask: KeyMask | None = None, causal: bool = False
) -> Outputs:
    """The textbook form softmax(Q Kᵀ / √d) V, which holds the query-by-key matrix: memory grows with length squared."""
    check_shapes(queries, keys, values, key_mask, causal)
    return attention_weights(queries, keys, key_mask, causal).to(values.dtype) @ values


def softmax_attention(
    queries: Queries, keys: Keys, values: Values, key_mask: KeyMask | None = None, causal: bool = False
) -> Outputs:
    """softmax(Q Kᵀ / √d) V through the framework's fused kernel, in memory linear in length.

    Queries without any key give zeros; so do masked positions of the causal form. Under transforms of
    torch.func and with entries beyond a million, where the kernel fails, the matrix is formed. Second derivatives need
    `torch.nn.attention.sdpa_kernel` with its plain backend.
    """
    check_shapes(queries, keys, values, key_mask, causal)
    no_pair = not (queries.numel() and keys.numel())
    if no_pair or is_transformed(queries, keys, values) or has_large_entries(queries, keys):
        return explicit_softmax_attention(queries, keys, values, key_mask, causal)
    if key_mask is None:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=causal)
    if causal:
        return _causal_over_real_events(queries, keys, values, key_mask)
    some_key = key_mask.any(-1, keepdim=True)
    visible = (key_mask | ~some_key)[:, None, None, :]
    output = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    return output * some_key[:, :, None, None]


def _causal_over_real_events(
    queries: Heads, keys: Heads, values: Float[Tensor, "batch heads length value_dim"], key_mask: Mask
) -> Float[Tensor, "batch heads length value_dim"]:
    """Move the real events to the front, where causality alone hides the others: no length-squared mask is needed."""
    order = key_mask.logical_not().argsort(dim=-1, stable=True)[:, None, :, None]
    front = [tensor.take_along_dim(order, 2) for tensor in (queries, keys, values)]
    output = F.scaled_dot_product_attention(*front, is_causal=True)
    back = order.argsort(2)
    return output.take_along_dim(back, 2) * key_mask[:, None, :, None]


@constant
def turns(length: int, pairs: int, device: torch.device, dtype: torch.dtype) -> Complex[Tensor, "length pairs"]:
    """The complex numbers of length one by which the places 0, 1, … turn each pair of coordinates."""
    rates = SLOWEST_TURN ** -(torch.arange(pairs, dtype=torch.float64, device="cpu") / pairs)
    angles = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * rates
    return torch.polar(torch.ones_like(angles), angles).to(device, dtype.to_complex())


def rotated(heads: Heads) -> Heads:
    """Queries or keys whose pairs of coordinates, as complex numbers, are turned by the event's place (Su et al. 2021).

    Their products then depend on how many events lie between. Raises ValueError for an odd `head_dim`.
    """
    length, head_dim = heads.shape[2:]
    if head_dim % 2:
        raise ValueError(f"rotary places turn pairs of coordinates, got an odd head_dim of {head_dim}")
    precise = heads.to(wide(heads.dtype))
    pairs = torch.view_as_complex(precise.unflatten(-1, (head_dim // 2, 2)))
    known = turns(1 << max(length - 1, 1).bit_length(), head_dim // 2, heads.device, precise.dtype)  # few to be kept
    return torch.view_as_real(pairs * known[:length]).flatten(-2).to(heads.dtype)


class MultiHeadAttention(nn.Module):
    """Projections in and out, shared by name between the mechanisms so that weights can be carried over.

    Subclasses define `attend`. Where `rotary` is set, queries and keys are turned by their events' places. Raises
    ValueError if `heads` does not divide `model_dim`.
    """

    rotary = False

    def __init__(self, model_dim: int, heads: int, causal: bool = False):
        super().__init__()
        if heads < 1 or model_dim < 1 or model_dim % heads:
            raise ValueError(f"heads must divide model_dim, got {heads} heads for model_dim {model_dim}")
        self.heads = heads
        self.head_dim = model_dim // heads
        self.causal = causal
        self.in_projection = nn.Linear(model_dim, 3 * model_dim)
        self.out_projection = nn.Linear(model_dim, model_dim)

    def project(self, events: Events) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values of every head."""
        packed = self.in_projection(events).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2) for part in packed)
        return *self.placed(queries, keys), values

    def placed(self, queries: Heads, keys: Heads) -> tuple[Heads, Heads]:
        """Queries and keys, turned by their places if this attention is to see those."""
        return (rotated(queries), rotated(keys)) if self.rotary else (queries, keys)

    def merge(self, attended: Heads) -> Events:
        """The heads side by side, through the output projection."""
        return self.out_projection(attended.transpose(1, 2).flatten(2))

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        """What each query reads from the values; the one thing in which mechanisms differ."""
        raise NotImplementedError

    def forward(self, events: Events, key_mask: Mask | None = None) -> AttentionOutput:
        """Attention over real events; outputs at padded positions are finite and mean nothing."""
        output = self.merge(self.attend(*self.project(events), key_mask))
        return AttentionOutput(output, output.new_zeros(()))


class SoftmaxAttention(MultiHeadAttention):
    """Softmax attention through the fused kernel."""

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        return softmax_attention(queries, keys, values, key_mask, self.causal)


class ExplicitSoftmaxAttention(MultiHeadAttention):
    """Softmax attention that holds its matrix: the quadratic baseline."""

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        return explicit_softmax_attention(queries, keys, values, key_mask, self.causal)
