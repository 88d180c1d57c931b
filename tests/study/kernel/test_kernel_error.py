"""The experiments measure what they say: estimates by the library's maps, errors against the closed forms."""

import math

import numpy as np
import pytest
import torch

from lib.attention.random_features import draw_projection, kernel_estimate, positive_features
from study.kernel import kernel_error
from study.kernel.kernel_error import (
    attention_times,
    block_estimates,
    dot_product_spread,
    expected_ratio,
    fixed_norm_ratio,
    orthogonal_gain,
    output_errors,
    pair_at,
    pair_errors,
    ratio_map,
    relative_errors_table,
    standard_errors,
    sup_errors,
)

DOUBLE = torch.finfo(torch.float64).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("angle", [0.1, 1.5, 3.0])
def test_pairs_have_the_length_and_angle_asked_for(angle):
    query, key = pair_at(1.3, angle, 9)
    x, y = query * 9**-0.25, key * 9**-0.25
    torch.testing.assert_close(torch.stack([x.norm(), y.norm()]), torch.full((2,), 1.3).double())
    assert (x @ y).item() == pytest.approx(1.69 * math.cos(angle))
    assert ((x + y) / (x + y).norm()).tolist() == pytest.approx([1 / 3] * 9)


def test_blocks_are_estimates_by_their_own_rows():
    query, key = pair_at(1.0, 1.0, 4)
    projection = draw_projection("orthogonal", 12, 4, seeded()).double()
    blocks = block_estimates("positive", query, key, projection, 4)
    for block, rows in zip(blocks, projection.split(4), strict=True):
        pair = (positive_features(vector[None], rows) for vector in (query, key))
        torch.testing.assert_close(block, kernel_estimate(*pair)[0, 0], rtol=1000 * DOUBLE, atol=0)


def test_measured_errors_lie_on_the_closed_forms():
    names = ["trigonometric orthogonal", "positive gaussian", "hyperbolic fixed_norm", "favor++ simplex"]
    frame = pair_errors(names, [(0.6, 1.0), (0.6, 2.0)], 8, 5000, seeded())
    assert standard_errors(frame, "mean").abs().max() < 4
    assert standard_errors(frame, "square").abs().max() < 4


def test_the_dot_product_has_variance_d():
    frame = dot_product_spread([4, 64], 5000, 64, seeded())
    assert ((frame["variance"] - frame["x"]).abs() < 4 * frame["standard_error"]).all()
    assert frame["share_unscaled"].iloc[1] < frame["share_scaled"].iloc[1]


def test_only_fixed_norms_expect_less_than_the_kernel():
    assert expected_ratio("positive", "orthogonal", 8, 2.0, 1.0) == 1
    assert expected_ratio("hyperbolic", "fixed_norm", 8, 2.0, 1.0) == pytest.approx(
        fixed_norm_ratio(np.array([2.0]), 8)[0]
    )
    assert expected_ratio("trigonometric", "fixed_norm", 8, 2.0, 1.0) < 1


def test_ratio_of_the_paper_at_a_right_angle():
    """v = δ = 2: e² (1-e^-2)² / 2 over e² (1-e^-2); twice as much at equal columns."""
    one, right = np.array([1.0]), np.array([math.pi / 2])
    expected = math.log10((1 - math.exp(-2)) / 2)
    assert ratio_map(one, right, columns=False)[0, 0] == pytest.approx(expected)
    assert ratio_map(one, right, columns=True)[0, 0] == pytest.approx(expected + math.log10(2))


def test_orthogonal_directions_never_leave_more_than_the_bound():
    frame = orthogonal_gain([8], np.array([0.5, 2.0, 16.0])).pivot_table(index="x", columns="model", values="value")
    assert (frame["positive"] <= frame["theorem_2"]).all()
    assert frame["positive"].iloc[2] > 0.99


def test_the_table_counts_columns():
    """Trigonometric and hyperbolic features take two columns a row: at δ = v their errors agree with half the rows."""
    table = relative_errors_table(["positive gaussian", "hyperbolic gaussian"], [1.0], 8, 64).set_index("model")[
        "value"
    ]
    gain = (table["hyperbolic gaussian"] / table["positive gaussian"]) ** 2
    assert gain == pytest.approx(1 - math.exp(-1))


def test_outputs_and_largest_errors_fall_with_features():
    names = ["trigonometric orthogonal"]
    output = output_errors(names, [0.1], [8, 128], 4, 64, 8, seeded()).groupby("x")["value"].median()
    largest = sup_errors(names, [16, 64], [8, 128], 3, 8, seeded())
    by_size = largest[largest["axis"] == "features"].groupby("x")["value"].median()
    assert output[128] < output[8]
    assert by_size[128] < by_size[8]
    assert len(largest) == 4 * 3


def test_times_are_of_passes_at_equal_columns_the_first_of_which_does_not_count(monkeypatch):
    passes, seconds = [], iter(number**2 for number in range(12))
    monkeypatch.setattr(kernel_error.time, "process_time", lambda: next(seconds))
    monkeypatch.setattr(kernel_error, "favor_attention", lambda *inputs: passes.append((inputs[4], len(inputs[3]))))
    times = attention_times(["positive orthogonal", "hyperbolic fixed_norm"], 16, 32, 8, 2, seeded())
    assert passes == [("positive", 16)] * 3 + [("hyperbolic", 8)] * 3
    assert times.set_index(["model", "seed"])["value"].to_dict() == {
        ("positive orthogonal", 0): 5000,
        ("positive orthogonal", 1): 9000,
        ("hyperbolic fixed_norm", 0): 17000,
        ("hyperbolic fixed_norm", 1): 21000,
    }
