"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.attention import Heads, KeyMask, Keys, Mask, Outputs, Queries, Values, has_large_entries, is_transformed, wide
from lib.attention.mechanism import MultiHeadAttention


def check_shapes(queries: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor | None, causal: bool) -> None:
    """Raise ValueError unless the tensors are (batch, heads, length, head_dim) and fit together."""
    shapes = [tuple(tensor.shape) for tensor in (queries, keys, values)]
    agree = all(len(shape) == 4 for shape in shapes) and keys.shape[:3] == values.shape[:3]
    if not agree or queries.shape[:2] != keys.shape[:2] or queries.shape[3] != keys.shape[3]:
        message = "queries, keys and values must be (batch, heads, length, head_dim) and fit together"
        raise ValueError(f"{message}, got shapes {shapes}")
    if causal and queries.shape[2] != keys.shape[2]:
        raise ValueError(f"causal attention needs one query per key, got {queries.shape[2]} and {keys.shape[2]}")
    if key_mask is not None:
        check_mask(key_mask, keys.shape[0], keys.shape[2])


def check_mask(key_mask: Tensor, batch: int, length: int) -> None:
    """Raise ValueError unless the mask says of every event whether it is real."""
    if key_mask.dtype != torch.bool or key_mask.shape != (batch, length):
        found = f"{key_mask.dtype} {tuple(key_mask.shape)}"
        raise ValueError(f"key_mask must be boolean of shape {(batch, length)}, got {found}")


def check_state(state: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...], events: Tensor) -> None:
    """Raise ValueError unless what a stream carried so far has the shapes, device and precision of its next part."""
    for part, shape in zip(state, shapes, strict=True):
        narrow = part.is_floating_point() and wide(part.dtype, events.dtype) != part.dtype
        if part.shape != shape or part.device != events.device or narrow:
            found = f"{part.dtype} {tuple(part.shape)} on {part.device}"
            expected = f"{tuple(shape)} for {events.dtype} on {events.device}"
            raise ValueError(f"the stream's state does not fit: got {found}, expected {expected}")


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

    Queries without any key give zeros; so do masked positions of the causal form. Under transforms of torch.func and
    with entries beyond a million the matrix is formed. Second derivatives need `torch.nn.attention.sdpa_kernel`.
    """
    check_shapes(queries, keys, values, key_mask, causal)
    no_pair = not (queries.numel() and keys.numel())
    if no_pair or is_transformed(queries, keys, values) or has_large_entries(queries, keys):
        return explicit_softmax_attention(queries, keys, values, key_mask, causal)
    if key_mask is None:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=causal)
    if causal:
        # With the real events in front causality alone hides the others: no length-squared mask is needed.
        order = key_mask.logical_not().argsort(dim=-1, stable=True)[:, None, :, None]
        front = [tensor.take_along_dim(order, 2) for tensor in (queries, keys, values)]
        output = F.scaled_dot_product_attention(*front, is_causal=True)
        return output.take_along_dim(order.argsort(2), 2) * key_mask[:, None, :, None]
    some_key = key_mask.any(-1, keepdim=True)
    visible = (key_mask | ~some_key)[:, None, None, :]
    output = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    return output * some_key[:, :, None, None]


class SoftmaxAttention(MultiHeadAttention):
    """Softmax attention through the fused kernel."""

    has_causal_form = True

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        return softmax_attention(queries, keys, values, key_mask, self.causal)


class ExplicitSoftmaxAttention(SoftmaxAttention):
    """Softmax attention that holds its matrix: the quadratic baseline."""

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        return explicit_softmax_attention(queries, keys, values, key_mask, self.causal)
