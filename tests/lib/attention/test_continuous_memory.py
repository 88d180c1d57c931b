import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from lib.attention.continuous_memory import (
    basis_values,
    cell_middles,
    density_masses,
    expected_basis,
    gaussian_basis,
    gaussian_divergence,
    gaussian_read,
    quantile_times,
    ridge_coefficients,
    ridge_update,
)

DOUBLE = torch.finfo(torch.float64).eps


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def normals(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_basis_lists_every_width_of_a_centre_before_the_next_centre():
    basis = gaussian_basis(6, (0.5, 2.0))
    assert basis.centres.tolist() == [0, 0.5, 1]
    assert basis.deviations == (0.25, 1.0)
    values = basis_values(doubles(0.5), basis)[0]
    narrow, wide = (1 / (s * math.sqrt(2 * math.pi)) for s in (0.25, 1.0))
    ends = [narrow * math.exp(-2), wide * math.exp(-0.125)]
    assert torch.allclose(values, doubles(*ends, narrow, wide, *ends), rtol=8 * DOUBLE, atol=0)


@settings(max_examples=20, deadline=None)
@given(mean=st.floats(0, 1), deviation=st.floats(1e-2, 1), widths=st.sampled_from([(1.0,), (0.5, 3.0)]))
def test_expected_basis_is_the_integral(mean, deviation, widths):
    basis = gaussian_basis(8, widths)
    expected = expected_basis(doubles(mean), doubles(deviation**2), basis)[0]
    # Sums at equal steps of Gaussian integrands are exact to rounding; what is cut off has 1e-30 of the mass.
    away = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    weights = torch.exp(-0.5 * away.square()) * (away[1] - away[0]) / math.sqrt(2 * math.pi)
    integral = weights @ basis_values(mean + deviation * away, basis)
    assert torch.allclose(expected, integral, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("at_once", [1, 2**15])
@pytest.mark.parametrize("widths", [(1.0,), (0.75, 4.0)])
def test_read_and_its_gradients_are_those_of_expected_basis_times_values(widths, at_once, monkeypatch):
    monkeypatch.setattr("lib.attention.continuous_memory.GAUSSIANS_AT_ONCE", at_once)
    basis, results = gaussian_basis(12, widths), []
    mean, variance, values = normals(1, 2, 3, 7).sigmoid(), normals(2, 2, 3, 7).square() + 0.01, normals(0, 2, 3, 12, 5)
    inputs = [each.requires_grad_() for each in (mean, variance, values)]
    for read in (gaussian_read(mean, variance, basis, values), expected_basis(mean, variance, basis) @ values):
        results.append((read, *torch.autograd.grad(read.square().sum(), inputs)))
    for found, literal in zip(*results, strict=True):
        # Gradients divide twice by variances of at least 0.01 what is left of sums of a dozen terms.
        assert (found - literal).abs().max() <= 1e4 * 12 * DOUBLE * literal.abs().max()


def test_function_in_the_span_is_recovered():
    basis, ridge = gaussian_basis(16), 1e-9
    design = basis_values(cell_middles(64), basis)
    truth = normals(10, 16, 2)
    found = ridge_coefficients(design[None], ridge)[0] @ (design @ truth)
    # Shrinkage is exactly λ (FᵀF + λI)⁻¹ B; rounding is amplified by the condition number of the Gram matrix.
    eigenvalues = torch.linalg.eigvalsh(design.mT @ design)
    bound = ridge / eigenvalues[0] + 64 * DOUBLE * eigenvalues[-1] / eigenvalues[0]
    assert (found - truth).norm() <= bound * truth.norm()


def test_constant_stays_constant():
    basis, whole, ones = gaussian_basis(16), torch.tensor([48]), torch.ones(48, 1, dtype=torch.float64)
    readback = basis_values(cell_middles(64), basis)
    coefficients = ridge_update(basis, doubles(0), whole, 64, 48, 1e-6).new[0] @ ones
    update = ridge_update(basis, doubles(0.75), whole, 64, 48, 1e-6)
    for _ in range(6):
        # One regression misses up to two percent of a constant, near the ends.
        assert (readback @ coefficients - 1).abs().max() <= 0.05
        coefficients = update.past[0] @ (readback @ coefficients) + update.new[0] @ ones


def test_one_update_by_hand():
    """Two functions, one sample of the past, one new event: a system of two equations."""
    basis = gaussian_basis(2)
    update = ridge_update(basis, doubles(0.5), torch.tensor([1]), 1, 1, 1.0)
    # The past is placed at 1/4 and the event at 3/4; the centres 0 and 1 have deviation 1.
    near, far = (math.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) for x in (0.25, 0.75))
    diagonal, other = near**2 + far**2 + 1, 2 * near * far
    determinant = diagonal**2 - other**2
    first = (diagonal * near - other * far) / determinant
    second = (diagonal * far - other * near) / determinant
    assert torch.allclose(update.past[0, :, 0], doubles(first, second), rtol=32 * DOUBLE, atol=0)
    assert torch.allclose(update.new[0, :, 0], doubles(second, first), rtol=32 * DOUBLE, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.0, 0.5, 0.9])), min_size=1, max_size=3),
    right_ends=st.booleans(),
    zeros_outside=st.booleans(),
)
def test_update_is_the_regression_on_each_rows_own_events(rows, right_ends, zeros_outside):
    """Points and zeros are also those of the authors' code."""
    basis, (counts, shares) = gaussian_basis(6), zip(*rows, strict=True)
    update = ridge_update(basis, doubles(*shares), torch.tensor(counts), 9, 12, 0.5, right_ends, zeros_outside)
    for row, (count, share) in enumerate(rows):
        assert not update.new[row, :, count:].any()
        samples = 9 if share else 0
        if not (count and samples):
            assert not update.past[row].any()
        if not count:
            continue
        ends = 0.5 if right_ends and share else 0.0
        old, new = (cell_middles(number) + ends / max(number, 1) for number in (samples, count))
        margin, points = 1 / (2 * count + samples), 2 * (count + samples)
        # Written as in the code: without a past a place may lie at an end, where rounding decides.
        outside = margin - 0.5 + torch.arange(points).double() * (2 - 2 * margin) / (points - 1)
        outside = outside[(outside < 0) | (outside > 1)] if zeros_outside else outside[:0]
        design = basis_values(torch.cat([share * old, share + (1 - share) * new, outside]), basis)
        gram = design.mT @ design + 0.5 * torch.eye(6, dtype=torch.float64)
        literal = torch.linalg.solve(gram, design.mT)
        bound = 1e3 * DOUBLE * torch.linalg.cond(gram)
        assert (update.new[row, :, :count] - literal[:, samples : samples + count]).abs().max() <= bound
        if samples:
            assert (update.past[row] - literal[:, :samples]).abs().max() <= bound


def test_divergence_equals_its_integral():
    deviation, prior = 0.3, 0.1
    value, error = quad(
        lambda t: norm.pdf(t, 0, deviation) * (norm.logpdf(t, 0, deviation) - norm.logpdf(t, 0, prior)), -4, 4
    )
    assert abs(gaussian_divergence(doubles(deviation**2), prior).item() - value) <= error + 1e-12
    assert gaussian_divergence(doubles(0.01), 0.1).abs().item() <= 4 * DOUBLE


def test_masses_are_differences_of_normal_distributions_over_real_queries():
    mean, variance = normals(11, 3, 3, 5).sigmoid(), normals(12, 3, 3, 5).square() * 0.1 + 1e-3
    real = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    masses = density_masses(mean, variance, real, 8)
    edges = np.linspace(0, 1, 9)
    for row, count in enumerate((5, 2)):
        means, deviations = (each[row, :, :count, None].numpy() for each in (mean, variance.sqrt()))
        literal = np.diff(norm.cdf(edges, means, deviations).sum((0, 1)))
        assert np.allclose(masses[row], literal / literal.sum(), rtol=0, atol=200 * DOUBLE)
    assert masses[2].tolist() == [1 / 8] * 8


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.integers(0, 9), min_size=2, max_size=12).filter(any), samples=st.integers(1, 9))
def test_quantile_times_are_where_the_cumulative_mass_is_the_quantile(weights, samples):
    masses, quantiles = doubles(*weights) / sum(weights), cell_middles(samples)
    times = quantile_times(masses[None], quantiles[None])[0]
    edges, reached = np.linspace(0, 1, len(weights) + 1), np.concatenate([[0], masses.cumsum(0)])
    assert np.allclose(np.interp(times, edges, reached), quantiles, rtol=0, atol=1e-9)
