"""Figures, words and the front page's numbers say what the rows say: curves, spread, predictions, crossings."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study.speed import figures

TIMES = {"time_ms": 1.0, "time_ms_low": 0.9, "time_ms_high": 1.2}
# Milliseconds of a layer by length: softmax and Performer meet at 512 events, softmax and ∞-former at none.
LAYER = {
    "softmax": (1, 16, 256),
    "explicit_softmax": (2, 32, 512),
    "performer": (2, 8, 32),
    "infinite_former": (512,) * 3,
}
CROSSINGS = {"performer": (512, 1), "infinite_former": (4096, 0)}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def rows():
    found = [("encoder", "softmax", "forward", "length", 4096, "time_ms", 1e9)]
    for model, times in LAYER.items():
        for length, time in zip((256, 1024, 4096), times, strict=True):
            found.append(("attention", model, "forward", "length", length, "time_ms", time))
            found.append(("attention", model, "forward", "length", length, "peak_memory_mib", time / 2))
    for model, values in CROSSINGS.items():
        named = zip(("crossover_length", "pays"), values, strict=True)
        found += [("attention", model, "forward", "against_softmax", np.nan, *pair) for pair in named]
    return pd.DataFrame(found, columns=["task", "model", "split", "axis", "x", "metric", "value"])


def test_advantages_are_crossings_and_ratios_at_the_length(rows):
    found = figures.advantages(rows, 4096)
    assert found.index.tolist() == ["performer", "infinite_former"]
    assert found.loc["performer", ["crossing", "time_softmax", "time_explicit_softmax"]].tolist() == [512, 8, 16]
    assert found.loc["performer", "memory_explicit_softmax"] == 16
    assert np.isnan(found.loc["infinite_former", "crossing"])
    assert found.loc["infinite_former", "time_softmax"] == 0.5
    assert figures.advantages(rows, 2048).filter(like="softmax").isna().all(axis=None)
    assert figures.advantages(rows.iloc[:0], 4096).empty


def test_panels_ring_the_crossing_and_name_every_line_once(rows):
    _, (time, memory) = plt.subplots(1, 2)
    figures.time_panel(time, rows, history=300.0)
    figures.memory_panel(memory, rows)
    (ring,) = [line for line in time.lines if line.get_markersize() == 11]
    np.testing.assert_allclose(ring.get_xydata(), [[512, 4]])
    assert {"512", "median history\n300 events"} < {text.get_text() for text in time.texts}
    names = ["fused softmax", "naive softmax", "Performer", "∞-former"]
    for ax in (time, memory):
        heights = sorted(text.xy[1] for text in ax.texts if text.get_text() in names)
        assert len(heights) == 4
        assert np.diff(heights).min() >= 0.07, "names do not cover each other"
    _, empty = plt.subplots()
    figures.time_panel(empty, rows.iloc[:0], history=300.0)
    assert not empty.has_data()


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


def test_a_line_per_setting_and_metric_and_a_panel_per_direction():
    rows = pd.concat([rows_of("batch", (1, 8), TIMES), rows_of("features", (16, 64), TIMES)])
    rows = pd.concat([rows, rows_of("batch", (1, 8), {"peak_memory_mib": 3.0})])
    fig = figures.curves(rows, {"batch": "batch", "features": "m"}, ["time_ms", "peak_memory_mib"])
    assert [ax.get_xlabel() for ax in fig.axes] == ["batch"] * 4 + ["m"] * 4
    assert fig.axes[0].get_legend_handles_labels()[1] == ["fused softmax", "Performer (causal)"]
    # From 0.9 to 1.2 times each place; memory is measured once and has no bars.
    bars = [segment[:, 1] for segment in fig.axes[0].containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[0.9, 1.2], [7.2, 9.6]])
    assert not fig.axes[2].containers[0].has_yerr
    assert fig.axes[2].lines[0].get_ydata().tolist() == [3.0, 24.0]


def test_what_was_skipped_is_hollow_and_joined_to_nothing_longer():
    skips = {"softmax": 1, "performer": 128}
    skipped = [rows_of("length", (place,), {"skipped_time": 7.0}, (model,)) for model, place in skips.items()]
    rows = pd.concat([rows_of("length", (8, 64), TIMES, ("softmax", "performer")), *skipped])
    ax = figures.curves(rows, {"length": "events"}, ["time_ms"]).axes[0]
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    # Seconds become milliseconds; the prediction is joined to the last point before it, if there is one.
    expected = [[[1.0, 7000.0]], [[64.0, 64.0], [128.0, 128 * 7000.0]]]
    assert [line.get_xydata().tolist() for line in dotted] == expected
    assert {line.get_markerfacecolor() for line in dotted} == {"white"}


def test_a_stream_that_was_ended_is_circled():
    metrics = {"event_us": 1.0, "event_us_low": 0.9, "event_us_high": 1.1, "state_kib": 2.0, "resident_mib": 0.1}
    rows = rows_of("events_streamed", (512, 1024), metrics, ("softmax", "performer"))
    ended = rows_of("events_streamed", (1024,), {"skipped_time": 9.0}, ("softmax",))
    fig = figures.along_stream(pd.concat([rows, ended]).query("split == 'forward'"))
    circles = [line for line in fig.axes[1].lines if line.get_markersize() == 12]
    assert [line.get_xydata().tolist() for line in circles] == [[[1024.0, 2048.0]], []]


def test_reasons_name_every_call_that_was_skipped():
    calls = [
        ("softmax", "forward", 4096, "skipped_time"),
        ("explicit_softmax", "training", 1024, "skipped_memory"),
        ("explicit_softmax", "training", 2048, "skipped_memory"),
        ("performer", "forward", 1024, "time_ms"),
    ]
    rows = pd.DataFrame(calls, columns=["mechanism", "direction", "length", "metric"])
    assert figures.reasons(rows) == (
        "beyond its budget of time: fused softmax in inference from 4,096 events on; "
        "beyond its budget of memory: naive softmax in training from 1,024 events on"
    )
    assert figures.reasons(rows.iloc[3:]) == "too few or too noisy points"
