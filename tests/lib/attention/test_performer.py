"""FAVOR+ is the quadratic form with the same features, in both directions, whatever the mask, norm or batch."""

import pytest
import torch
import written_out
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.attention import tiled
from lib.attention.performer import PerformerAttention, check_projection, favor_attention, favor_stream
from lib.attention.random_features import KERNELS, draw_projection
from lib.attention.softmax import SoftmaxAttention

SINGLE = torch.finfo(torch.float32).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def attention_inputs(batch=2, heads=3, length=23, head_dim=4, scale=1.0, seed=0, dtype=torch.float64):
    generator = seeded(seed)
    queries, keys, values = (torch.randn(batch, heads, length, head_dim, generator=generator) for _ in range(3))
    return [(queries * scale).to(dtype), (keys * scale).to(dtype), values.to(dtype)]


def rows(features=16, head_dim=4, dtype=torch.float64, name="orthogonal"):
    return draw_projection(name, features, head_dim, seeded(9)).to(dtype)


def mask_of(length, seed=0, batch=2):
    return torch.rand(batch, length, generator=seeded(seed)) < 0.6


def assert_equal_to_rounding(one, other, factor=1e4, scale=1.0):
    """Sums of tens of terms and exponents of size ten lose a few thousand roundings; a wrong term is far larger."""
    assert (one - other).abs().max() <= factor * scale * torch.finfo(one.dtype).eps * other.abs().max().clamp(min=1)


@pytest.fixture
def short_pieces(monkeypatch):
    """Tiles and chunks so short that a short sequence has many of each, the last ones incomplete."""
    monkeypatch.setattr(tiled, "TILE", 4)
    monkeypatch.setattr(tiled, "chunk_length", lambda length, value_dim: min(2, length))


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_linear_form_equals_quadratic_form(kernel, causal, masked):
    """The causal case is the lower triangle of the same weights: causal equals masked."""
    inputs = [tensor.requires_grad_() for tensor in attention_inputs(scale=0.7)]
    mask = mask_of(23) if masked else None
    weights = written_out.favor_weights(*inputs[:2], rows(), kernel, causal, mask)
    linear, quadratic = favor_attention(*inputs, rows(), kernel, causal, mask), weights @ inputs[2]
    size = weights.detach().abs().sum(-1).max()
    assert_equal_to_rounding(linear, quadratic, scale=size)
    upstream = torch.randn(linear.shape, generator=seeded(4)).double()
    found, expected = (torch.autograd.grad(output, inputs, upstream) for output in (linear, quadratic))
    for one, other in zip(found, expected, strict=True):
        assert_equal_to_rounding(one, other, scale=size**2)


@pytest.mark.usefixtures("short_pieces")
def test_gradients_of_single_events(monkeypatch):
    """The path that large norms take, forced at norms where differences can be trusted."""
    monkeypatch.setattr(tiled, "LARGEST_SUM", 0.0)
    inputs = [tensor.requires_grad_() for tensor in attention_inputs(1, 1, 5, 3)]
    mask = torch.tensor([[False, True, True, False, True]])
    form = lambda *tensors: favor_attention(*tensors, rows(5, 3), causal=True, key_mask=mask)  # noqa: E731
    assert torch.autograd.gradcheck(form, inputs)
    output = form(*inputs)
    weights = written_out.favor_weights(*inputs[:2], rows(5, 3), "positive", True, mask)
    assert_equal_to_rounding(output, weights @ inputs[2])


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_through_the_state_of_a_stream(kernel):
    inputs = [tensor.requires_grad_() for tensor in attention_inputs(1, 1, 6, 3, scale=0.7)]

    def second_half(queries, keys, values):
        pieces = [[tensor[:, :, part] for tensor in (queries, keys, values)] for part in (slice(0, 3), slice(3, 6))]
        _, state = favor_stream(*pieces[0], rows(5, 3), kernel)
        return favor_stream(*pieces[1], rows(5, 3), kernel, state=state)[0]

    assert torch.autograd.gradcheck(second_half, inputs)


@given(st.integers(0, 2**16), st.sampled_from(KERNELS), st.lists(st.integers(1, 149), max_size=4, unique=True))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_stream_equals_the_whole(seed, kernel, cuts):
    inputs, mask = attention_inputs(length=150, scale=0.5, seed=seed), mask_of(150, seed)
    whole = favor_attention(*inputs, rows(), kernel, True, mask)
    state, outputs = None, []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 150], strict=True):
        piece = [tensor[:, :, begin:end] for tensor in inputs]
        output, state = favor_stream(*piece, rows(), kernel, mask[:, begin:end], state)
        outputs.append(output)
    size = written_out.favor_weights(*inputs[:2], rows(), kernel, True, mask).abs().sum(-1).max()
    assert_equal_to_rounding(torch.cat(outputs, 2), whole, scale=size)
    assert state.sums.shape == (2, 3, 5, state.level.shape[2])


@pytest.mark.parametrize("factor", [0.0, 3.0, 100.0])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_last_event_changes_nothing_before_it(kernel, factor):
    """Not a bit, unless it is so long that the tile is halved; then nothing beyond rounding."""
    queries, keys, values = attention_inputs(length=100, dtype=torch.float32, scale=0.5)
    projection = rows(dtype=torch.float32)
    before = favor_attention(queries, keys, values, projection, kernel, causal=True)
    keys[:, :, -1] *= factor
    values[:, :, -1] += 9
    after = favor_attention(queries, keys, values, projection, kernel, causal=True)
    size = written_out.favor_weights(queries, keys, projection, kernel, True)[:, :, :-1].abs().sum(-1).max()
    assert_equal_to_rounding(after[:, :, :-1], before[:, :, :-1], factor=1e3 if factor > 3 else 0, scale=size)
    assert not torch.equal(after[:, :, -1], before[:, :, -1])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_padding_changes_nothing(kernel, causal):
    """Neither what masked events contain, nor how many there are."""
    queries, keys, values = attention_inputs(dtype=torch.float32, scale=0.5)
    projection, mask = rows(dtype=torch.float32), mask_of(23)
    real = mask[:, None, :, None]
    size = written_out.favor_weights(queries, keys, projection, kernel, causal, mask).abs().sum(-1).max()
    reference = favor_attention(queries, keys, values, projection, kernel, causal, mask) * real
    queries, keys, values = (torch.where(real, tensor, 7.0) for tensor in (queries, keys, values))
    assert torch.equal(favor_attention(queries, keys, values, projection, kernel, causal, mask) * real, reference)
    padded = [torch.cat([tensor, torch.full_like(tensor[:, :, :5], 3)], 2) for tensor in (queries, keys, values)]
    longer = torch.cat([mask, torch.zeros(2, 5, dtype=torch.bool)], 1)
    output = favor_attention(*padded, projection, kernel, causal, longer)[:, :, :23] * real
    assert_equal_to_rounding(output, reference, factor=1e3, scale=size)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_companions_in_a_batch_change_nothing(kernel, causal):
    inputs = attention_inputs(scale=0.5)
    strangers = [torch.cat([tensor, 5 * tensor.flip(2)]) for tensor in inputs]
    alone = favor_attention(*inputs, rows(), kernel, causal)
    size = written_out.favor_weights(*inputs[:2], rows(), kernel, causal).abs().sum(-1).max()
    assert_equal_to_rounding(favor_attention(*strangers, rows(), kernel, causal)[:2], alone, scale=size)


@pytest.mark.parametrize("kernel", ["positive", "hyperbolic"])
def test_an_outlier_takes_its_own_weight_and_no_more(kernel):
    """A long key with a value of zero shrinks each output by the weight that the estimate gives it, exactly."""
    queries, keys, values = attention_inputs(length=64, scale=0.5)
    keys[:, :, -1] *= 20
    values[:, :, -1] = 0
    projection, without = rows(64), torch.arange(64).expand(2, -1) < 63
    weights = written_out.favor_weights(queries, keys, projection, kernel)
    with_outlier = favor_attention(queries, keys, values, projection, kernel)
    others = favor_attention(queries, keys, values, projection, kernel, key_mask=without)
    assert_equal_to_rounding(with_outlier, others * (1 - weights[..., -1:]))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_to_attend_to_gives_zeros(kernel, causal):
    inputs = [tensor.requires_grad_() for tensor in attention_inputs()]
    mask = mask_of(23)
    mask[1] = False
    output = favor_attention(*inputs, rows(), kernel, causal, mask)
    assert (output[1] == 0).all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


@given(st.integers(0, 2**16), st.sampled_from(["positive", "hyperbolic"]), st.floats(0.1, 30), st.booleans())
@settings(max_examples=8, deadline=None, derandomize=True)
def test_large_norms_cost_only_the_rounding_of_logits(seed, kernel, scale, causal):
    inputs = [t.requires_grad_() for t in attention_inputs(1, 2, 70, 16, scale, seed, torch.float32)]
    projection = rows(32, 16, torch.float32)
    output = favor_attention(*inputs, projection, kernel, causal)
    exact = favor_attention(*(tensor.double() for tensor in inputs), projection.double(), kernel, causal)
    norm = (inputs[0].norm(dim=-1).max() + inputs[1].norm(dim=-1).max()).item() / 2
    logits = norm * projection.norm(dim=1).max().item() + norm**2
    assert (output - exact).abs().max() <= 8 * SINGLE * max(1, logits) * inputs[2].abs().max()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


@pytest.mark.parametrize("length", [1, 2, 65_536])
@pytest.mark.parametrize("causal", [False, True])
def test_equal_keys_give_the_mean_of_values(causal, length):
    """Worked by hand: queries and keys of zero weigh all keys alike, with any projection."""
    zeros = torch.zeros(1, 1, length, 2)
    values = torch.arange(length).float().view(1, 1, length, 1).expand_as(zeros)
    output = favor_attention(zeros, zeros, values, rows(4, 2, torch.float32), causal=causal)
    means = torch.arange(length).view(1, 1, -1, 1) / 2 if causal else torch.full((1, 1, 1, 1), (length - 1) / 2)
    # Four roundings for each tile that enters a running mean: scale, add, and divide two sums.
    assert (output - means).abs().max() <= SINGLE * (100 + 4 * length / tiled.TILE) * length / 2


@pytest.mark.parametrize("causal", [False, True])
def test_lower_precision_sums_in_single_precision(causal):
    """With bfloat16 inputs the result is the rounded result of single precision, in a 2,000 events long sum too."""
    inputs = [tensor.bfloat16() for tensor in attention_inputs(1, 1, 2000, dtype=torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        low = favor_attention(*inputs, rows(dtype=torch.float32), causal=causal)
    full = favor_attention(*(tensor.float() for tensor in inputs), rows(dtype=torch.float32), causal=causal)
    assert torch.equal(low, full.bfloat16())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("causal", [False, True])
def test_the_module_trains_under_autocast(kernel, causal):
    torch.manual_seed(0)
    module = PerformerAttention(8, 2, seeded(), 8, kernel, causal=causal)
    with torch.autocast("cpu", torch.bfloat16):
        attended = module(torch.randn(2, 5, 8), mask_of(5))
        attended.output.float().square().sum().backward()
    assert attended.regulariser == 0
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_the_projection_is_saved_and_changes_only_on_redraw():
    torch.manual_seed(0)
    module, other = PerformerAttention(8, 2, seeded(0)), PerformerAttention(8, 2, seeded(1))
    events = torch.randn(2, 5, 8)
    first = module(events).output
    assert torch.equal(module(events).output, first)
    assert torch.equal(module.eval()(events).output, first)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(events).output, first)
    module.redraw(seeded(2))
    assert not torch.equal(module(events).output, first)
    module.redraw(seeded(0))
    assert torch.equal(module(events).output, first)


def test_softmax_weights_carry_over():
    torch.manual_seed(0)
    softmax, performer = SoftmaxAttention(8, 2), PerformerAttention(8, 2, seeded())
    missing = performer.load_state_dict(softmax.state_dict(), strict=False)
    assert missing.missing_keys == ["projection"]
    assert missing.unexpected_keys == []


def test_what_does_not_fit_is_named():
    inputs = attention_inputs()
    with pytest.raises(ValueError, match="projection must be"):
        check_projection(rows(head_dim=5), 4)
    with pytest.raises(ValueError, match="unknown kernel 'elu'; known are positive"):
        favor_attention(*inputs, rows(), "elu")
    with pytest.raises(ValueError, match="unknown projection"):
        PerformerAttention(8, 2, seeded(), projection="sobol")
