import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from lib.attention.baselines import BinnedMemoryAttention, Bins
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from study.memory import retention

SMALL = MemorySettings(8, 16, "uniform", samples=32)
SINGLE, DOUBLE = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps


@pytest.mark.parametrize("sampling", ["uniform", "even", "published", "bins"])
def test_maps_are_those_of_the_attention_layer(sampling):
    layer, memory = BinnedMemoryAttention(4, 1, 8, 16), None
    if sampling != "bins":
        layer = InfiniteFormerAttention(4, 1, MemorySettings.named(sampling, basis=8, segment=16, samples=32))
    events = torch.randn(1, 4 * 16, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for part in events.split(16, dim=1):
            _, memory = layer.step(part, None, memory)
    *_, remembered = retention.growing_memory(layer.geometry, 4)
    expected = torch.einsum("sne,sed->nd", remembered.maps, events[0].double().unflatten(0, (4, -1)))
    difference = (memory.coefficients[0] - expected).abs().max() / expected.abs().max()
    # Four updates of sums of 48 terms in single precision, with matrices rounded to it.
    assert difference <= 4 * 48 * SINGLE


def test_places_of_segments():
    *_, uniform = retention.growing_memory(replace(SMALL, contraction=0.5), 3)
    assert uniform.edges.tolist() == [0, 0.25, 0.5, 1]
    *_, even = retention.growing_memory(replace(SMALL, sampling="even"), 4)
    assert torch.allclose(even.edges, torch.linspace(0, 1, 5, dtype=torch.float64), atol=4 * DOUBLE, rtol=0)
    *_, flat = retention.growing_memory(replace(SMALL, sampling="sticky", contraction=0.5), 3)
    assert torch.allclose(flat.edges, uniform.edges, atol=64 * DOUBLE, rtol=0)


def test_an_attended_segment_keeps_its_share_of_the_memory():
    """With a share φ its width w goes to τ (φ + (1 - φ) w), whose fixed point is τφ / (1 - τ (1 - φ))."""
    *_, memory = retention.growing_memory(replace(SMALL, sampling="sticky", contraction=0.5), 40, 0.5)
    width = memory.edges[retention.MARKED + 1] - memory.edges[retention.MARKED]
    # The bins' attention is exact at their edges only; a segment's edge lies within a bin, of width 1/128.
    assert abs(width - 0.25 / 0.75) <= 2 / 128


def test_gain_and_error_by_hand():
    """Two bins hold two segments of one event each: both means are read exactly; three segments are blurred."""
    memories = list(retention.growing_memory(Bins(basis=2, segment=1), 3))
    assert memories[1].gain_and_error(0) == (1, 0)
    # Bins [2/3 a + 1/3 b, 1/3 b + 2/3 c]; the first third lies in the first bin.
    gain, error = memories[2].gain_and_error(0)
    assert gain == pytest.approx(2 / 3, rel=16 * DOUBLE)
    assert error == pytest.approx(math.sqrt(2) / 3, rel=16 * DOUBLE)


def test_what_is_remembered_decays_by_the_spectral_radius():
    """A segment's map is T^a G; for high powers each step shrinks it by the largest eigenvalue's modulus."""
    sizes = [memory.maps[0].norm() for memory in retention.growing_memory(SMALL, 60)]
    assert sizes[-1] / sizes[-2] == pytest.approx(retention.spectral_radius(SMALL), rel=1e-3)


def test_half_life_and_horizon():
    rows = pd.DataFrame({"x": [0, 1, 2, 3], "metric": "gain", "value": [1.0, 0.4, 0.7, 0.2]})
    assert retention.half_life(rows) == pytest.approx(2.4)
    assert math.isnan(retention.half_life(rows[:3]))
    config = replace(SMALL, contraction=0.5, basis=17)
    assert retention.horizon(config) == pytest.approx(3)


def test_retention_rows_follow_the_marked_segment():
    rows = retention.retention_rows(SMALL, 3)
    *_, memory = retention.growing_memory(SMALL, retention.MARKED + 3)
    gains = rows[rows["metric"] == "gain"].set_index("x")["value"]
    assert gains.index.tolist() == [0, 1, 2]
    assert gains[2] == memory.gain_and_error(retention.MARKED)[0]
    drawn = replace(SMALL, sampling="sticky_random")
    first, again, other = (retention.retention_rows(drawn, 3, seed=seed)["value"] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)
