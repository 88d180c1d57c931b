"""FAVOR+ as a stream, at norms that single precision barely holds, differentiated twice, and as a module."""

import inspect

import pytest
import torch
import written_out
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad
from written_out import SINGLE, random_heads, relative_error, seeded

from lib.attention import tiled
from lib.attention.performer import PerformerAttention, favor_attention, favor_stream
from lib.attention.random_features import KERNELS, draw_projection

every_kernel = pytest.mark.parametrize("kernel", KERNELS)
both_directions = pytest.mark.parametrize("causal", [False, True])


def rows(features=16, head_dim=4, dtype=torch.float32):
    return draw_projection("orthogonal", features, head_dim, seeded(9)).to(dtype)


def assert_equal_to_rounding(one, other, scale=1.0):
    """Sums of tens of terms and exponents of size ten lose a few thousand roundings; a wrong term is far larger."""
    assert (one - other).abs().max() <= 1e4 * scale * torch.finfo(one.dtype).eps * other.abs().max().clamp(min=1)


@pytest.fixture
def short_pieces(monkeypatch):
    """Tiles and chunks so short that a short sequence has many of each, the last ones incomplete."""
    monkeypatch.setattr(tiled, "TILE", 4)
    monkeypatch.setattr(tiled, "chunk_length", lambda length, value_dim: min(2, length))


@pytest.mark.usefixtures("short_pieces")
def test_gradients_of_single_events(monkeypatch):
    """The path that large norms take, forced at norms where differences can be trusted."""
    monkeypatch.setattr(tiled, "LARGEST_SUM", 0.0)
    inputs = [tensor.requires_grad_() for tensor in random_heads(1, 1, 5, 3)]
    mask = torch.tensor([[False, True, True, False, True]])
    form = lambda *tensors: favor_attention(*tensors, rows(5, 3), causal=True, key_mask=mask)  # noqa: E731
    assert torch.autograd.gradcheck(form, inputs)
    weights = written_out.favor_weights(*inputs[:2], rows(5, 3, torch.float64), "positive", True, mask)
    assert_equal_to_rounding(form(*inputs), weights @ inputs[2])


@pytest.mark.usefixtures("short_pieces")
@every_kernel
def test_gradients_through_the_state_of_a_stream(kernel):
    inputs = [tensor.requires_grad_() for tensor in random_heads(1, 1, 6, 3, scale=0.7)]

    def second_half(*tensors):
        _, state = favor_stream(*(tensor[:, :, :3] for tensor in tensors), rows(5, 3), kernel)
        return favor_stream(*(tensor[:, :, 3:] for tensor in tensors), rows(5, 3), kernel, state=state)[0]

    assert torch.autograd.gradcheck(second_half, inputs)


@given(st.integers(0, 2**16), st.sampled_from(KERNELS), st.lists(st.integers(0, 150), max_size=4))
@settings(max_examples=20, derandomize=True)
def test_a_stream_equals_the_whole(seed, kernel, cuts):
    """In parts of any length, empty ones among them."""
    inputs, mask = random_heads(length=150, scale=0.5, seed=seed), torch.rand(2, 150, generator=seeded(seed)) < 0.6
    whole = favor_attention(*inputs, rows(), kernel, True, mask)
    state, outputs = None, []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 150], strict=True):
        piece = [tensor[:, :, begin:end] for tensor in inputs]
        output, state = favor_stream(*piece, rows(), kernel, mask[:, begin:end], state)
        outputs.append(output)
    weights = written_out.favor_weights(*inputs[:2], rows(dtype=torch.float64), kernel, True, mask)
    assert_equal_to_rounding(torch.cat(outputs, 2), whole, scale=weights.abs().sum(-1).max())
    assert state.sums.shape == (2, 2, 5, state.level.shape[2])


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_the_state_is_the_sums_over_all_keys_and_tiles_are_halved_only_where_those_would_overflow(scale, monkeypatch):
    """Relative to its level, a column holds the mean of the values that its features weigh, and a one."""
    sizes, walk = [], tiled.tile_of
    monkeypatch.setattr(tiled, "tile_of", lambda *inputs: sizes.append(inputs[0].shape[1]) or walk(*inputs))
    inputs, mask = random_heads(length=12, scale=scale), torch.rand(2, 12, generator=seeded()) < 0.6
    _, state = favor_stream(*inputs, rows(), key_mask=mask)
    _, keys, values = inputs
    logits = keys @ rows(dtype=torch.float64).T * 4**-0.25 - keys.square().sum(-1, keepdim=True) / 4
    logits = logits.masked_fill(~mask[:, None, :, None], -torch.inf)
    assert_equal_to_rounding(state.level / tiled.LOG2_E, logits.logsumexp(2))
    assert_equal_to_rounding(state.sums[:, :, :-1], (logits.softmax(2).mT @ values).mT, scale=scale**2)
    assert_equal_to_rounding(state.sums[:, :, -1], torch.ones(2, 2, 16).double(), scale=scale**2)
    assert (min(sizes) < 4) == (scale > 1)


@pytest.mark.parametrize("rise", [0, 4, 9])
def test_sums_that_grow_within_a_tile_lose_nothing(rise):
    """In single precision the level of the first key serves a whole tile, however far later keys rise above it."""
    queries, keys, values = random_heads(1, 2, 300)
    inputs = queries, torch.linspace(rise, 0.1, 300)[:, None] * keys, values
    exact = favor_attention(*inputs, rows(), causal=True)
    found = favor_attention(*(tensor.float() for tensor in inputs), rows(), causal=True)
    logits = inputs[1].norm(dim=-1).max() * rows().norm(dim=-1).max() + inputs[1].square().sum(-1).max() / 2
    assert (found - exact).abs().max() <= 8 * SINGLE * max(1, logits) * values.abs().max()


def test_states_that_do_not_fit_are_refused():
    inputs = random_heads(dtype=torch.float32)
    _, state = favor_stream(*inputs, rows())
    for others, projection, kernel in (
        ([each[:1] for each in inputs], rows(), "positive"),
        ([*inputs[:2], torch.cat([inputs[2]] * 2, -1)], rows(), "positive"),
        (inputs, rows(7), "positive"),
        (inputs, rows(), "hyperbolic"),
        ([each.double() for each in inputs], rows(), "positive"),
    ):
        with pytest.raises(ValueError, match="state does not fit"):
            favor_stream(*others, projection, kernel, state=state)


@pytest.mark.parametrize("kernel", ["positive", "hyperbolic"])
def test_an_outlier_takes_its_own_weight_and_no_more(kernel):
    """A long key with a value of zero shrinks each output by the weight that the estimate gives it, exactly."""
    queries, keys, values = random_heads(length=64, scale=0.5)
    keys[:, :, -1] *= 20
    values[:, :, -1] = 0
    projection, without = rows(64, dtype=torch.float64), torch.arange(64).expand(2, -1) < 63
    weights = written_out.favor_weights(queries, keys, projection, kernel)
    with_outlier = favor_attention(queries, keys, values, projection, kernel)
    others = favor_attention(queries, keys, values, projection, kernel, key_mask=without)
    assert_equal_to_rounding(with_outlier, others * (1 - weights[..., -1:]))


@both_directions
def test_an_ordinary_key_among_enormous_ones_is_the_limit(causal):
    queries, keys, values = random_heads(dtype=torch.float32)
    keys[:, :, 3:] *= 1e30
    exact = written_out.favor_weights(queries.double(), keys.double(), rows().double(), "positive", causal)
    found = favor_attention(queries, keys, values, rows(), causal=causal)
    assert relative_error(found, exact @ values.double()) < 100 * SINGLE


@given(st.integers(0, 2**16), st.sampled_from(["positive", "hyperbolic"]), st.floats(0.1, 30), st.booleans())
@settings(max_examples=8, derandomize=True)
def test_large_norms_cost_only_the_rounding_of_logits(seed, kernel, scale, causal):
    inputs = [t.requires_grad_() for t in random_heads(1, 2, 70, 16, scale, seed, torch.float32)]
    projection = rows(32, 16)
    output = favor_attention(*inputs, projection, kernel, causal)
    exact = favor_attention(*(tensor.double() for tensor in inputs), projection, kernel, causal)
    norm = (inputs[0].norm(dim=-1).max() + inputs[1].norm(dim=-1).max()).item() / 2
    logits = norm * projection.norm(dim=1).max().item() + norm**2
    assert (output - exact).abs().max() <= 8 * SINGLE * max(1, logits) * inputs[2].abs().max()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


@pytest.mark.parametrize("length", [1, 2, 65_536])
@both_directions
def test_equal_keys_give_the_mean_of_values(causal, length):
    """Worked by hand: queries and keys of zero weigh all keys alike, with any projection."""
    zeros = torch.zeros(1, 1, length, 2)
    values = torch.arange(length).float().view(1, 1, length, 1).expand_as(zeros)
    output = favor_attention(zeros, zeros, values, rows(4, 2), causal=causal)
    means = torch.arange(length).view(1, 1, -1, 1) / 2 if causal else torch.full((1, 1, 1, 1), (length - 1) / 2)
    # Four roundings for each tile that enters a running mean: scale, add, and divide two sums.
    assert (output - means).abs().max() <= SINGLE * (100 + 4 * length / tiled.TILE) * length / 2


@both_directions
def test_lower_precision_sums_in_single_precision(causal):
    """With bfloat16 inputs the result is the rounded result of single precision, in a 2,000 events long sum too."""
    inputs = [tensor.bfloat16().requires_grad_() for tensor in random_heads(1, 1, 2000)]
    with torch.autocast("cpu", torch.bfloat16):
        low = favor_attention(*inputs, rows(), causal=causal)
        found = torch.autograd.grad(low.sum(), inputs)
    full = favor_attention(*(tensor.float() for tensor in inputs), rows(), causal=causal)
    assert torch.equal(low, full.bfloat16())
    for one, other in zip(found, torch.autograd.grad(full.sum(), inputs), strict=True):
        assert torch.equal(one, other)


@every_kernel
def test_second_derivatives(kernel):
    inputs = [each.requires_grad_() for each in random_heads(1, 2, 3, 3, scale=0.7)]
    mask = torch.tensor([[True, True, False]])
    form = lambda *x: favor_attention(*x, rows(4, 3), kernel, key_mask=mask)  # noqa: E731
    assert torch.autograd.gradgradcheck(form, inputs)


def test_second_derivatives_where_keys_are_values():
    """An input that others are made of is differentiated once: gradients of gradients are those of the equation."""
    x, directions = random_heads()[0].requires_grad_(), rows(4, dtype=torch.float64)
    results = []
    for form in (
        lambda q, k, v: favor_attention(q, k, v, directions),
        lambda q, k, v: written_out.favor_weights(q, k, directions, "positive") @ v,
    ):
        (first,) = torch.autograd.grad(form(x, x.sin(), x.sin() * x).square().sum(), x, create_graph=True)
        results.append((first, *torch.autograd.grad(first.square().sum(), x)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_the_causal_form_cannot_do_is_named():
    query, *others = (tensor.requires_grad_() for tensor in random_heads())
    form = lambda q: favor_attention(q, *others, rows(), causal=True).sum()  # noqa: E731
    with pytest.raises(NotImplementedError, match="not the causal form"):
        grad(form)(query)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        torch.autograd.grad(form(query), query, create_graph=True)


def test_the_projection_changes_only_on_redraw():
    torch.manual_seed(0)
    module, events = PerformerAttention(8, 2, seeded(0)), torch.randn(2, 5, 8)
    first = module(events).output
    assert torch.equal(module.eval()(events).output, first)
    module.redraw(seeded(2))
    assert not torch.equal(module(events).output, first)
    module.redraw(seeded(0))
    assert torch.equal(module(events).output, first)


def test_what_does_not_fit_is_named():
    unchecked = inspect.unwrap(favor_attention)  # without the checks of shapes that tests add
    with pytest.raises(ValueError, match="projection must be"):
        unchecked(*random_heads(), rows(head_dim=5))
    with pytest.raises(ValueError, match="unknown kernel 'elu'; known are positive"):
        favor_attention(*random_heads(), rows(), "elu")
