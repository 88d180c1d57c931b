"""Figures of sweeps, streams and epochs draw what the rows say."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from study.speed.epoch_profile import PARTS
from study.speed.sweep_figures import against_settings, along_stream, epoch_parts, throughput, with_range


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


def test_a_line_per_setting_and_a_panel_per_direction():
    times = {"time_ms": 1.0, "time_ms_low": 0.9, "time_ms_high": 1.2}
    rows = pd.concat([rows_of("batch", (1, 8), times), rows_of("features", (16, 64), times)])
    fig = against_settings(rows, {"batch": "batch", "features": "m"}, "time_ms")
    assert [ax.get_xlabel() for ax in fig.axes] == ["batch", "batch", "m", "m"]
    assert fig.axes[0].get_legend_handles_labels()[1] == ["softmax", "Performer, causal"]


def test_what_was_skipped_is_hollow_and_joined_to_nothing_longer():
    rows = rows_of("batch", (8, 64), {"time_ms": 1.0, "time_ms_low": 0.9, "time_ms_high": 1.2}, ("softmax",))
    skipped = rows_of("batch", (1,), {"skipped_time": 7.0}, ("softmax",))
    ax = against_settings(pd.concat([rows, skipped]), {"batch": "batch"}, "time_ms").axes[0]
    (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted.get_xydata().tolist() == [[1.0, 7000.0]]
    assert dotted.get_markerfacecolor() == "white"


def test_a_range():
    rows = rows_of("encoder_length", (256, 1024), {"share": 1.0, "share_low": 0.5, "share_high": 2.0})
    fig = with_range(rows, "share", "of the time")
    assert fig.axes[0].get_ylabel() == "of the time"
    bars = fig.axes[0].containers[0].lines[2][0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [[128, 512], [512, 2048]]


def test_a_stream_that_was_ended_is_circled():
    metrics = {"event_us": 1.0, "event_us_low": 0.9, "event_us_high": 1.1, "state_kib": 2.0, "resident_mib": 0.1}
    rows = rows_of("events_streamed", (512, 1024), metrics, ("softmax", "performer"))
    rows = rows[rows["split"] == "forward"]
    ended = {"model": "softmax", "split": "forward", "axis": "events_streamed", "x": 1024}
    rows = pd.concat([rows, pd.DataFrame([{**ended, "metric": "skipped_time", "value": 9.0}])])
    fig = along_stream(rows)
    circles = [line for line in fig.axes[1].lines if line.get_markersize() == 12]
    assert [line.get_xydata().tolist() for line in circles] == [[[1024.0, 2048.0]], []]


def profile_rows():
    values = {
        f"{part}_share": share for part, share in zip(PARTS, (0.4, 0.3, 0.1, 0.05, 0.05, 0.02, 0.08), strict=True)
    }
    found = [
        (model, seed, metric, value)
        for model in ("softmax", "performer")
        for seed in (0, 1, 2)
        for metric, value in {**values, "events_per_second": 1000.0 + seed}.items()
    ]
    return pd.DataFrame(found, columns=["model", "seed", "metric", "value"])


def test_parts_of_an_epoch_stack_to_the_whole():
    ax = epoch_parts(profile_rows()).axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches if bar.get_y() < 0.5]
    assert ends == pytest.approx([40, 70, 80, 85, 90, 92, 100])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["softmax", "Performer"]


def test_throughput_marks_every_epoch_and_their_median():
    ax = throughput(profile_rows()).axes[0]
    assert ax.lines[0].get_xdata().tolist() == [1000.0, 1001.0, 1002.0]
    assert list(ax.lines[1].get_xdata()) == [1001.0, 1001.0]
