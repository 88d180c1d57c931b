"""Softmax and FAVOR+ as functions: their equations, whatever the mask, the batch, the norms or the number of keys."""

from functools import partial

import pytest
import torch
import written_out
from torch import nn
from written_out import SINGLE, random_heads, relative_error, seeded

from lib.attention import tiled
from lib.attention.performer import favor_attention
from lib.attention.random_features import KERNELS, draw_projection
from lib.attention.softmax import (
    ExplicitSoftmaxAttention,
    SoftmaxAttention,
    attention_weights,
    check_shapes,
    explicit_softmax_attention,
    softmax_attention,
)

PROJECTION = draw_projection("orthogonal", 16, 4, seeded(9))


def favor(kernel, queries, keys, values, mask=None, causal=False):
    return favor_attention(queries, keys, values, PROJECTION, kernel, causal, mask)


SOFTMAX = {"fused": softmax_attention, "explicit": explicit_softmax_attention}
FORMS = SOFTMAX | {kernel: partial(favor, kernel) for kernel in KERNELS}
every_form = pytest.mark.parametrize("form", FORMS)
both_directions = pytest.mark.parametrize("causal", [False, True])


def exact_weights(form, queries, keys, mask=None, causal=False):
    if form in SOFTMAX:
        return written_out.softmax_weights(queries, keys, mask, causal)
    return written_out.favor_weights(queries, keys, PROJECTION.to(queries.dtype), form, causal, mask)


def mask_of(length):
    return torch.rand(2, length, generator=seeded()) < 0.6


def assert_equal_to_rounding(one, other, factor=1e4, scale=1.0):
    """Sums of tens of terms and exponents of size ten lose a few thousand roundings; a wrong term is far larger."""
    assert (one - other).abs().max() <= factor * scale * torch.finfo(one.dtype).eps * other.abs().max().clamp(min=1)


@every_form
@both_directions
@pytest.mark.parametrize("masked", [False, True])
def test_outputs_and_gradients_are_those_of_the_equation(form, causal, masked, monkeypatch):
    """Tiles and chunks are so short that the sequence has many of each, the last ones incomplete."""
    monkeypatch.setattr(tiled, "TILE", 4)
    monkeypatch.setattr(tiled, "chunk_length", lambda length, value_dim: min(2, length))
    inputs = [tensor.requires_grad_() for tensor in random_heads(scale=0.7)]
    mask = mask_of(23) if masked else None
    weights = exact_weights(form, *inputs[:2], mask, causal)
    # Masked queries of a causal form mean nothing.
    upstream = torch.randn(inputs[2].shape, generator=seeded(4)).double()
    upstream = upstream * mask[:, None, :, None] if causal and masked else upstream
    found, exact = FORMS[form](*inputs, mask, causal), weights @ inputs[2]
    size = weights.detach().abs().sum(-1).max()
    assert_equal_to_rounding(found * upstream, exact * upstream, scale=size)
    for one, other in zip(*(torch.autograd.grad(each, inputs, upstream) for each in (found, exact)), strict=True):
        assert_equal_to_rounding(one, other, scale=size**2)


@every_form
@both_directions
def test_padding_and_companions_change_nothing(form, causal):
    """Neither what masked events contain, nor how many there are, nor who else is in the batch."""
    inputs, mask = random_heads(scale=0.5, dtype=torch.float32), mask_of(23)
    real, attend = mask[:, None, :, None], FORMS[form]
    size = exact_weights(form, *inputs[:2], mask, causal).abs().sum(-1).max()
    reference = attend(*inputs, mask, causal) * real
    inputs = [torch.where(real, tensor, 7.0) for tensor in inputs]
    assert torch.equal(attend(*inputs, mask, causal) * real, reference)
    padded = [torch.cat([tensor, torch.full_like(tensor[:, :, :5], 3)], 2) for tensor in inputs]
    batch = [torch.cat([tensor, 5 * tensor.flip(2)]) for tensor in padded]
    longer = torch.cat([mask, torch.zeros(2, 5, dtype=torch.bool)], 1)
    output = attend(*batch, torch.cat([longer, ~longer]), causal)[:2, :, :23]
    assert_equal_to_rounding(output * real, reference, factor=1e3, scale=size)


@every_form
@pytest.mark.parametrize("factor", [0.0, 3.0, 100.0])
def test_the_last_event_changes_nothing_before_it(form, factor):
    """Not a bit, unless it is so long that a tile of FAVOR+ is halved; then nothing beyond rounding."""
    queries, keys, values = random_heads(length=100, dtype=torch.float32, scale=0.5)
    before = FORMS[form](queries, keys, values, causal=True)
    keys[:, :, -1] *= factor
    values[:, :, -1] += 9
    after = FORMS[form](queries, keys, values, causal=True)
    size = exact_weights(form, queries, keys, causal=True)[:, :, :-1].abs().sum(-1).max()
    allowed = 1e3 if factor > 3 and form in KERNELS else 0
    assert_equal_to_rounding(after[:, :, :-1], before[:, :, :-1], allowed, size)
    assert not torch.equal(after[:, :, -1], before[:, :, -1])


@every_form
@both_directions
def test_nothing_to_attend_to_gives_zeros(form, causal):
    inputs, mask = [tensor.requires_grad_() for tensor in random_heads()], mask_of(23)
    mask[1] = False
    output = FORMS[form](*inputs, mask, causal)
    assert (output[1] == 0).all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


@every_form
@pytest.mark.parametrize(("queries", "keys"), [(3, 0), (0, 3), (0, 0)])
def test_queries_without_keys_read_zeros(form, queries, keys):
    inputs = [torch.randn(2, 2, length, 4).requires_grad_() for length in (queries, keys, keys)]
    output = FORMS[form](*inputs)
    assert output.shape == (2, 2, queries, 4)
    assert not output.any()
    assert not any(each.any() for each in torch.autograd.grad(output.sum(), inputs))


@every_form
@both_directions
@pytest.mark.parametrize("scale", [1e7, 1e10, 1e19, 1e30, 1e37])
def test_vectors_of_any_norm_give_the_limit(form, causal, scale):
    queries, keys, values = random_heads(scale=scale, dtype=torch.float32)
    # Of two keys of one norm the directions decide; a key of ordinary norm beats all others in a positive kernel.
    keys[:, :, 1] = -keys[:, :, 0]
    mask = mask_of(23)
    # Outputs of the trigonometric kernel exceed values by any factor, and its phases are rounding at such norms.
    phases = form == "trigonometric"
    values = values if phases else values * scale
    inputs = [each.requires_grad_() for each in (queries, keys, values)]
    found, exact = FORMS[form](*inputs, mask, causal), [each.detach().double() for each in inputs]
    assert found.isfinite().all()
    assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum() / scale, inputs))
    seen = mask[:, None, :, None] if causal else 1.0
    expected = exact_weights(form, *exact[:2], mask, causal) @ exact[2]
    assert phases or relative_error(found * seen, expected * seen) < 20 * SINGLE


def test_two_keys_by_hand():
    queries, keys = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3.0]).log().view(1, 1, 2, 1)
    torch.testing.assert_close(attention_weights(queries, keys).flatten(), torch.tensor([0.25, 0.75]))
    for form in SOFTMAX.values():
        values = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1)
        torch.testing.assert_close(form(queries, keys, values).flatten(), torch.tensor([7.0]))


@both_directions
@pytest.mark.parametrize("attention", [SoftmaxAttention, ExplicitSoftmaxAttention])
def test_softmax_equals_the_framework(attention, causal):
    torch.manual_seed(0)
    ours, theirs = attention(12, 3, causal), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.in_projection.weight.data)
    theirs.in_proj_bias.data.copy_(ours.in_projection.bias.data)
    theirs.out_proj.load_state_dict(ours.out_projection.state_dict())
    events, mask = torch.randn(2, 9, 12), torch.arange(9) < torch.tensor([9, 5])[:, None]
    future = torch.ones(9, 9, dtype=torch.bool).triu(1) if causal else None
    expected, _ = theirs(events, events, events, key_padding_mask=~mask, attn_mask=future)
    assert_equal_to_rounding(ours(events, mask).output[mask], expected[mask], factor=100)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 5, 4), (2, 1, 5, 4), (2, 1, 5, 4)), "must be .batch, heads, length, head_dim."),
        (((2, 1, 5, 4), (2, 1, 5, 3), (2, 1, 5, 4)), "and fit together, got shapes"),
        (((2, 1, 5, 4), (2, 1, 6, 4), (2, 1, 5, 4)), "and fit together, got shapes"),
        (((2, 1, 5, 4), (2, 1, 6, 4), (2, 1, 6, 4)), "one query per key"),
        (((2, 1, 6, 4), (2, 1, 6, 4), (2, 1, 6, 4)), "key_mask must be boolean of shape .2, 6., got torch.bool .2, 5."),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        check_shapes(*(torch.zeros(shape) for shape in shapes), torch.ones(2, 5, dtype=torch.bool), causal=True)
