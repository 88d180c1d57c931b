"""The closed forms of the error are what repeated draws show, and what the papers state."""

import math

import numpy as np
import pytest
import torch

from lib.attention.random_features import KERNELS, PROJECTIONS, draw_projection
from study.kernel.closed_forms import error_parts, relative_mean_square

DRAWS = 10_000
HEAD_DIM = 8
SUM_SQUARE, DIFFERENCE_SQUARE = 1.2, 0.9
COMBINATIONS = [(kernel, projection) for kernel in KERNELS for projection in PROJECTIONS]


def relative_estimates(kernel, rows):
    """Estimate over truth for one pair: the formulas of the papers, with x+y and x-y on the first two axes."""
    together, apart = rows[..., 0] * math.sqrt(SUM_SQUARE), rows[..., 1] * math.sqrt(DIFFERENCE_SQUARE)
    if kernel == "trigonometric":
        return apart.cos().mean(1) * math.exp(DIFFERENCE_SQUARE / 2)
    if kernel == "hyperbolic":
        return together.cosh().mean(1) * math.exp(-SUM_SQUARE / 2)
    return (together - SUM_SQUARE / 2).exp().mean(1)


@pytest.mark.parametrize("features", [1, 12])
@pytest.mark.parametrize(("kernel", "projection"), COMBINATIONS)
def test_closed_forms_equal_repeated_draws(kernel, projection, features):
    generator = torch.Generator().manual_seed(features)
    full = 8 * math.ceil(features / 8)
    rows = draw_projection(projection, DRAWS * full, HEAD_DIM, generator).double().view(DRAWS, full, HEAD_DIM)
    squares = (relative_estimates(kernel, rows[:, :features]) - 1).square()
    sizes = np.array([SUM_SQUARE]), np.array([DIFFERENCE_SQUARE])
    expected = relative_mean_square(kernel, projection, HEAD_DIM, features, *sizes)[0]
    assert abs(squares.mean() - expected) < 4 * squares.std() / math.sqrt(DRAWS)


@pytest.mark.parametrize(("kernel", "projection"), COMBINATIONS)
def test_only_fixed_norms_are_biased_and_large_norms_stay_finite(kernel, projection):
    v = np.array([0.5, 2.0] if kernel == "trigonometric" else [0.5, 2.0, 1e4])
    variance, ratio = error_parts(kernel, projection, HEAD_DIM, v, v)
    assert np.isfinite(variance).all()
    assert (ratio <= 1).all() or kernel == "trigonometric"  # Theorem 1 of the paper
    assert (abs(ratio - 1) > 1e-3).all() if projection == "fixed_norm" else (ratio == 1).all()
