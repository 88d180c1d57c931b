"""Figures are drawn from rows alone, with one line per model."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study.kernel import kernel_figures


@pytest.fixture(autouse=True)
def closed_afterwards():
    mpl.use("Agg")
    with plt.style.context(["default", {"figure.constrained_layout.use": True}]):  # the study's style draws caps too
        yield
    plt.close("all")


@pytest.fixture
def rows():
    places = [
        (m, t, x, s)
        for m in ("positive orthogonal", "hyperbolic fixed_norm")
        for t in "ab"
        for x in (1, 2)
        for s in (0, 1)
    ]
    frame = pd.DataFrame(places, columns=["model", "task", "x", "seed"])
    return frame.assign(value=frame["x"] + 0.1 * frame["seed"], split=frame["task"], axis="features")


def test_styles_tell_kernel_and_projection_apart():
    one, other = kernel_figures.style_of("positive orthogonal"), kernel_figures.style_of("positive fixed_norm")
    assert one["color"] == other["color"]
    assert one["linestyle"] != other["linestyle"]
    assert other["label"] == "positive, fixed norm"


def heights(ax):
    """Of an axes' lines in the order they were drawn."""
    return [np.asarray(line.get_ydata(), float).tolist() for line in ax.lines]


def test_lines_are_medians_beside_a_level(rows):
    medians = pytest.approx([1.05, 2.05])
    assert heights(kernel_figures.single_figure(rows, "x", "y").axes[0]) == [medians, medians, [1, 1]]
    for ax, task in zip(kernel_figures.output_figure(rows, "draws").axes, "ab", strict=True):
        assert (ax.get_title("left") or ax.get_title(), heights(ax)) == (task, [medians, medians, [1, 1]])
    levels = pd.Series({"a": 0.5, "b": 0.7})
    for ax, head in zip(kernel_figures.heads_figure(rows, levels).axes, "ab", strict=True):
        assert (ax.get_title("left") or ax.get_title(), heights(ax)[2]) == (head, [levels[head]] * 2)


def test_sweeps_are_separate(rows):
    both = pd.concat([rows, rows.assign(axis="length", x=10 * rows["x"])])
    left, right = kernel_figures.sup_figure(both).axes
    assert list(left.get_xticks()) == [1, 2]
    assert list(right.get_xticks()) == [10, 20]


def test_a_map_shows_its_values_within_six_powers_of_ten():
    lengths, angles = np.linspace(0.1, 2, 4), np.linspace(-3, 3, 5)
    values = np.linspace(-9, 9, 20).reshape(4, 5)
    (panel, _) = kernel_figures.ratio_figure({"one": values}, lengths, angles).axes
    assert panel.collections[0].get_array().tolist() == values.clip(-6, 6).tolist()
    assert panel.collections[1].levels.tolist() == [0]


def test_shares_are_drawn_by_width_of_the_head(rows):
    gain = rows[rows["seed"] == 0].assign(model=rows["model"].str.split().str[0], split="d = " + rows["task"])
    for ax, title in zip(kernel_figures.gain_figure(gain).axes, ("d = a", "d = b"), strict=True):
        assert (ax.get_title("left") or ax.get_title(), heights(ax)) == (title, [[1, 2], [1, 2]])


def error_bars(ax):
    """Lowest and highest of every bar of an axes."""
    return [[part[0, 1], part[1, 1]] for bars in ax.containers for part in bars.lines[2][0].get_segments()]


def test_measured_and_expected_stand_beside_each_other():
    spread = pd.DataFrame({"x": [4, 8], "variance": [5, 9], "standard_error": 0.25})
    left, right = kernel_figures.spread_figure(spread.assign(share_scaled=0.6, share_unscaled=[0.3, 0.2])).axes
    assert heights(left) == [[5, 9], [4, 8]]
    assert error_bars(left) == [[4, 6], [8, 10]]
    assert heights(right) == [[0.6, 0.6], [0.3, 0.2]]
    pair = {"model": "positive gaussian", "sum_square": [1.0], "mean": 3, "mean_expected": 2, "mean_error": 0.25}
    left, right = kernel_figures.pair_figure(pd.DataFrame(pair | {"square": 0.2, "square_expected": 0.1})).axes
    assert heights(left) == [[1.5], [1, 1]]
    assert error_bars(left) == [[1, 2]]
    assert heights(right) == [[0.2], [0.1, 0.1]]
