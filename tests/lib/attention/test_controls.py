import pytest
import torch

from lib.attention.controls import LocalAttention, NoAttention, Recurrence
from lib.attention.softmax import attention_weights


def test_local_attention_is_softmax_with_the_other_segments_hidden():
    torch.manual_seed(0)
    layer = LocalAttention(8, 2, segment=4).double()
    events = torch.randn(2, 10, 8, dtype=torch.double)
    mask = torch.arange(10) < torch.tensor([[10], [6]])
    queries, keys, values = layer.project(events)
    scores = queries @ keys.mT / layer.head_dim**0.5
    same = torch.arange(10)[:, None] // 4 == torch.arange(10) // 4
    weights = scores.masked_fill(~(same & mask[:, None, None]), -torch.inf).softmax(-1)
    expected = layer.merge(weights @ values)
    torch.testing.assert_close(layer(events, mask).output[mask], expected[mask])
    whole = LocalAttention(8, 2, segment=16).double()
    whole.load_state_dict(layer.state_dict())
    everything = layer.merge(attention_weights(queries, keys, mask) @ values)
    torch.testing.assert_close(whole(events, mask).output[mask], everything[mask])


def test_without_attention_events_do_not_see_each_other():
    attended = NoAttention()(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    assert not attended.output.any()
    assert attended.regulariser == 0


def test_recurrence_sees_only_what_came_before():
    torch.manual_seed(0)
    layer, events = Recurrence(8), torch.randn(1, 6, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(events).output[0, 3].sum(), events)
    assert gradient[0, :4].abs().sum(-1).all()
    assert not gradient[0, 4:].any()


def test_recurrence_refuses_padding_before_events():
    with pytest.raises(ValueError, match="before padding"):
        Recurrence(8)(torch.randn(1, 3, 8), torch.tensor([[False, True, True]]))
