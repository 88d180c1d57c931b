"""The experiments measure what they say: estimates by the library's maps, errors against the closed forms."""

import math

import pytest
import torch

from lib.attention.random_features import draw_projection, kernel_estimate, positive_features
from study.kernel import estimates


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("angle", [0.1, 1.5, 3.0])
def test_pairs_have_the_length_and_angle_asked_for(angle):
    query, key = estimates.pair_at(1.3, angle, 9)
    x, y = query * 9**-0.25, key * 9**-0.25
    torch.testing.assert_close(torch.stack([x.norm(), y.norm()]), torch.full((2,), 1.3).double())
    assert (x @ y).item() == pytest.approx(1.69 * math.cos(angle))
    assert ((x + y) / (x + y).norm()).tolist() == pytest.approx([1 / 3] * 9)


def test_blocks_are_estimates_by_their_own_rows():
    query, key = estimates.pair_at(1.0, 1.0, 4)
    projection = draw_projection("orthogonal", 12, 4, seeded()).double()
    blocks = estimates.block_estimates("positive", query, key, projection)
    for block, rows in zip(blocks, projection.split(4), strict=True):
        pair = (positive_features(vector[None], rows) for vector in (query, key))
        torch.testing.assert_close(
            block, kernel_estimate(*pair)[0, 0], rtol=1000 * torch.finfo(block.dtype).eps, atol=0
        )


def test_measured_errors_lie_on_the_closed_forms():
    names = ["trigonometric orthogonal", "positive gaussian", "hyperbolic fixed_norm", "hyperbolic orthogonal"]
    frame = estimates.pair_errors(names, [(0.6, 1.0), (0.6, 2.0)], 5000, seeded())
    assert estimates.standard_errors(frame, "mean").abs().max() < 4
    assert estimates.standard_errors(frame, "square").abs().max() < 4


def test_outputs_and_largest_errors_fall_with_features():
    names = ["trigonometric orthogonal"]
    output = estimates.output_errors(names, [0.1], [16, 256], 4, 64, seeded()).groupby("x")["value"].median()
    largest = estimates.largest_errors(names, [16, 64], [16, 256], 3, seeded())
    by_size = largest[largest["axis"] == "features"].groupby("x")["value"].median()
    assert output[256] < output[16]
    assert by_size[256] < by_size[16]
    assert len(largest) == 4 * 3


def test_equal_columns_are_half_as_many_hyperbolic_rows():
    one, other = (
        estimates.output_errors(["hyperbolic orthogonal"], [0.1], [size], 2, 32, seeded(), columns)["value"]
        for size, columns in ((8, False), (16, True))
    )
    assert one.tolist() == other.tolist()
