"""The report on an approximation measures what it says, and warns where features do not help."""

import math

import pytest
import torch

from lib.attention.performer import favor_weights
from lib.attention.random_features import KERNELS, draw_projection
from lib.attention.softmax import attention_weights
from study.kernel.approximation import approximation_report


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def attention_inputs(batch=2, heads=3, length=23, head_dim=4, scale=1.0):
    generator = seeded()
    return [torch.randn(batch, heads, length, head_dim, generator=generator).double() * scale for _ in range(2)]


def rows(features=16, head_dim=4, name="orthogonal"):
    return draw_projection(name, features, head_dim, seeded(9)).double()


def test_many_features_approach_softmax():
    """Within four standard deviations of the closed form, summed over keys, at norms where it is small."""
    inputs = attention_inputs(1, 1, 16, 4, scale=0.5)
    truth = attention_weights(*inputs)
    for kernel in KERNELS:
        weights = favor_weights(*inputs, rows(4096), torch.arange(16), kernel)
        report = approximation_report(*inputs, rows(4096), kernel)
        assert (weights - truth).norm() / truth.norm() == pytest.approx(report.relative_error, rel=1e-9)
        assert report.relative_error < 4 * report.predicted_error


def test_report_counts_features_by_the_square_of_the_target():
    queries, keys = attention_inputs(length=300, head_dim=8, scale=0.3)
    report = approximation_report(queries, keys, rows(64, 8), "positive")
    assert report.warning is None
    assert report.features_needed[0.05] == pytest.approx(4 * report.features_needed[0.1])
    assert report.predicted_error == pytest.approx(0.1 * math.sqrt(report.features_needed[0.1] / 64))
    fixed = approximation_report(queries, keys, rows(64, 8, name="fixed_norm"), "hyperbolic")
    assert fixed.relative_error < report.relative_error


def test_report_warns_where_features_do_not_help():
    queries, keys = attention_inputs(length=300, head_dim=8, scale=2.0)
    assert "softmax itself costs less" in approximation_report(queries, keys, rows(64, 8)).warning
    fixed = approximation_report(queries, keys, rows(64, 8, name="fixed_norm"), "hyperbolic")
    assert "out of reach" in fixed.warning
    assert math.isinf(fixed.features_needed[0.1])


def test_report_ignores_padding():
    queries, keys = attention_inputs(length=32, scale=0.5)  # with as much padding, all of them are examined
    mask = torch.ones(2, 32, dtype=torch.bool)
    padded = [torch.cat([tensor, torch.full_like(tensor, 9.0)], 2) for tensor in (queries, keys)]
    longer = torch.cat([mask, torch.zeros_like(mask)], 1)
    for kernel in KERNELS:
        one = approximation_report(queries, keys, rows(), kernel)
        other = approximation_report(*padded, rows(), kernel, longer)
        assert other.relative_error == pytest.approx(one.relative_error, rel=1e-9)
        # The pairs are counted in bins, whose width depends on the longest vectors.
        assert other.predicted_error == pytest.approx(one.predicted_error, rel=0.05)
