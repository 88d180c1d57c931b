"""Tiles cover every event once; a summary of keys is the sums it stands for, and the running state that of the past."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.attention import tiled
from lib.attention.tiled import LOG2_E, FeatureMap, read, summary, tiles

DOUBLE = torch.finfo(torch.float64).eps


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exponential_map(rows=3, columns=5, head_dim=4):
    levels, norm_share = normal(rows, columns, seed=7), torch.full((rows,), -0.5, dtype=torch.float64)
    return FeatureMap("exponential", normal(columns, head_dim, seed=6), levels, norm_share)


@given(st.integers(1, 40), st.integers(1, 2000), st.sampled_from([1, 64, 300]), st.integers(1, 600))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_tiles_cover_every_event_once(rows, length, columns, tokens):
    counts = torch.zeros(rows, length, dtype=torch.int64)
    for row, token in tiles(rows, length, columns, tokens, torch.device("cpu")):
        counts[row, token] += 1
        assert token.stop - token.start <= tokens
    assert (counts == 1).all()


def test_a_summary_holds_the_sums_over_keys():
    """Context · 2^level is the sum of feature · value, normaliser · 2^level that of features, hidden keys apart."""
    keys, values, feature_map = normal(3, 9, 4), normal(3, 9, 2, seed=1), exponential_map()
    hidden = torch.zeros(3, 9, dtype=torch.bool)
    hidden[0, 2:5] = True
    logits = keys @ feature_map.directions.T - keys.square().sum(-1, keepdim=True) / 2
    features = (logits + feature_map.column_level[:, None] / LOG2_E).exp() * ~hidden[..., None]
    state = summary(keys, values, hidden, feature_map)
    scale = state.level.exp2()
    rounding = {"rtol": 1000 * DOUBLE, "atol": 1000 * DOUBLE}
    torch.testing.assert_close(state.normaliser * scale, features.sum(1), **rounding)
    torch.testing.assert_close(state.context * scale[..., None], features.transpose(1, 2) @ values, **rounding)


def test_an_empty_summary_reads_zero():
    keys, feature_map = normal(3, 9, 4), exponential_map()
    state = summary(keys, keys, torch.ones(3, 9, dtype=torch.bool), feature_map)
    assert (state.normaliser == 0).all()
    assert (read(keys, state, feature_map) == 0).all()


def test_one_column_reads_the_same_mean_everywhere():
    """By hand: with a direction of zero and no share of the norm every key has weight one."""
    feature_map = FeatureMap("exponential", torch.zeros(1, 2), torch.zeros(1, 1), torch.zeros(1))
    values = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1)
    hidden = torch.tensor([[False, True, False]])
    output = read(torch.ones(1, 2, 2), summary(torch.ones(1, 3, 2), values, hidden, feature_map), feature_map)
    torch.testing.assert_close(output, torch.full((1, 2, 1), 3.5))


def sequence(length=11, scale=1.0):
    return scale * normal(2, length, 4), scale * normal(2, length, 4, seed=1), normal(2, length, 3, seed=2)


@pytest.fixture(params=[1.0, 400.0], ids=["ordinary", "long"])
def scale(request, monkeypatch):
    """At the second scale sums underflow and chunks are halved."""
    monkeypatch.setattr(tiled, "CHUNK", 4)
    monkeypatch.setattr(tiled, "SEGMENT", 8)
    return request.param


def test_the_final_state_is_the_summary_of_all_keys(scale):
    queries, keys, values = sequence(scale=scale)
    hidden = torch.zeros(2, 11, dtype=torch.bool)
    hidden[1, 3:6] = True
    feature_map = exponential_map(2)
    _, state = tiled.causal_attention(queries, keys, values, hidden, tiled.empty_state(feature_map, 3), feature_map)
    whole = summary(keys, values, hidden, feature_map)
    # Logits of size scale², each rounded, times the tens of terms in a sum.
    tolerance = {"rtol": 1000 * DOUBLE * scale**2, "atol": 1000 * DOUBLE * scale**2}
    torch.testing.assert_close(state.level, whole.level, **tolerance)
    torch.testing.assert_close(state.context, whole.context, **tolerance)
    torch.testing.assert_close(state.normaliser, whole.normaliser, **tolerance)


def test_every_query_reads_the_summary_of_its_past(scale):
    queries, keys, values = sequence(scale=scale)
    hidden, feature_map = torch.zeros(2, 11, dtype=torch.bool), exponential_map(2)
    output, _ = tiled.causal_attention(queries, keys, values, hidden, tiled.empty_state(feature_map, 3), feature_map)
    for last in range(11):
        past = slice(last + 1)
        state = summary(keys[:, past], values[:, past], hidden[:, past], feature_map)
        expected = read(queries[:, last : last + 1], state, feature_map)
        tolerance = 1000 * DOUBLE * scale**2
        torch.testing.assert_close(output[:, last : last + 1], expected, rtol=tolerance, atol=tolerance)


def test_chunks_are_halved_only_where_sums_would_underflow(scale):
    queries, keys, values = sequence(4, scale)
    feature_map = exponential_map(2)
    level = tiled.key_levels(keys, torch.zeros(2, 4, dtype=torch.bool), feature_map)
    start = tiled.empty_state(feature_map, 3)
    chunks, _ = tiled._chunk_forward_safely(queries, keys, values, level, start, feature_map)
    assert (len(chunks) == 1) == (scale == 1.0)
    assert sum(chunk.keys.shape[1] for chunk in chunks) == 4
