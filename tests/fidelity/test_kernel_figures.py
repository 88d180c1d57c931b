"""Figures are drawn from rows alone, with one line per model."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.fidelity import kernel_figures


@pytest.fixture(autouse=True)
def closed_afterwards():
    mpl.use("Agg")
    with plt.rc_context({"figure.constrained_layout.use": True}):
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


def test_output_and_heads_have_a_panel_for_each_part(rows):
    assert len(kernel_figures.output_figure(rows, "draws").axes) == 2
    heads = kernel_figures.heads_figure(rows, pd.Series({"a": 1.0, "b": 2.0}))
    assert [ax.get_title("left") or ax.get_title() for ax in heads.axes] == ["a", "b"]


def test_lines_are_medians(rows):
    ax = kernel_figures.single_figure(rows, "x", "y").axes[0]
    assert list(ax.lines[0].get_ydata()) == pytest.approx([1.05, 2.05])


def test_sweeps_are_separate(rows):
    both = pd.concat([rows, rows.assign(axis="length", x=10 * rows["x"])])
    left, right = kernel_figures.sup_figure(both).axes
    assert list(left.get_xticks()) == [1, 2]
    assert list(right.get_xticks()) == [10, 20]


def test_maps_and_curves_are_drawn(rows):
    lengths, angles = np.linspace(0.1, 2, 4), np.linspace(-3, 3, 5)
    drawn = kernel_figures.ratio_figure({"one": np.linspace(-1, 1, 20).reshape(4, 5)}, lengths, angles)
    assert len(drawn.axes) == 2
    gain = rows.assign(model=rows["model"].str.split().str[0], split="d = 4")
    assert len(kernel_figures.gain_figure(gain.drop_duplicates(["model", "x"])).axes) == 1
    spread = pd.DataFrame(
        {"x": [4, 8], "variance": [4, 8], "standard_error": 0.1, "share_scaled": 0.6, "share_unscaled": 0.2}
    )
    assert len(kernel_figures.spread_figure(spread).axes) == 2
    pairs = pd.DataFrame(
        {"model": "positive gaussian", "sum_square": [1.0], "mean": 1, "mean_expected": 1, "mean_error": 0.1}
    )
    pairs = pairs.assign(square=0.1, square_expected=0.1)
    assert len(kernel_figures.pair_figure(pairs).axes) == 2
