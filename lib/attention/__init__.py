"""The attention mechanisms; here are the shapes that their signatures share, and what keeps numbers right at edges."""

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce, wraps

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Events = Float[Tensor, "batch length model_dim"]
Mask = Bool[Tensor, "batch length"]  # true at real events, false at padding
Heads = Float[Tensor, "batch heads length head_dim"]  # queries, keys, values or outputs, where all have one length
Queries = Float[Tensor, "batch heads query_length head_dim"]
Keys = Float[Tensor, "batch heads key_length head_dim"]
Values = Float[Tensor, "batch heads key_length value_dim"]
Outputs = Float[Tensor, "batch heads query_length value_dim"]
KeyMask = Bool[Tensor, "batch key_length"]
PerQuery = Float[Tensor, "batch heads length"]
Projection = Float[Tensor, "features head_dim"]  # the random directions of a kernel's features
Coefficients = Float[Tensor, "batch basis model_dim"]  # a memory: the weights of its basis functions

LARGE = 1e6  # beyond it single precision loses what differs, and then overflows


def wide(*dtypes: torch.dtype) -> torch.dtype:
    """The type that sums are made in: float32 at least."""
    return reduce(torch.promote_types, dtypes, torch.float32)


def constant(function: Callable) -> Callable:
    """Cache tensors that follow from settings, a device and a type; as buffers, casts would round them."""
    cached = lru_cache(maxsize=256)(function)

    @wraps(function)
    def call(*settings):
        with torch.inference_mode(False), torch.no_grad():
            probe = torch.empty(0)
            # Under a transform or a fake mode new tensors are wrapped and must not outlive it.
            plain = type(probe) is Tensor and not is_transformed(probe)
            return (cached if plain else function)(*settings)

    call._dynamo_marked_constant = True  # what assume_constant_result sets, which imports the compiler
    return call


def is_transformed(*tensors: Tensor) -> bool:
    """Whether a transform of torch.func follows every step that is taken with these."""
    wrapped = (torch.func.debug_unwrap(tensor, recurse=False) is not tensor for tensor in tensors)
    return not torch.compiler.is_compiling() and any(wrapped)


def needs_plain_operations(*tensors: Tensor) -> bool:
    """Whether torch.func or torch.export follows every step, which allows no own gradients and no choice by value."""
    return torch.compiler.is_exporting() or is_transformed(*tensors)


def can_look_at(*tensors: Tensor) -> bool:
    """Whether a choice may depend on the values: nobody traces, and there are values."""
    plain = all(type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta for tensor in tensors)
    return plain and not torch.compiler.is_compiling() and not is_transformed(*tensors)


def has_large_entries(*tensors: Tensor) -> bool:
    """Whether an entry exceeds `LARGE` in what is not double yet; false where values cannot be looked at."""
    if not can_look_at(*tensors):
        return False
    looked_at = [tensor.detach() for tensor in tensors if tensor.dtype != torch.float64 and tensor.numel()]
    # `amax` and `amin` are far faster than `aminmax` where heads are not contiguous; an accelerator is waited for once.
    ends = [end.float() for tensor in looked_at for end in (tensor.amax(), tensor.amin())]
    return bool(ends) and bool(torch.stack(ends).abs().amax() > LARGE)


def differentiable_gradients(plain: Callable, inputs: Sequence, gradients: Sequence) -> tuple[Tensor, ...]:
    """Gradients of plain operations that can be differentiated again, for backward passes that build a graph."""
    # Views, so that an input which is made of another one is differentiated by itself alone.
    fresh = [each.view_as(each) if each.requires_grad else each.detach().requires_grad_() for each in inputs]
    return torch.autograd.grad(plain(*fresh), fresh, gradients, create_graph=True)
