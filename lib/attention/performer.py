"""FAVOR+: softmax attention in linear time through random features (Choromanski et al. 2021).

Exponential kernels are two softmaxes: each column of the features averages the values over keys, then each query the
columns. So no denominator can underflow, whatever the norms, and nothing is added to one. What large norms do cost is
accuracy (see `study.kernel.trained`) and time: causal tiles get shorter, and what single precision cannot hold is
computed in double. The trigonometric kernel has signed weights; its denominators may come near zero, and its outputs
then exceed all values by any factor. That is the estimator, and it is left visible.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention import (
    Heads,
    KeyMask,
    Keys,
    Mask,
    Outputs,
    Projection,
    Queries,
    Values,
    can_look_at,
    has_large_entries,
    wide,
)
from lib.attention.mechanism import MultiHeadAttention
from lib.attention.random_features import check_kernel, draw_projection
from lib.attention.softmax import check_shapes, check_state
from lib.attention.tiled import FeatureMap, State, attention, causal_attention

# Of the logarithm of a sum over keys; beyond it single precision has lost what differs.
LARGEST_LEVEL = 1e10


def _rows(
    tensors: tuple[Tensor, ...], kernel: str, key_mask: Tensor | None, precision: torch.dtype
) -> tuple[Tensor | FeatureMap, ...]:
    """Queries, keys, values and what the mask hides with heads folded into rows, and the kernel of the projection."""
    check_kernel(kernel)
    queries, keys, values, projection = (tensor.to(precision) for tensor in tensors)
    head_dim = queries.shape[-1]
    if projection.dim() != 2 or projection.shape[1] != head_dim:
        raise ValueError(f"projection must be (features, {head_dim}) for these queries, got {tuple(projection.shape)}")
    directions, norm_share = projection * head_dim**-0.25, -(head_dim**-0.5) / 2
    if kernel == "hyperbolic":
        directions = torch.cat([directions, -directions])
    hidden = torch.zeros(keys.shape[:3], dtype=torch.bool, device=keys.device)
    if key_mask is not None:
        hidden = hidden | ~key_mask[:, None]
    exponential = kernel != "trigonometric"
    feature_map = FeatureMap(exponential, directions, norm_share if exponential else -norm_share)
    return *(tensor.flatten(0, 1) for tensor in (queries, keys, values, hidden)), feature_map


def favor_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    projection: Projection,
    kernel: str = "positive",
    causal: bool = False,
    key_mask: KeyMask | None = None,
) -> Outputs:
    """φ(Q) φ(K)ᵀ V over φ(Q) φ(K)ᵀ 1, multiplied from the right: linear time (Choromanski et al. 2021, algorithm 1).

    φ are the features of `kernel`; 1/√d is inside. Sums are in float32 at least; the projection is a constant. A query
    without any key gives zeros. Raises ValueError for shapes that do not fit and for unknown kernels.
    """
    check_shapes(queries, keys, values, key_mask, causal)
    if causal:
        return favor_stream(queries, keys, values, projection, kernel, key_mask)[0]
    inputs = (queries, keys, values, projection), kernel, key_mask
    output, level = attention(*_rows(*inputs, wide(queries.dtype)))
    if level is not None and can_look_at(output) and output.numel() and output.dtype != torch.float64:
        low, high, total = torch.stack([*level.aminmax(), output.detach().sum()]).tolist()
        if not (max(-low, high) < LARGEST_LEVEL and math.isfinite(total)):
            output, _ = attention(*_rows(*inputs, torch.float64))
    return output.unflatten(0, queries.shape[:2]).to(values.dtype)


def favor_stream(
    queries: Heads,
    keys: Heads,
    values: Float[Tensor, "batch heads length value_dim"],
    projection: Projection,
    kernel: str = "positive",
    key_mask: Mask | None = None,
    state: State | None = None,
) -> tuple[Float[Tensor, "batch heads length value_dim"], State]:
    """Causal attention over the next piece of a stream: pass the returned state with the piece that follows.

    The state has features x (value_dim + 2) numbers per head, whatever the length of the past. None starts a stream.
    Padding may be anywhere. Raises ValueError for the state of another batch, kernel or narrower type.
    """
    check_shapes(queries, keys, values, key_mask, causal=True)
    heads = queries.shape[:2]
    precision = wide(queries.dtype) if state is None else wide(queries.dtype, state.level.dtype)
    precision = torch.float64 if has_large_entries(queries, keys, values) else precision
    *inputs, feature_map = _rows((queries, keys, values, projection), kernel, key_mask, precision)
    shapes = State((*heads, values.shape[-1] + 1, feature_map.columns), (*heads, feature_map.columns))
    if state is None:
        state = State(*(values.new_zeros(shape, dtype=precision) for shape in shapes))
    check_state(state, shapes, queries)
    start = State(*(part.flatten(0, 1).to(precision) for part in state))
    output, end = causal_attention(*inputs, start, feature_map)
    return output.unflatten(0, heads).to(values.dtype), State(*(part.unflatten(0, heads) for part in end))


class PerformerAttention(MultiHeadAttention):
    """Performer attention; the projection is a buffer, saved with the weights, and changes only in `redraw`."""

    has_causal_form = True

    def __init__(
        self,
        model_dim: int,
        heads: int,
        generator: torch.Generator,
        features: int = 64,
        kernel: str = "positive",
        projection: str = "orthogonal",
        causal: bool = False,
    ):
        super().__init__(model_dim, heads, causal)
        check_kernel(kernel)
        self.kernel = kernel
        self.projection_name = projection
        self.register_buffer("projection", draw_projection(projection, features, self.head_dim, generator))

    def _apply(self, fn, recurse: bool = True):
        """What moves or casts the module: the projection moves along, but is rounded by no cast."""
        exact = self.projection
        super()._apply(fn, recurse)
        if self.projection.dtype != exact.dtype and not exact.is_meta:
            self.projection = exact.to(self.projection.device)
        return self

    def redraw(self, generator: torch.Generator) -> None:
        """Replace the projection by a fresh draw, in place."""
        self.projection.copy_(draw_projection(self.projection_name, *self.projection.shape, generator))

    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        return favor_attention(queries, keys, values, self.projection, self.kernel, self.causal, key_mask)
