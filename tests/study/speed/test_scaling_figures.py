"""Figures draw what the rows say: every curve, its spread, and predictions beyond the budget."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study.speed import scaling_figures as drawn
from study.speed.scaling import crossovers

TIMES = {"time_ms": 1.0, "time_ms_low": 0.9, "time_ms_high": 1.2}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def rows_of(axis, places, values, models=("softmax", "performer_causal")):
    """Rows along an axis for both directions: each metric's value times the place."""
    found = [
        (model, split, axis, place, metric, place * value)
        for model in models
        for split in ("forward", "training")
        for place in places
        for metric, value in values.items()
    ]
    return pd.DataFrame(found, columns=["model", "split", "axis", "x", "metric", "value"])


def bars(ax, number=0):
    return [segment[:, 1].tolist() for segment in ax.containers[number].lines[2][0].get_segments()]


def dotted(ax):
    return [line.get_xydata().tolist() for line in ax.lines if line.get_linestyle() == ":"]


def test_a_line_per_setting_and_metric_and_a_panel_per_direction():
    rows = pd.concat([rows_of("batch", (1, 8), TIMES), rows_of("features", (16, 64), TIMES)])
    rows = pd.concat([rows, rows_of("batch", (1, 8), {"peak_memory_mib": 3.0})])
    fig = drawn.curves(rows, {"batch": "batch", "features": "m"}, ["time_ms", "peak_memory_mib"])
    assert [ax.get_xlabel() for ax in fig.axes] == ["batch"] * 4 + ["m"] * 4
    assert fig.axes[0].get_legend_handles_labels()[1] == ["fused softmax", "Performer (causal)"]
    # From 0.9 to 1.2 times each place; memory is measured once and has no bars.
    np.testing.assert_allclose(bars(fig.axes[0]), [[0.9, 1.2], [7.2, 9.6]])
    assert not fig.axes[2].containers[0].has_yerr
    assert fig.axes[2].lines[0].get_ydata().tolist() == [3.0, 24.0]


def test_what_was_skipped_is_hollow_and_joined_to_nothing_longer():
    rows = rows_of("length", (8, 64), TIMES, ("softmax", "performer"))
    skipped = [("softmax", 1), ("performer", 128)]
    for model, place in skipped:
        rows = pd.concat([rows, rows_of("length", (place,), {"skipped_time": 7.0}, (model,))])
    ax = drawn.curves(rows, {"length": "events"}, ["time_ms"]).axes[0]
    # Seconds become milliseconds; the prediction is joined to the last point before it, if there is one.
    assert dotted(ax) == [[[1.0, 7000.0]], [[64.0, 64.0], [128.0, 128 * 7000.0]]]
    assert {line.get_markerfacecolor() for line in ax.lines if line.get_linestyle() == ":"} == {"white"}


@pytest.mark.parametrize("ends", [(3.1, 3.6), (3.1, 4.6), (2, 9), (0.7, 40), (0.02, 900), (0.001, 90_000)])
def test_a_logarithmic_axis_has_a_few_readable_ticks_whatever_its_range(ends):
    fig, ax = plt.subplots()
    ax.plot([1, 2], ends)
    ax.set_yscale("log")
    drawn.plain_numbers(ax.yaxis)
    fig.canvas.draw()
    low, high = ax.get_ylim()
    inside = [tick for tick in ax.get_yticks() if low <= tick <= high]
    assert 3 <= len(inside) <= 16
    texts = [text.get_text() for text in ax.get_yticklabels()]
    assert all("$" not in text for text in texts)
    assert len(set(texts)) == len(texts)


def test_cross_overs_say_which_is_faster_and_are_hollow_at_the_ends():
    laws = {"explicit_softmax": (1, 2), "softmax": (1, 2), "performer": (300, 1)}
    rows = [
        (mechanism, split, length, number, "time_ms", factor * float(length) ** power)
        for mechanism, (factor, power) in laws.items()
        for split in ("forward", "training")
        for length in (256, 1024)
        for number in range(2)
    ]
    names = ["mechanism", "direction", "length", "round", "metric", "value"]
    fig = drawn.crossover_intervals(crossovers(pd.DataFrame(rows, columns=names)), [256, 1024])
    ax = fig.axes[0]
    assert [text.get_text().replace("\n", " ") for text in ax.get_yticklabels()] == [
        "fused softmax faster than naive softmax",
        "Performer faster than naive softmax",
        "Performer faster than fused softmax",
    ]
    # Both softmaxes cost the same, so neither is ever faster.
    assert [text.get_text() for text in ax.texts] == ["at no length", "300 (300 to 300)", "300 (300 to 300)"]
    assert [container.lines[0].get_fillstyle() for container in ax.containers] == ["none", "full", "full"]


def test_a_stream_that_was_ended_is_circled():
    metrics = {"event_us": 1.0, "event_us_low": 0.9, "event_us_high": 1.1, "state_kib": 2.0, "resident_mib": 0.1}
    rows = rows_of("events_streamed", (512, 1024), metrics, ("softmax", "performer"))
    rows = rows[rows["split"] == "forward"]
    ended = {"model": "softmax", "split": "forward", "axis": "events_streamed", "x": 1024}
    fig = drawn.along_stream(pd.concat([rows, pd.DataFrame([{**ended, "metric": "skipped_time", "value": 9.0}])]))
    circles = [line for line in fig.axes[1].lines if line.get_markersize() == 12]
    assert [line.get_xydata().tolist() for line in circles] == [[[1024.0, 2048.0]], []]


def test_reasons_name_every_call_that_was_skipped():
    rows = pd.DataFrame(
        {
            "mechanism": ["softmax", "explicit_softmax", "explicit_softmax", "performer"],
            "direction": ["forward", "training", "training", "forward"],
            "length": [4096, 1024, 2048, 1024],
            "metric": ["skipped_time", "skipped_memory", "skipped_memory", "time_ms"],
        }
    )
    assert drawn.reasons(rows) == (
        "beyond its budget of time: fused softmax in inference from 4,096 events on; "
        "beyond its budget of memory: naive softmax in training from 1,024 events on"
    )
    assert drawn.reasons(rows.iloc[3:]) == "too few or too noisy points"
