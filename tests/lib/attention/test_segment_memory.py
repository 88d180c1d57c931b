"""What every memory must hold: rows, padding, streams and earlier calls change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from lib.attention.baselines import BinnedMemoryAttention
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.softmax import SoftmaxAttention

KINDS = ("sticky", "uniform", "even", "bins")
SINGLE = torch.finfo(torch.float32).eps


def attention(kind, model_dim=16, heads=2, **settings):
    torch.manual_seed(0)
    settings = {"basis": 8, "segment": 16, **settings}
    if kind == "bins":
        return BinnedMemoryAttention(model_dim, heads, **settings)
    causal = settings.pop("causal", False)
    return InfiniteFormerAttention(model_dim, heads, MemorySettings(sampling=kind, samples=32, **settings), causal)


def events(rows, length, model_dim=16, seed=1):
    return torch.randn(rows, length, model_dim, generator=torch.Generator().manual_seed(seed))


def prefix(counts, length):
    return torch.arange(length) < torch.tensor(counts)[:, None]


def streamed(module, inputs, mask, piece):
    memory, outputs = None, []
    for part, real in zip(inputs.split(piece, 1), mask.split(piece, 1), strict=True):
        attended, memory = module.step(part, real, memory)
        outputs.append(attended.output)
    return torch.cat(outputs, 1), memory


def assert_equal_to_rounding(one, other, rounds):
    """Sums in another order: `rounds` is the number of rounding errors that can add up in one entry."""
    assert (one - other).abs().max() <= rounds * SINGLE * other.abs().max().clamp(min=1)


# An output passes through sums of up to 48 terms of like size, once for each of at most six segments.
ROUNDS = 6 * 48


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_equals_streamed_and_calls_leave_no_trace(kind, causal):
    module, inputs = attention(kind, causal=causal), events(3, 80)
    mask = prefix([80, 50, 3], 80)
    whole = module(inputs, mask)
    output, memory = streamed(module, inputs, mask, 16)
    assert memory.events.tolist() == [80, 50, 3]
    assert_equal_to_rounding(output[mask], whole.output[mask], ROUNDS)
    again = module(inputs, mask)
    assert torch.equal(again.output, whole.output)
    assert torch.equal(again.regulariser, whole.regulariser)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(counts=st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_batch_equals_row_by_row(kind, counts):
    module, length = attention(kind), max(counts)
    inputs = events(len(counts), length)
    together = module(inputs, prefix(counts, length)).output
    for row, count in enumerate(counts):
        alone = module(inputs[row : row + 1, :count]).output[0]
        assert_equal_to_rounding(together[row, :count], alone, ROUNDS)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_mixed_pieces_equal_row_by_row(kind):
    """Rows whose segments end at different events, and one that pauses, each keep the memory they would have alone."""
    module, inputs = attention(kind), events(3, 16)
    pieces = [[16, 5, 7], [3, 16, 0], [16, 1, 9], [16, 16, 16]]
    memory, alone = None, [None, None, None]
    for piece, counts in enumerate(pieces):
        part = inputs.roll(piece, dims=1)
        attended, memory = module.step(part, prefix(counts, 16), memory)
        for row, count in enumerate(counts):
            if count:
                single, alone[row] = module.step(part[row : row + 1, :count], None, alone[row])
                assert_equal_to_rounding(attended.output[row, :count], single.output[0], ROUNDS)
                assert_equal_to_rounding(memory.coefficients[row], alone[row].coefficients[0], ROUNDS)
    assert memory.events.tolist() == [51, 38, 32]


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_sees_the_past_and_not_the_future(kind):
    module, inputs = attention(kind), events(1, 48)
    before = module(inputs).output
    later = inputs.clone()
    later[:, 32:] += 1
    after = module(later).output
    assert_equal_to_rounding(after[:, :32], before[:, :32], ROUNDS)
    earlier = inputs.clone()
    earlier[:, :16] += 1
    assert (module(earlier).output[:, 16:] - before[:, 16:]).abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_segment_is_softmax_attention(kind):
    module = attention(kind)
    softmax = SoftmaxAttention(16, 2)
    softmax.load_state_dict(
        {name: value for name, value in module.state_dict().items() if name in softmax.state_dict()}
    )
    inputs, mask = events(2, 11), prefix([11, 4], 11)
    attended = module(inputs, mask)
    assert attended.regulariser == 0
    assert torch.equal(attended.output[mask], softmax(inputs, mask).output[mask])


@pytest.mark.parametrize(("kind", "through_memory"), [*((kind, True) for kind in KINDS), ("sticky", False)])
def test_gradients_reach_every_parameter_and_the_past_if_asked(kind, through_memory):
    module, inputs = attention(kind), events(2, 48).requires_grad_()
    if not through_memory:
        module = attention(kind, through_memory=False)
    attended = module(inputs)
    (attended.output[:, 32:].square().sum() + attended.regulariser).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert inputs.grad[:, 32:].abs().max() > 0
    assert (inputs.grad[:, :16].abs().max() > 0) == through_memory
    _, memory = module.step(inputs[:, :16])
    assert memory.coefficients.requires_grad == through_memory


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_stays_near_single_precision(kind):
    module, inputs = attention(kind), events(2, 48)
    plain = module(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attended = module(inputs)
        _, memory = module.step(inputs[:, :16])
    assert attended.output.dtype == torch.bfloat16
    assert memory.coefficients.dtype == torch.float32
    # Four products in a row (projections, scores, values, output), each rounding its terms to eight bits.
    bound = 4 * torch.finfo(torch.bfloat16).eps * plain.output.abs().max()
    assert (attended.output.float() - plain.output).abs().max() <= bound
    assert abs(attended.regulariser - plain.regulariser) <= 4 * torch.finfo(torch.bfloat16).eps * plain.regulariser


def test_wrong_inputs_are_refused():
    module, inputs = attention("uniform"), events(2, 20)
    with pytest.raises(ValueError, match="events must be"):
        module.check(inputs[0], None)
    with pytest.raises(ValueError, match="key_mask must be boolean"):
        module.check(inputs, torch.ones(2, 19, dtype=torch.bool))
    with pytest.raises(ValueError, match="before padding"):
        module(inputs, torch.arange(20).expand(2, 20) > 3)
    with pytest.raises(ValueError, match="at most 16"):
        module.step(inputs)


def allocated(module, segments):
    """Bytes that a forward and a backward pass over so many segments allocate, freed ones included."""
    inputs = events(1, segments * module.segment).requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        attended = module(inputs)
        (attended.output.sum() + attended.regulariser).backward()
    return sum(max(0, event.self_cpu_memory_usage) for event in profiler.events())


def test_training_allocates_in_proportion_to_length():
    """As many segments more cost as much more: no segment's gradient is as long as the whole history."""
    module = attention("uniform")
    allocated(module, 2)  # the first backward pass sets up the framework
    short, middle, long = (allocated(module, segments) for segments in (4, 8, 12))
    assert long - middle == pytest.approx(middle - short, rel=0.05)
