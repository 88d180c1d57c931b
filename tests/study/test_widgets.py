"""Figures to play with: what they draw, and that moving a control draws something else in their place."""

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lib.training.classifier import ModelConfig
from lib.training.runs import Run, build_classifier
from study import report, widgets
from study.kernel.closed_forms import error_map
from study.kernel.estimates import pair_errors
from study.memory import reconstruction


@pytest.fixture(autouse=True)
def closed_afterwards():
    mpl.use("Agg")
    plt.close("all")  # what another module's tests left
    with plt.rc_context({"figure.constrained_layout.use": True}):
        yield
    assert plt.get_fignums() == [], "a figure was left open"


@pytest.fixture
def run_of(histories):
    def built(attention, **settings):
        model = build_classifier(histories, ModelConfig(attention=attention, **settings), 0).eval()
        return Run(model, pd.DataFrame(), pd.DataFrame({"position": range(8)}))

    return built


def drawn(fig: plt.Figure) -> list[np.ndarray]:
    """The numbers of all lines and maps of a figure, which is closed."""
    numbers = [line.get_ydata() for ax in fig.axes for line in ax.lines]
    numbers += [np.asarray(part.get_array()) for ax in fig.axes for part in [*ax.collections, *ax.images]]
    plt.close(fig)
    return [np.asarray(part, dtype=float) for part in numbers if part is not None]


def test_the_error_surface_is_what_is_measured():
    """The error at one pair of vectors, against 20,000 estimates of 16 rows each and their standard error."""
    measured = pair_errors(["positive orthogonal"], [(0.6, 1.0)], 20000, torch.Generator().manual_seed(0)).iloc[0]
    surface = error_map("positive", np.array([0.6]), np.array([1.0]), 16, 16)
    assert abs(surface.item() ** 2 - measured["square"]) < 4 * measured["square_error"]


def test_a_signal_in_the_span_is_remembered_and_the_loss_is_in_the_title():
    length = 64
    matrix = reconstruction.reconstruction_matrix(length, 8, 1.0, 1e-9)
    inside = matrix @ torch.sin(torch.linspace(0, 3, length, dtype=torch.float64))
    noise = reconstruction.drawn_signals(length, 0.0, 1, 0)[:, 0]
    fig = widgets.remembered_signal({"inside": inside, "noise": noise}, 8, 1.0, 1e-9)
    assert fig.axes[0].get_title(loc=mpl.rcParams["axes.titlelocation"]) == "inside: 0 % lost"
    signal, kept = drawn(fig)[:2]
    np.testing.assert_allclose(kept, signal, atol=1e-6)


def test_more_contraction_forgets_later():
    short, long = (drawn(widgets.remembered_age(tau, 64, 16))[0] for tau in (0.5, 0.9))
    assert long[4] > short[4]


class Shown(report.ShownFigure):
    """Keeps what is put in its place."""

    def __init__(self):
        super().__init__({"alt": "A figure"})
        self.__dict__["pictures"] = []

    def redraw(self, fig: plt.Figure, caption: str) -> None:
        self.pictures.append((caption, drawn(fig)))


def different(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) != len(other) or any(not np.array_equal(*pair, equal_nan=True) for pair in pairs)


@pytest.mark.parametrize(
    ("draw", "controls", "move"),
    [
        (widgets.kernel_surface, {"columns": (16, 64), "head_dim": (8, 16)}, ("columns", 64)),
        (widgets.remembered_age, {"contraction": (0.5, 0.9), "samples": (32, 64), "basis": (8, 16)}, ("samples", 64)),
    ],
)
def test_a_move_draws_what_its_values_say_in_the_figures_place(draw, controls, move):
    asked, shown = [], Shown()

    def watched(**values):
        asked.append(values)
        return draw(**values)

    # A slider offers its first value, even where it is not among those given.
    sliders = {name: widgets.slider(name, values[1:], values[0]) for name, values in controls.items()}
    start = {name: values[0] for name, values in controls.items()}
    widgets.explorer(shown, watched, **sliders)
    assert asked == [], "the figure that stands is the first"
    sliders[move[0]].value = move[1]
    sliders[move[0]].value = start[move[0]]
    assert asked == [start | {move[0]: move[1]}, start]
    (caption, first), (_, back) = shown.pictures
    assert f"{move[0]} {move[1]}" in caption
    assert different(first, back)
    assert not different(back, drawn(draw(**start)))


@pytest.mark.parametrize(
    ("draw", "attention", "of_all"),
    [
        (widgets.attention_of, "softmax", False),
        (widgets.kernel_error_of, "performer", True),
        (widgets.memory_reads_of, "infinite_former", False),
    ],
)
def test_every_customer_has_a_picture_of_its_own(histories, run_of, draw, attention, of_all):
    run, shown = run_of(attention, **({"segment": 8} if attention == "infinite_former" else {})), Shown()
    lengths = histories.lengths[:8]
    box = widgets.customer_explorer(shown, draw, run, histories, None if of_all else int(lengths.argmax()))
    (picker,) = box.children
    options = [label for label, _ in picker.options]
    assert options == ["all left-out customers"] * of_all + [f"{length} events" for length in sorted(set(lengths))]
    assert "1000" not in str(picker.options), "customers are named by length, never by id"
    for _, customer in (picker.options[place] for place in (1, -1, 0)):
        picker.value = customer
    pictures = [numbers for _, numbers in shown.pictures]
    assert all(different(*pair) for pair in pairwise(pictures))


def test_a_history_of_one_segment_says_that_it_has_no_past(histories, run_of):
    fig = widgets.memory_reads_of(run_of("infinite_former"), histories, 0)
    assert "no past" in fig.axes[0].texts[0].get_text()
    plt.close(fig)
