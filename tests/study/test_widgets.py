"""Figures to play with: what they draw, and that moving a control draws another one."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lib.training.classifier import ModelConfig
from lib.training.runs import Run, build_classifier
from study import widgets
from study.kernel.closed_forms import error_map
from study.kernel.estimates import pair_errors
from study.memory import reconstruction


def test_the_error_surface_is_what_is_measured():
    """The error at one pair of vectors, against 20,000 estimates of 16 rows each and their standard error."""
    measured = pair_errors(["positive orthogonal"], [(0.6, 1.0)], 16, 20000, torch.Generator().manual_seed(0)).iloc[0]
    surface = error_map("positive", np.array([0.6]), np.array([1.0]), 16, 16)
    assert abs(surface.item() ** 2 - measured["square"]) < 4 * measured["square_error"]


def test_a_signal_in_the_span_is_remembered_and_the_loss_is_in_the_title():
    length = 64
    matrix = reconstruction.reconstruction_matrix(length, 8, 1.0, 1e-9)
    inside = matrix @ torch.sin(torch.linspace(0, 3, length, dtype=torch.float64))
    noise = reconstruction.drawn_signals(length, 0.0, 1, 0)[:, 0]
    fig = widgets.remembered_signal({"inside": inside, "noise": noise}, 8, 1.0, 1e-9)
    assert fig.axes[0].get_title(loc=plt.rcParams["axes.titlelocation"]) == "inside: 0 % lost"
    signal, kept = (line.get_ydata() for line in fig.axes[0].lines)
    np.testing.assert_allclose(kept, signal, atol=1e-6)
    plt.close(fig)


def test_a_move_shows_what_its_values_say():
    # A slider offers its first value, even where it is not among those given.
    sliders = {"columns": widgets.slider("columns", [64], 16), "head_dim": widgets.slider("d", [16], 8)}
    *_, picked = widgets.explorer(widgets.kernel_surface, **sliders).children
    assert picked.value == "", "the figure that stands above is the first"
    for columns in (64, 16):
        sliders["columns"].value = columns
        fig = widgets.kernel_surface(columns, 8)
        assert picked.value == widgets.named_svg(fig, "picked", "As picked").partition("?>")[2]
        plt.close(fig)
    assert plt.get_fignums() == [], "a figure was left open"


@pytest.mark.parametrize(
    ("draw", "config"),
    [
        (widgets.attention_of, ModelConfig(attention="softmax")),
        (widgets.memory_reads_of, ModelConfig(attention="infinite_former", segment=8)),
    ],
)
def test_every_customer_has_a_picture_of_its_own_and_no_past_is_said(histories, draw, config):
    run = Run(build_classifier(histories, config, 0).eval(), pd.DataFrame(), pd.DataFrame({"position": range(8)}))
    lengths = histories.lengths[:8]
    picker, picked = widgets.customer_explorer(draw, run, histories, int(lengths.argmax())).children
    assert [label for label, _ in picker.options] == [f"{length} events" for length in sorted(set(lengths))]
    assert "1000" not in str(picker.options), "customers are named by length, never by id"
    pictures = []
    for _, customer in reversed(picker.options[:-1]):
        picker.value = customer
        pictures.append(picked.value)
    assert pictures[0] != pictures[1]
    assert ("no past" in pictures[-1]) == (draw is widgets.memory_reads_of)
