"""Softmax attention is the framework's own, padding is invisible, and rows without keys are zeros."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.attention.mechanism import AttentionOutput
from lib.attention.softmax import (
    ExplicitSoftmaxAttention,
    SoftmaxAttention,
    attention_weights,
    check_shapes,
    explicit_softmax_attention,
    softmax_attention,
)

SINGLE = torch.finfo(torch.float32).eps
FORMS = (softmax_attention, explicit_softmax_attention)


def normal(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options)


def attention_inputs(batch=2, heads=3, length=11, head_dim=4, **options):
    return [normal(batch, heads, length, head_dim, seed=seed, **options) for seed in range(3)]


def assert_equal_to_rounding(one, other, terms):
    """`terms` is how many rounding errors can add up in one entry."""
    assert (one - other).abs().max() <= terms * torch.finfo(one.dtype).eps * other.abs().max().clamp(min=1)


def test_two_keys_by_hand():
    queries, keys = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3.0]).log().view(1, 1, 2, 1)
    values = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1)
    torch.testing.assert_close(attention_weights(queries, keys).flatten(), torch.tensor([0.25, 0.75]))
    for form in FORMS:
        torch.testing.assert_close(form(queries, keys, values).flatten(), torch.tensor([7.0]))


@pytest.mark.parametrize("attention", [SoftmaxAttention, ExplicitSoftmaxAttention])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_framework(attention, causal):
    torch.manual_seed(0)
    ours, theirs = attention(12, 3, causal), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.in_projection.weight.data)
    theirs.in_proj_bias.data.copy_(ours.in_projection.bias.data)
    theirs.out_proj.load_state_dict(ours.out_projection.state_dict())
    events, mask = normal(2, 9, 12), torch.arange(9) < torch.tensor([9, 5])[:, None]
    future = torch.ones(9, 9, dtype=torch.bool).triu(1) if causal else None
    expected, _ = theirs(events, events, events, key_padding_mask=~mask, attn_mask=future)
    attended = ours(events, mask)
    assert isinstance(attended, AttentionOutput)
    assert attended.regulariser == 0
    assert_equal_to_rounding(attended.output[mask], expected[mask], terms=100)


@given(st.integers(0, 2**16), st.integers(1, 20), st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_fused_equals_explicit_for_any_mask(seed, length, causal):
    queries, keys, values = attention_inputs(length=length, dtype=torch.float64)
    mask = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) < 0.6
    fused = softmax_attention(queries, keys, values, mask, causal)
    explicit = explicit_softmax_attention(queries, keys, values, mask, causal)
    compared = mask[:, None, :, None] if causal else True
    assert_equal_to_rounding(fused * compared, explicit * compared, terms=100)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("causal", [False, True])
def test_masked_keys_change_nothing(form, causal):
    queries, keys, values = attention_inputs()
    mask = torch.tensor([[True] * 11, [True, False] * 5 + [True]])
    hidden = ~mask[:, None, :, None]
    other = form(queries, keys + 50 * hidden, values - 50 * hidden, mask, causal)
    real = mask[:, None, :, None]
    torch.testing.assert_close(form(queries, keys, values, mask, causal) * real, other * real, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_to_attend_to_gives_zeros(form, causal):
    inputs = [tensor.requires_grad_() for tensor in attention_inputs()]
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1] = False
    output = form(*inputs, mask, causal)
    assert (output[1] == 0).all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


@pytest.mark.parametrize("form", FORMS)
def test_no_information_from_the_future(form):
    queries, keys, values = attention_inputs()
    before = form(queries, keys, values, causal=True)
    keys[:, :, -1] *= 6
    values[:, :, -1] += 6
    after = form(queries, keys, values, causal=True)
    assert torch.equal(after[:, :, :-1], before[:, :, :-1])
    assert not torch.equal(after[:, :, -1], before[:, :, -1])


@pytest.mark.parametrize("form", FORMS)
def test_gradients_agree_with_differences(form):
    inputs = [tensor.requires_grad_() for tensor in attention_inputs(1, 1, 4, 2, dtype=torch.float64)]
    mask = torch.tensor([[True, True, False, True]])
    assert torch.autograd.gradcheck(lambda *tensors: form(*tensors, mask, causal=True), inputs)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 5, 4), (2, 1, 5, 4), (2, 1, 5, 4)), "queries must be"),
        (((2, 1, 5, 4), (2, 1, 5, 3), (2, 1, 5, 4)), "must agree in batch, heads and head_dim"),
        (((2, 1, 5, 4), (2, 1, 6, 4), (2, 1, 5, 4)), "must agree in batch, heads and length"),
        (((2, 1, 5, 4), (2, 1, 6, 4), (2, 1, 6, 4)), "one query per key"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        check_shapes(*(torch.zeros(shape) for shape in shapes), None, causal=True)


@pytest.mark.parametrize("mask", [torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 5)])
def test_masks_that_do_not_fit_are_named(mask):
    with pytest.raises(ValueError, match="key_mask must be boolean of shape"):
        check_shapes(*[torch.zeros(2, 1, 5, 4)] * 3, mask, causal=False)
