import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from study.memory import retention
from study.memory.retention import MemoryConfig

SMALL = MemoryConfig(basis=8, segment=16, samples=32, marked=1)
SINGLE, DOUBLE = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps


@pytest.mark.parametrize("sampling", ["uniform", "even", "bins"])
def test_maps_are_those_of_the_attention_layer(sampling):
    # Four updates of sums of 48 terms in single precision, with matrices rounded to it.
    assert retention.layer_maps_error(replace(SMALL, sampling=sampling), 4, 0) <= 4 * 48 * SINGLE


def test_operations_by_hand():
    # Two segments of two events, one dimension, one function: 2 * 16; 2 * 4 * 2 + 2 * 4 + 2 * (1 + 1).
    assert retention.operations(4, 1, 2, 1) == {"softmax": 32, "infinite_former": 28}


def test_places_of_segments():
    *_, uniform = retention.growing_memory(replace(SMALL, contraction=0.5), 3)
    assert uniform.edges.tolist() == [0, 0.25, 0.5, 1]
    *_, even = retention.growing_memory(replace(SMALL, sampling="even"), 4)
    assert torch.allclose(even.edges, torch.linspace(0, 1, 5, dtype=torch.float64), atol=4 * DOUBLE, rtol=0)
    *_, flat = retention.growing_memory(replace(SMALL, sampling="sticky", contraction=0.5), 3)
    assert torch.allclose(flat.edges, uniform.edges, atol=64 * DOUBLE, rtol=0)


def test_an_attended_segment_keeps_its_share_of_the_memory():
    """With a share φ its width w goes to τ (φ + (1 - φ) w), whose fixed point is τφ / (1 - τ (1 - φ))."""
    config = replace(SMALL, sampling="sticky", contraction=0.5, attended=0.5)
    *_, memory = retention.growing_memory(config, 40)
    width = memory.edges[2] - memory.edges[1]
    # The bins' attention is exact at their edges only; a segment's edge lies within a bin, of width 1/128.
    assert abs(width - 0.25 / 0.75) <= 2 / 128


def test_gain_and_error_by_hand():
    """Two bins hold two segments of one event each: both means are read exactly; three segments are blurred."""
    config = MemoryConfig(sampling="bins", basis=2, segment=1, marked=0)
    memories = list(retention.growing_memory(config, 3))
    assert retention.gain_and_error(memories[1], 0) == (1, 0)
    # Bins [2/3 a + 1/3 b, 1/3 b + 2/3 c]; the first third lies in the first bin.
    gain, error = retention.gain_and_error(memories[2], 0)
    assert gain == pytest.approx(2 / 3, rel=16 * DOUBLE)
    assert error == pytest.approx(math.sqrt(2) / 3, rel=16 * DOUBLE)


def test_powers_decay_as_the_spectrum_says():
    transition = retention.transition_matrix(SMALL)
    radius, rates = retention.spectral_radius(transition), retention.decay_rate(transition, 300)
    literal = torch.linalg.matrix_norm(torch.linalg.matrix_power(transition, 5), 2) ** 0.2
    assert rates[4] == pytest.approx(float(literal), rel=1e3 * DOUBLE)
    assert rates.min() >= radius * (1 - 1e3 * DOUBLE)
    # ‖Tᵃ‖ ≤ κ(V) ρᵃ for eigenvectors V.
    condition = np.linalg.cond(torch.linalg.eig(transition).eigenvectors.numpy())
    assert np.all(rates <= radius * condition ** (1 / np.arange(1, 301)) * (1 + 1e-9))


def test_half_life_and_horizon():
    rows = pd.DataFrame({"x": [0, 1, 2, 3], "metric": "gain", "value": [1.0, 0.4, 0.7, 0.2]})
    assert retention.half_life(rows) == pytest.approx(2.4)
    assert math.isnan(retention.half_life(rows[:3]))
    config = replace(SMALL, contraction=0.5, basis=17)
    assert retention.horizon(config) == pytest.approx(3)


def test_retention_rows_follow_the_marked_segment():
    rows = retention.retention_rows(replace(SMALL, marked=4), 3)
    assert set(rows["x"]) == {0, 1, 2}
    *_, memory = retention.growing_memory(replace(SMALL, marked=4), 7)
    gain = rows[(rows["x"] == 2) & (rows["metric"] == "gain")]["value"].item()
    assert gain == retention.gain_and_error(memory, 4)[0]
    drawn = replace(SMALL, sampling="sticky_random", marked=4)
    assert retention.retention_rows(drawn, 3, 0).equals(retention.retention_rows(drawn, 3, 0))
    assert not retention.retention_rows(drawn, 3, 0)["value"].equals(retention.retention_rows(drawn, 3, 1)["value"])


def test_variants_differ_in_their_sampling():
    named = retention.variants(SMALL, 0.25)
    assert {config.sampling for config in named.values()} == {"uniform", "even", "bins", "sticky", "sticky_random"}
    assert named["sticky, attended"].attended == 0.25
