import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from lib.attention.continuous_memory import (
    LEAST_EXPONENT,
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
    expected = [narrow * math.exp(-2), wide * math.exp(-0.125), narrow, wide]
    expected += [narrow * math.exp(-2), wide * math.exp(-0.125)]
    assert torch.allclose(values, doubles(*expected), rtol=8 * DOUBLE, atol=0)


@pytest.mark.parametrize(
    ("basis", "widths", "message"), [(8, (), "positive"), (8, (-1.0,), "positive"), (9, (1.0, 2.0), "2 widths")]
)
def test_bases_that_cannot_be_are_refused(basis, widths, message):
    with pytest.raises(ValueError, match=message):
        gaussian_basis(basis, widths)


@settings(max_examples=10, deadline=None)
@given(mean=st.floats(0, 1), deviation=st.floats(1e-2, 1), widths=st.sampled_from([(1.0,), (0.5, 3.0)]))
def test_expected_basis_equals_quadrature(mean, deviation, widths):
    basis = gaussian_basis(8, widths)
    expected = expected_basis(doubles(mean), doubles(deviation**2), basis)[0]
    for index, closed in enumerate(expected.tolist()):
        centre = basis.centres[index // len(widths)].item()
        width = basis.deviations[index % len(widths)]
        total = math.hypot(deviation, width)
        # The product of two Gaussians peaks at a known place; the interval around it holds all but e^-72 of its mass.
        peak = (mean * width**2 + centre * deviation**2) / total**2
        reach = 12 * deviation * width / total
        value, error = quad(
            lambda t, centre=centre, width=width: norm.pdf(t, mean, deviation) * norm.pdf(t, centre, width),
            peak - reach,
            peak + reach,
            epsabs=0,
            epsrel=1e-10,
        )
        assert abs(closed - value) <= 10 * error + 1e-10 * value


@pytest.mark.parametrize("widths", [(1.0,), (0.75, 4.0)])
def test_read_is_the_product_of_expected_basis_and_values(widths):
    basis = gaussian_basis(12, widths)
    values = normals(0, 2, 3, 12, 5)
    mean, variance = normals(1, 2, 3, 7).sigmoid(), normals(2, 2, 3, 7).square() + 1e-4
    read = gaussian_read(mean, variance, basis, values)
    literal = expected_basis(mean, variance, basis) @ values
    # Twelve terms of the size of the largest, each with a few roundings and a tail cut at 2 ** LEAST_EXPONENT.
    scale = (expected_basis(mean, variance, basis) @ values.abs()).max()
    assert (read - literal).abs().max() <= scale * 12 * (16 * DOUBLE + 2**LEAST_EXPONENT)


@pytest.mark.parametrize("widths", [(1.0,), (0.75, 4.0)])
def test_gradient_of_the_read(widths):
    basis = gaussian_basis(6, widths)
    mean = normals(3, 2, 2, 3).sigmoid().requires_grad_()
    variance = (normals(4, 2, 2, 3).square() * 0.1 + 0.01).requires_grad_()
    values = normals(5, 2, 2, 6, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, v, x: gaussian_read(m, v, basis, x), (mean, variance, values))


def test_tiles_change_nothing(monkeypatch):
    basis = gaussian_basis(8)
    mean = normals(6, 3, 2, 5).sigmoid().requires_grad_()
    variance = (normals(7, 3, 2, 5).square() + 0.01).requires_grad_()
    values = normals(8, 3, 2, 8, 4).requires_grad_()

    def results():
        read = gaussian_read(mean, variance, basis, values)
        return [read, *torch.autograd.grad(read.square().sum(), (mean, variance, values))]

    whole = results()
    monkeypatch.setattr("lib.attention.continuous_memory.GAUSSIANS_AT_ONCE", 1)
    for one, other in zip(whole, results(), strict=True):
        assert torch.allclose(one, other, rtol=64 * DOUBLE, atol=64 * DOUBLE * one.abs().max().item())


@pytest.mark.parametrize("ridge", [1e-3, 0.5, 10.0])
def test_ridge_coefficients_solve_the_normal_equations(ridge):
    design = basis_values(cell_middles(40), gaussian_basis(16))[None]
    target = normals(9, 40, 3)
    coefficients = ridge_coefficients(design, ridge) @ target
    gram = design.mT @ design + ridge * torch.eye(16, dtype=torch.float64)
    # The residual of a backward-stable solution is a few roundings per term of the Gram matrix.
    bound = 40 * 16 * DOUBLE * gram.norm() * coefficients.norm()
    assert (gram @ coefficients - design.mT @ target).norm() <= bound


def test_ridge_must_be_positive():
    with pytest.raises(ValueError, match="ridge"):
        ridge_coefficients(torch.ones(1, 3, 2, dtype=torch.float64), 0.0)


def test_function_in_the_span_is_recovered():
    basis, ridge = gaussian_basis(16), 1e-9
    design = basis_values(cell_middles(64), basis)
    truth = normals(10, 16, 2)
    found = ridge_coefficients(design[None], ridge)[0] @ (design @ truth)
    # Shrinkage is exactly λ (FᵀF + λI)⁻¹ B; rounding is amplified by the condition number of the Gram matrix.
    gram = design.mT @ design
    eigenvalues = torch.linalg.eigvalsh(gram)
    bound = ridge / eigenvalues[0] + 64 * DOUBLE * eigenvalues[-1] / eigenvalues[0]
    assert (found - truth).norm() <= bound * truth.norm()


def test_constant_stays_constant():
    basis = gaussian_basis(16)
    whole = torch.tensor([48])
    ones = torch.ones(48, 1, dtype=torch.float64)
    coefficients = ridge_update(basis, doubles(0), whole, 64, 48, 1e-6).new[0] @ ones
    update = ridge_update(basis, doubles(0.75), whole, 64, 48, 1e-6)
    transition = update.past[0] @ basis_values(cell_middles(64), basis)
    readback = basis_values(cell_middles(64), basis)
    # What one regression misses of a constant, and by how much an update can enlarge an error it is given.
    first = (readback @ coefficients - 1).abs().max()
    missed = (readback @ (update.past[0].sum(1, keepdim=True) + update.new[0] @ ones) - 1).abs().max()
    growth = (readback @ update.past[0]).abs().sum(1).max()
    assert max(first, missed) < 0.02
    bound = first
    for _ in range(5):
        coefficients = transition @ coefficients + update.new[0] @ ones
        bound = missed + growth * bound
        assert (readback @ coefficients - 1).abs().max() <= min(bound, 0.05)


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


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 12), contraction=st.sampled_from([0.0, 0.5, 0.9]))
def test_update_of_a_part_of_a_segment_is_the_regression_on_its_events_alone(count, contraction):
    basis = gaussian_basis(6)
    update = ridge_update(basis, doubles(contraction), torch.tensor([count]), 9, 12, 0.5)
    old = contraction * cell_middles(9) if contraction else doubles()
    places = torch.cat([old, contraction + (1 - contraction) * cell_middles(count)])
    design = basis_values(places, basis)
    literal = torch.linalg.solve(design.mT @ design + 0.5 * torch.eye(6, dtype=torch.float64), design.mT)
    bound = 1e3 * DOUBLE * torch.linalg.cond(design.mT @ design + 0.5 * torch.eye(6, dtype=torch.float64))
    assert (update.past[0] - (literal[:, : len(old)] if contraction else 0)).abs().max() <= bound
    assert (update.new[0, :, :count] - literal[:, len(old) :]).abs().max() <= bound
    assert update.new[0, :, count:].abs().max() == 0 if count < 12 else True


def test_update_without_events_is_zero():
    update = ridge_update(gaussian_basis(4), doubles(0.75), torch.tensor([0]), 8, 5, 0.5)
    assert update.past.abs().max() == 0
    assert update.new.abs().max() == 0


def test_divergence_equals_its_integral():
    deviation, prior = 0.3, 0.1
    value, error = quad(
        lambda t: norm.pdf(t, 0, deviation) * (norm.logpdf(t, 0, deviation) - norm.logpdf(t, 0, prior)), -4, 4
    )
    assert abs(gaussian_divergence(doubles(deviation**2), prior).item() - value) <= error + 1e-12
    assert gaussian_divergence(doubles(0.01), 0.1).abs().item() <= 4 * DOUBLE


def test_masses_are_differences_of_normal_distributions_over_real_queries():
    mean, variance = normals(11, 2, 3, 5).sigmoid(), normals(12, 2, 3, 5).square() * 0.1 + 1e-3
    real = torch.tensor([[True] * 5, [True, True, False, False, False]])
    masses = density_masses(mean, variance, real, 8)
    edges = torch.linspace(0, 1, 9, dtype=torch.float64).numpy()
    for row in range(2):
        total = 0
        for head in range(3):
            for query in range(int(real[row].sum())):
                total = total + norm.cdf(edges, mean[row, head, query], variance[row, head, query].sqrt())
        literal = doubles(*(total[1:] - total[:-1]))
        assert torch.allclose(masses[row], literal / literal.sum(), rtol=0, atol=200 * DOUBLE)


def test_masses_without_queries_are_equal():
    mean = torch.full((1, 1, 2), 0.3)
    masses = density_masses(mean, mean, torch.zeros(1, 2, dtype=torch.bool), 4)
    assert masses.tolist() == [[0.25] * 4]


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.integers(0, 9), min_size=2, max_size=12).filter(any), samples=st.integers(1, 9))
def test_quantile_times_against_a_slow_search(weights, samples):
    masses = doubles(*weights) / sum(weights)
    quantiles = cell_middles(samples)
    times = quantile_times(masses[None], quantiles[None])[0]
    for quantile, time in zip(quantiles.tolist(), times.tolist(), strict=True):
        below, bin_index = 0.0, 0
        while below + masses[bin_index].item() < quantile - 1e-12:
            below += masses[bin_index].item()
            bin_index += 1
        literal = (bin_index + (quantile - below) / masses[bin_index].item()) / len(weights)
        # A quantile on the edge of an empty bin is reached anywhere in it; what must agree is the mass below the time.
        full = int(time * len(weights) + 1e-9)
        partial = masses[full].item() if full < len(weights) else 0
        mass = masses[:full].sum().item() + (time * len(weights) - full) * partial
        assert abs(mass - quantile) <= 1e-8
        if masses.min() > 0:
            assert abs(time - literal) <= 1e-9


def test_attended_places_get_more_samples():
    mean, variance = torch.full((1, 1, 1), 0.25), torch.full((1, 1, 1), 1e-4)
    masses = density_masses(mean, variance, torch.ones(1, 1, dtype=torch.bool), 128)
    times = quantile_times(masses, cell_middles(64).float()[None])[0]
    assert torch.all(times.diff() > 0)
    # The middle half of the samples lies within ±0.674 standard deviations, plus a bin at each side.
    assert (times[16:48] - 0.25).abs().max() <= 0.6745 * 0.01 + 1 / 128
