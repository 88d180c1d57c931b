import pytest
import torch

from study.memory import reconstruction

SINGLE = torch.finfo(torch.float32).eps


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


def test_error_of_a_history_is_relative_to_its_own_spread():
    matrix = reconstruction.reconstruction_matrix(32, 8)
    history = torch.randn(1, 32, 2, generator=torch.Generator().manual_seed(0))
    rows = reconstruction.reconstruction_rows([{"basis": 8}], "basis", 32, 2, 0, 3 * history + 5)
    centred = (history[0] - history[0].mean(0)).double()
    literal = ((centred - matrix @ centred).norm() / centred.norm()) ** 2
    # The shift costs about three bits of single precision.
    assert rows["value"].iloc[-1] == pytest.approx(float(literal), rel=8 * 32 * SINGLE)
