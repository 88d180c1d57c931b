"""The running state is the summary of the past, and every query reads the past alone."""

import pytest
import torch

from lib.attention import causal_attention as causal
from lib.attention.linear_attention import FeatureMap, read, summary

DOUBLE = torch.finfo(torch.float64).eps


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exponential_map(rows=2, columns=5, head_dim=4):
    levels, norm_share = torch.zeros(rows, columns), torch.full((rows,), -0.5)
    return FeatureMap("exponential", normal(columns, head_dim, seed=6), levels.double(), norm_share.double())


def sequence(length=11, scale=1.0):
    return scale * normal(2, length, 4), scale * normal(2, length, 4, seed=1), normal(2, length, 3, seed=2)


@pytest.fixture(params=[1.0, 400.0], ids=["ordinary", "long"])
def scale(request, monkeypatch):
    """At the second scale sums underflow and chunks are halved."""
    monkeypatch.setattr(causal, "CHUNK", 4)
    monkeypatch.setattr(causal, "SEGMENT", 8)
    return request.param


def test_the_final_state_is_the_summary_of_all_keys(scale):
    queries, keys, values = sequence(scale=scale)
    hidden = torch.zeros(2, 11, dtype=torch.bool)
    hidden[1, 3:6] = True
    feature_map = exponential_map()
    _, state = causal.causal_attention(queries, keys, values, hidden, causal.empty_state(feature_map, 3), feature_map)
    whole = summary(keys, values, hidden, feature_map)
    # Logits of size scale², each rounded, times the tens of terms in a sum.
    tolerance = {"rtol": 1000 * DOUBLE * scale**2, "atol": 1000 * DOUBLE * scale**2}
    torch.testing.assert_close(state.level, whole.level, **tolerance)
    torch.testing.assert_close(state.context, whole.context, **tolerance)
    torch.testing.assert_close(state.normaliser, whole.normaliser, **tolerance)


def test_every_query_reads_the_summary_of_its_past(scale):
    queries, keys, values = sequence(scale=scale)
    hidden, feature_map = torch.zeros(2, 11, dtype=torch.bool), exponential_map()
    output, _ = causal.causal_attention(queries, keys, values, hidden, causal.empty_state(feature_map, 3), feature_map)
    for last in range(11):
        past = slice(last + 1)
        state = summary(keys[:, past], values[:, past], hidden[:, past], feature_map)
        expected = read(queries[:, last : last + 1], state, feature_map)
        tolerance = 1000 * DOUBLE * scale**2
        torch.testing.assert_close(output[:, last : last + 1], expected, rtol=tolerance, atol=tolerance)


def test_chunks_are_halved_only_where_sums_would_underflow(scale):
    queries, keys, values = sequence(4, scale)
    feature_map = exponential_map()
    level = causal.key_levels(keys, torch.zeros(2, 4, dtype=torch.bool), feature_map)
    start = causal.empty_state(feature_map, 3)
    chunks, _ = causal._chunk_forward_safely(queries, keys, values, level, start, feature_map)
    assert (len(chunks) == 1) == (scale == 1.0)
    assert sum(chunk.keys.shape[1] for chunk in chunks) == 4


def test_weights_stop_at_the_given_position():
    queries, keys, _ = sequence(6)
    feature_map = exponential_map()
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, 0] = True
    level, until = torch.zeros(2, 5, dtype=torch.float64), torch.tensor([0, 2, 5])
    weights = causal.weights_until(queries[:, :3], keys, hidden, level, until, feature_map)
    assert (weights > 0).sum(-1).tolist() == [[0, 2, 5], [1, 3, 6]]
    sums = torch.tensor([[0.0, 1, 1], [1, 1, 1]]).double()
    torch.testing.assert_close(weights.sum(-1), sums, rtol=0, atol=10 * DOUBLE)
