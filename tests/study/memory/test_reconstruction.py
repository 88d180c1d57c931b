import math

import numpy as np
import pandas as pd
import pytest
import torch

from study.memory import reconstruction

SINGLE, DOUBLE = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps


def test_rows_are_of_every_signal_and_simulated_errors_are_as_expected():
    real = torch.randn(4, 48, 3, generator=torch.Generator().manual_seed(0))
    rows = reconstruction.reconstruction_rows([{"basis": 4}, {"basis": 12}], "basis", 48, 400, 0, real)
    assert set(rows["split"]) == {*reconstruction.SIGNALS, "embedded histories"}
    table = rows.pivot(index=["split", "x"], columns="metric", values="value").dropna()
    assert len(table) == 2 * len(reconstruction.SIGNALS)
    away = (table["squared_error"] - table["expected_squared_error"]).abs()
    assert (away <= 4 * table["squared_error_standard_error"]).all()
    # Noise cannot be kept in fewer numbers than it has.
    noise = table.loc["white noise", "expected_squared_error"]
    assert (noise >= 1 - noise.index / 48).all()


def test_history_errors_are_relative_to_each_customers_spread():
    matrix = reconstruction.reconstruction_matrix(32, 8)
    histories = torch.randn(3, 32, 2, generator=torch.Generator().manual_seed(0))
    errors = reconstruction.history_errors(matrix, histories)
    # Scaling changes nothing; products of 32 terms in double precision from single-precision events.
    assert np.allclose(reconstruction.history_errors(matrix, 2 * histories), errors, rtol=64 * DOUBLE)
    centred = (histories[0] - histories[0].mean(0)).double()
    literal = ((centred - matrix @ centred).norm() / centred.norm()) ** 2
    assert errors[0] == pytest.approx(float(literal), rel=32 * SINGLE)


def test_histories_that_are_too_short_are_told(histories):
    assert reconstruction.embedded_histories(histories, 4, 2, 16, 0).shape == (2, 4, 16)
    with pytest.raises(ValueError, match="no customer has 1000000 events"):
        reconstruction.embedded_histories(histories, 1_000_000, 2, 16, 0)


def test_mean_density_of_single_gaussians():
    frame = pd.DataFrame({"head": [1, 1], "split": "run 1", "mean": [0.0, 1.0], "width": [0.5, 0.5]})
    rows = reconstruction.mean_densities(frame)
    peak = 2 / math.sqrt(2 * math.pi)
    ends, middle = peak * (1 + math.exp(-2)) / 2, peak * math.exp(-0.5)
    assert np.allclose(rows["value"][[0, 50, 100]], [ends, middle, ends], rtol=16 * DOUBLE)
