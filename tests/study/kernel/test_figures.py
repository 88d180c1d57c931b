"""Figures are drawn from rows alone, with one line per model."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study.kernel import figures


@pytest.fixture(autouse=True)
def closed_afterwards():
    mpl.use("Agg")
    with plt.style.context(["default", {"figure.constrained_layout.use": True}]):  # the study's style draws caps too
        yield
    plt.close("all")


def heights(ax):
    """Of an axes' lines in the order they were drawn."""
    return [np.asarray(line.get_ydata(), float).tolist() for line in ax.lines]


def test_lines_are_medians_beside_a_level_on_ticks_of_their_own():
    models, places, draws = ("positive orthogonal", "hyperbolic fixed_norm"), (("a", 1), ("b", 10)), (0, 1)
    rows = [(m, t, s * x, s * x + 0.1 * d) for m in models for t, s in places for x in (1, 2) for d in draws]
    frame = pd.DataFrame(rows, columns=["model", "task", "x", "value"])
    fig = figures.swept_figure(frame, "task", "x", "y", levels={"a": 0.5, "b": 0.7})
    for ax, (task, scale), level in zip(fig.axes, places, (0.5, 0.7), strict=True):
        medians = pytest.approx([scale + 0.05, 2 * scale + 0.05])
        assert (ax.get_title(), heights(ax)) == (task, [medians, medians, [level, level]])
        assert list(ax.get_xticks()) == [scale, 2 * scale]


def test_measured_and_expected_are_divided():
    pair = {"model": ["positive gaussian", "hyperbolic orthogonal"], "sum_square": 1.0, "mean": [3.0, 2.0]}
    pair |= {"mean_expected": 2.0, "mean_error": 0.25, "square": 0.2, "square_expected": 0.1, "square_error": 0.01}
    positive, hyperbolic, *squares = figures.pair_figure(pd.DataFrame(pair)).axes
    assert heights(positive) == [[1.5], [1, 1]]
    assert heights(hyperbolic) == [[1.0], [1, 1]]
    assert [heights(ax) for ax in squares] == [[[2.0], [1, 1]]] * 2
    (bars,) = positive.containers
    assert bars.lines[2][0].get_segments()[0][:, 1].tolist() == [1, 2]
