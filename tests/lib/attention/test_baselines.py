"""What the mechanisms are compared with: a memory of means, segments alone, a recurrent network, nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from written_out import SINGLE, softmax_over, softmax_weights

from lib.attention.baselines import BinnedMemoryAttention, Bins, LocalAttention, NoAttention, Recurrence

DOUBLE = torch.finfo(torch.float64).eps


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_one_update_by_hand():
    """Two bins of two events each make room for two new events: thirds of the interval go into halves."""
    update = Bins(2, 3).update(doubles(2 / 3), torch.tensor([2]))
    # Cells: old bins [0, 1/3] and [1/3, 2/3], new events [2/3, 5/6] and [5/6, 1]; bins: [0, 1/2] and [1/2, 1].
    assert torch.allclose(update.past[0], doubles([2 / 3, 1 / 3], [0, 1 / 3]), atol=4 * DOUBLE)
    assert torch.allclose(update.new[0], doubles([0, 0, 0], [1 / 3, 1 / 3, 0]), atol=4 * DOUBLE)


@given(bins=st.integers(1, 9), seen=st.integers(0, 40), count=st.integers(1, 12))
@settings(max_examples=40)
def test_a_constant_stays_constant_and_the_mean_is_kept(bins, seen, count):
    kept = seen / (seen + count)
    update = Bins(bins, 12).update(doubles(kept), torch.tensor([count]))
    totals = update.past[0].sum(1) + update.new[0].sum(1)
    assert torch.allclose(totals, torch.ones(bins, dtype=torch.float64), rtol=0, atol=8 * (bins + 12) * DOUBLE)
    # Every event has the same part in the mean over the bins.
    assert torch.allclose(update.past[0].mean(0), doubles(*[kept / bins] * bins), rtol=0, atol=64 * bins * DOUBLE)
    fresh = (torch.arange(12) < count).double() * (1 - kept) / count
    assert torch.allclose(update.new[0].mean(0), fresh, rtol=0, atol=64 * bins * DOUBLE)


def test_bins_of_whole_segments_are_exact_means():
    """Where new bins are unions of old ones, streaming loses nothing: 8 segments of 4 bins' worth each fit 4 bins."""
    module, events = BinnedMemoryAttention(4, 1, basis=4, segment=8).double(), torch.randn(1, 16, 4).double()
    memory = None
    for part in events.split(8, 1):
        _, memory = module.step(part, None, memory)
    assert torch.allclose(memory.coefficients[0], events[0].unflatten(0, (4, 4)).mean(1), rtol=0, atol=64 * DOUBLE)


def test_read_is_softmax_over_bins():
    torch.manual_seed(0)
    module, coefficients = BinnedMemoryAttention(4, 2, basis=3), torch.randn(2, 3, 4)
    queries = torch.randn(2, 2, 5, 2)
    context, regulariser = module.read(queries, coefficients)
    keys = module.memory_keys(coefficients).unflatten(-1, (2, 2)).transpose(1, 2)
    values = module.memory_values(coefficients).unflatten(-1, (2, 2)).transpose(1, 2)
    assert torch.allclose(context, softmax_weights(queries, keys) @ values, rtol=0, atol=32 * SINGLE)
    assert not regulariser.any()


@pytest.mark.parametrize("segment", [4, 16])
def test_local_attention_is_softmax_with_the_other_segments_hidden(segment):
    torch.manual_seed(0)
    layer, events = LocalAttention(8, 2, segment).double(), torch.randn(2, 10, 8).double()
    mask = torch.arange(10) < torch.tensor([[10], [6]])
    queries, keys, values = layer.project(events)
    same = torch.arange(10)[:, None] // segment == torch.arange(10) // segment
    weights = softmax_over(same & mask[:, None, None], queries @ keys.mT / layer.head_dim**0.5)
    torch.testing.assert_close(layer(events, mask).output[mask], layer.merge(weights @ values)[mask])


def test_without_attention_events_do_not_see_each_other():
    attended = NoAttention()(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    assert not attended.output.any()
    assert attended.regulariser == 0


def test_recurrence_sees_only_what_came_before():
    layer, events = Recurrence(8), torch.randn(1, 6, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(events).output[0, 3].sum(), events)
    assert gradient[0, :4].abs().sum(-1).all()
    assert not gradient[0, 4:].any()
    with pytest.raises(ValueError, match="before padding"):
        layer(events[:, :3], torch.tensor([[False, True, True]]))
