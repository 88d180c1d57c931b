"""Figures to play with: what they draw, and that moving a control draws something else."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lib import train
from lib.fidelity import reconstruction
from lib.fidelity.kernel_error import error_map, pair_errors
from lib.presentation import widgets
from lib.training.model import ModelConfig


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
        model = train.build(histories, ModelConfig(attention=attention, **settings), 0).eval()
        return train.Run(model, pd.DataFrame(), pd.DataFrame({"position": range(8)}))

    return built


def drawn(fig: plt.Figure) -> list[np.ndarray]:
    """The numbers of all lines and maps of a figure, which is closed."""
    numbers = [line.get_ydata() for ax in fig.axes for line in ax.lines]
    numbers += [np.asarray(part.get_array()) for ax in fig.axes for part in [*ax.collections, *ax.images]]
    plt.close(fig)
    return [np.asarray(part, dtype=float) for part in numbers if part is not None]


def test_the_error_surface_is_what_is_measured():
    """The error at one pair of vectors, against 20,000 estimates of 16 rows each and their standard error."""
    measured = pair_errors(["positive orthogonal"], [(0.6, 1.0)], 16, 20000, torch.Generator().manual_seed(0)).iloc[0]
    surface = error_map("positive", np.array([0.6]), np.array([1.0]), 16, 16)
    assert abs(surface.item() ** 2 - measured["square"]) < 4 * measured["square_error"]


def test_four_times_the_columns_halve_every_error_in_full_blocks():
    lengths, angles = np.linspace(0.1, 1.5, 7), np.linspace(0.1, 3, 5)
    for kernel in widgets.SURFACES:
        few, many = (error_map(kernel, lengths, angles, 8, columns) for columns in (64, 256))
        # Differences of moments near one lose digits where the error is small.
        np.testing.assert_allclose(few, 2 * many, rtol=1e-6)


def test_a_signal_in_the_span_is_remembered_and_the_loss_is_in_the_title():
    length = 64
    matrix = reconstruction.reconstruction_matrix(length, 8, 1.0, 1e-9)
    inside = matrix @ torch.sin(torch.linspace(0, 3, length, dtype=torch.float64))
    noise = reconstruction.drawn_signals(length, 0.0, 1, 0)[:, 0]
    fig = widgets.remembered_signal({"inside": inside, "noise": noise}, 8, 1.0, 1e-9)
    assert fig.axes[0].get_title(loc=mpl.rcParams["axes.titlelocation"]) == "inside: 0% lost"
    signal, kept = drawn(fig)[:2]
    np.testing.assert_allclose(kept, signal, atol=1e-6)


def test_signals_to_play_with_are_those_of_the_reconstruction():
    real = torch.randn(2, 32, 4, generator=torch.Generator().manual_seed(0))
    signals = widgets.example_signals(32, 0, real)
    assert list(signals)[:3] == list(reconstruction.SIGNALS)
    assert {len(signal) for signal in signals.values()} == {32}
    assert abs(float(list(signals.values())[-1].mean())) < 1e-6


def test_more_contraction_forgets_later():
    short, long = (drawn(widgets.remembered_age(tau, 64, 16, ages=6))[0] for tau in (0.5, 0.9))
    assert long[4] > short[4]


def moved(box: widgets.VBox, name: str, value: object) -> tuple[str, str]:
    """The picture before and after a control got another value."""
    control = next(child for child in box.children if getattr(child, "description", "") == name)
    before = box.children[-1].value
    control.value = value
    return before, box.children[-1].value


@pytest.mark.parametrize(
    ("draw", "controls", "move"),
    [
        (widgets.kernel_surface, {"columns": (16, 64), "head_dim": (8, 16)}, ("columns", 64)),
        (widgets.kernel_surface, {"columns": (16, 64), "head_dim": (8, 16)}, ("head_dim", 16)),
        (widgets.remembered_age, {"contraction": (0.5, 0.9), "samples": (32, 64), "basis": (8, 16)}, ("samples", 64)),
        (
            widgets.remembered_age,
            {"contraction": (0.5, 0.9), "samples": (32, 64), "basis": (8, 16)},
            ("contraction", 0.9),
        ),
    ],
)
def test_a_move_draws_what_its_values_say(draw, controls, move):
    shown = []

    def watched(**values):
        shown.append((values, drawn(draw(**values))))
        return draw(**values)

    box = widgets.explorer(watched, "A figure", **{n: widgets.slider(n, v, v[0]) for n, v in controls.items()})
    start = {name: values[0] for name, values in controls.items()}
    before, first = moved(box, *move)
    assert before == "", "nothing is computed before the first move"
    assert 'aria-label="A figure"' in first
    ((values, numbers),) = shown
    assert values == start | {move[0]: move[1]}
    unmoved = drawn(draw(**start))
    assert any(not np.array_equal(one, other) for one, other in zip(numbers, unmoved, strict=True))
    _, back = moved(box, move[0], start[move[0]])
    assert back != first


@pytest.mark.parametrize(
    ("draw", "attention"),
    [
        (widgets.attention_of, "softmax"),
        (widgets.kernel_error_of, "performer"),
        (widgets.memory_reads_of, "infinite_former"),
    ],
)
def test_every_customer_has_a_picture_of_its_own(histories, run_of, draw, attention):
    run = run_of(attention, **({"segment": 8} if attention == "infinite_former" else {}))
    lengths = histories.lengths[:8]
    box = widgets.customer_explorer(draw, run, histories, int(lengths.argmax()), "One customer")
    picker = box.children[0]
    assert [label for label, _ in picker.options] == [f"{length} events" for length in sorted(set(lengths))]
    assert "1000" not in str(picker.options), "customers are named by length, never by id"
    _, short = moved(box, "history of", int(lengths.argsort()[1]))
    _, longest = moved(box, "history of", int(lengths.argmax()))
    assert "<svg" in short
    assert short != longest


def test_a_history_of_one_segment_says_that_it_has_no_past(histories, run_of):
    fig = widgets.memory_reads_of(run_of("infinite_former"), histories, 0)
    assert "no past" in fig.axes[0].texts[0].get_text()
    plt.close(fig)
