"""A final state is the sums it stands for, and every query reads the sums of its past."""

import pytest
import torch

from lib.attention import tiled
from lib.attention.tiled import FeatureMap, State

DOUBLE = torch.finfo(torch.float64).eps
FEATURES = FeatureMap(True, torch.randn(5, 4, generator=torch.Generator().manual_seed(6)).double(), -0.5)


def sequence(length=11, scale=1.0):
    normal = [torch.randn(2, length, 4, generator=torch.Generator().manual_seed(n)).double() for n in range(3)]
    hidden = torch.zeros(2, length, dtype=torch.bool)
    hidden[1, 3:6] = True
    return scale * normal[0], scale * normal[1], normal[2][..., :3], hidden


def written_out(keys, values, hidden):
    """The logarithms of normaliser and the weighted mean of values of every column."""
    logits = keys @ FEATURES.directions.T - keys.square().sum(-1, keepdim=True) / 2
    logits = logits.masked_fill(hidden[..., None], -torch.inf)
    return logits.logsumexp(1), logits.softmax(1).mT @ values


def assert_close(found, expected, scale):
    # Logits of size scale², each rounded, times the tens of terms in a sum.
    torch.testing.assert_close(found, expected, rtol=1000 * DOUBLE * scale**2, atol=1000 * DOUBLE * scale**2)


@pytest.fixture(params=[1.0, 400.0], ids=["ordinary", "long"])
def scale(request, monkeypatch):
    """At the second scale sums would overflow and tiles are halved."""
    monkeypatch.setattr(tiled, "TILE", 8)
    monkeypatch.setattr(tiled, "chunk_length", lambda length, value_dim: min(4, length))
    return request.param


def test_the_final_state_is_the_sums_over_all_keys(scale):
    *inputs, hidden = sequence(scale=scale)
    _, state = tiled.causal_attention(*inputs, hidden, tiled.empty_state(2, 3, FEATURES), FEATURES)
    logarithm, mean = written_out(*inputs[1:], hidden)
    assert_close(state.level / tiled.LOG2_E, logarithm, scale)
    assert_close(state.sums, torch.cat([mean.mT, torch.ones(2, 1, 5).double()], 1), scale)


def test_every_query_reads_the_sums_of_its_past(scale):
    queries, keys, values, hidden = sequence(scale=scale)
    start = tiled.empty_state(2, 3, FEATURES)
    output, _ = tiled.causal_attention(queries, keys, values, hidden, start, FEATURES)
    for last in range(11):
        past = slice(last + 1)
        expected, level = tiled.attention(
            queries[:, last : last + 1], keys[:, past], values[:, past], hidden[:, past], FEATURES
        )
        assert level.shape == (2, 5)
        assert_close(output[:, last : last + 1], expected, scale)


def test_tiles_are_halved_only_where_sums_would_overflow(scale):
    *inputs, hidden = sequence(8, scale)
    inputs.append(tiled.levels_of_keys(inputs[1], hidden, FEATURES))
    slices = [token for token, _ in tiled.walk(inputs, tiled.empty_state(2, 3, FEATURES), FEATURES)]
    assert (len(slices) == 1) == (scale == 1.0)
    assert [event for token in slices for event in range(token.start, token.stop)] == list(range(8))


@pytest.mark.parametrize("rise", [0, 4, 9])
def test_sums_that_grow_within_a_tile_lose_nothing(rise):
    """In single precision the level of the first key serves a whole tile, however far later keys rise above it."""
    queries, keys, values, hidden = (tensor[:1] for tensor in sequence(300))
    keys = torch.linspace(rise, 0.1, 300)[None, :, None] * keys
    start = tiled.empty_state(1, 3, FEATURES)
    exact, _ = tiled.causal_attention(queries, keys, values, hidden, start, FEATURES)
    single = FEATURES._replace(directions=FEATURES.directions.float())
    start = State(*(part.float() for part in start))
    found, _ = tiled.causal_attention(queries.float(), keys.float(), values.float(), hidden, start, single)
    size = keys.norm(dim=-1).max() * FEATURES.directions.norm(dim=-1).max() + keys.square().sum(-1).max() / 2
    assert (found - exact).abs().max() <= 8 * torch.finfo(torch.float32).eps * max(1, size) * values.abs().max()
