import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib.attention.continuous_memory import expected_basis, gaussian_basis
from study.memory import reconstruction

SINGLE, DOUBLE = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps


@pytest.mark.parametrize("correlation_length", [0.0, 4.0])
def test_expected_error_is_the_mean_of_simulated_ones(correlation_length):
    matrix = reconstruction.reconstruction_matrix(48, 12)
    expected = reconstruction.expected_error(matrix, correlation_length) ** 2
    drawn = reconstruction.simulated_errors(matrix, correlation_length, 400, 0)
    assert abs(drawn.mean() - expected) <= 4 * drawn.std(ddof=1) / 20


def test_noise_cannot_be_kept_in_fewer_numbers_than_it_has():
    matrix = reconstruction.reconstruction_matrix(48, 12)
    assert reconstruction.expected_error(matrix, 0.0) >= math.sqrt(1 - 12 / 48)
    assert 12 / 2 < torch.trace(matrix) < 12


def test_history_errors_are_relative_to_each_customers_spread():
    matrix = reconstruction.reconstruction_matrix(32, 8)
    histories = torch.randn(3, 32, 2, generator=torch.Generator().manual_seed(0))
    errors = reconstruction.history_errors(matrix, histories)
    # Scaling changes nothing; products of 32 terms in double precision from single-precision events.
    assert np.allclose(reconstruction.history_errors(matrix, 2 * histories), errors, rtol=64 * DOUBLE)
    centred = (histories[0] - histories[0].mean(0)).double()
    literal = (centred - matrix @ centred).norm() / centred.norm()
    assert errors[0] == pytest.approx(float(literal), rel=32 * SINGLE)


def test_resolution_is_a_few_spacings():
    assert 8 <= reconstruction.resolution(reconstruction.reconstruction_matrix(256, 32)) <= 24


def test_rows_cover_every_signal_and_the_customers():
    real = torch.randn(4, 32, 3, generator=torch.Generator().manual_seed(0))
    rows = reconstruction.reconstruction_rows([{"basis": 4}, {"basis": 8}], "basis", 32, 50, 0, real)
    assert set(rows["split"]) == {*reconstruction.SIGNALS, "embedded histories", "all"}
    assert set(rows["x"]) == {4, 8}
    assert not rows.duplicated(["split", "x", "metric"]).any()


def test_quadrature_finds_a_wrong_closed_form(monkeypatch):
    right = reconstruction.quadrature_rows([0.3], [0.05, 0.4], 4)
    # The integrals' default relative accuracy is 1.5e-8.
    assert right["value"].max() < 1.5e-8

    def wrong(mean, variance, basis):
        return expected_basis(mean, variance + 1e-4, basis)

    monkeypatch.setattr(reconstruction, "expected_basis", wrong)
    assert reconstruction.quadrature_rows([0.3], [0.05, 0.4], 4)["value"].max() > 1e-4


def test_regulariser_is_the_divergence():
    assert reconstruction.divergence_error([0.05, 0.1, 0.5], 0.1) < 1.5e-8


def test_product_is_of_two_densities():
    functions = gaussian_basis(3)
    assert functions.deviations == (0.5,)
    expected = 1 / (2 * math.pi * 0.2 * 0.5)
    assert reconstruction.product(0.5, 0.5, 0.2, 0.5, 0.5) == pytest.approx(expected, rel=8 * DOUBLE)


def test_mass_and_mean_density_of_single_gaussians():
    assert reconstruction.mass_inside(np.array([0.5]), np.array([0.5]))[0] == pytest.approx(0.6826894921, rel=1e-9)
    frame = pd.DataFrame({"head": [1, 1], "split": "run 1", "mean": [0.0, 1.0], "width": [0.5, 0.5]})
    rows = reconstruction.mean_densities(frame)
    peak = 2 / math.sqrt(2 * math.pi)
    ends, middle = peak * (1 + math.exp(-2)) / 2, peak * math.exp(-0.5)
    assert np.allclose(rows["value"][[0, 50, 100]], [ends, middle, ends], rtol=16 * DOUBLE)
