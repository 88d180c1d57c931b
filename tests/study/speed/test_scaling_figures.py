"""Figures draw what the rows say: every curve, its spread, and predictions where the budget ended."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from study.speed.epoch_profile import PARTS
from study.speed.scaling import crossovers, result_rows, source_study
from study.speed.scaling_figures import (
    against_length,
    against_settings,
    along_stream,
    beside_source,
    crossover_intervals,
    crossover_note,
    epoch_parts,
    look_of,
    order_of,
    throughput,
    with_range,
)


@pytest.fixture
def rows():
    laws = {"explicit_softmax": 2, "softmax": 2, "performer": 1}
    found = []
    for mechanism, power in laws.items():
        for length in (256, 512, 1024):
            for split in ("forward", "training"):
                value = float(length) ** power / (100 if power == 2 else 1)
                head = ("attention", mechanism, split, length)
                if mechanism == "explicit_softmax" and length == 1024:
                    found.append((*head, 0, "skipped_time", 64.0))
                    continue
                found.append((*head, 0, "peak_memory_mib", value))
                for number in range(2):
                    found.append((*head, number, "time_ms", value))
                    found.append((*head, number, "time_ms_low", value * 0.9))
                    found.append((*head, number, "time_ms_high", value * 1.2))
    return pd.DataFrame(found, columns=["scope", "mechanism", "direction", "length", "round", "metric", "value"])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def title_of(ax):
    """The title wherever the style in force puts it."""
    return ax.get_title("left") or ax.get_title("center")


def test_curves_bars_and_predictions(rows):
    fig = against_length(result_rows(rows, "07"), "time_ms")
    assert [title_of(ax) for ax in fig.axes] == ["inference", "training"]
    ax = fig.axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert len(ax.get_legend_handles_labels()[1]) == 3
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    # From the last measured point, 512² / 100 ms, to the prediction of 64 s.
    assert [line.get_xydata().tolist() for line in dotted] == [[[512.0, 512**2 / 100], [1024.0, 64000.0]]]
    bars = ax.containers[2].lines[2][0].get_segments()
    assert [bar[1][1] for bar in bars] == pytest.approx([length * 1.2 for length in (256, 512, 1024)])


def test_memory_has_no_bars_and_no_predictions_of_time(rows):
    ax = against_length(result_rows(rows, "07"), "peak_memory_mib").axes[0]
    assert not ax.containers
    assert not [line for line in ax.lines if line.get_linestyle() == ":"]


def test_a_row_per_pair_and_a_panel_per_direction(rows):
    table = crossovers(rows)
    fig = crossover_intervals(table, [256, 512, 1024])
    assert [title_of(ax) for ax in fig.axes] == ["inference", "training"]
    assert len(fig.axes[0].get_yticklabels()) == 3
    # Both softmaxes cost the same, so neither is ever faster; the Performer's length equals length² / 100 at 100.
    assert [text.get_text() for text in fig.axes[0].texts] == ["at none", "at all", "at all"]


def test_notes_of_crossovers():
    assert crossover_note(1000.4, 900.0, 1100.0, True, [256, 4096]) == "1,000 (900 to 1,100)"
    assert crossover_note(256.0, 256.0, 300.0, True, [256, 4096]) == "at all"
    assert crossover_note(4096.0, 4096.0, 4096.0, False, [256, 4096]) == "at none"


def test_published_curves_stand_beside_on_the_same_scale(rows):
    fig = beside_source(result_rows(rows[rows["direction"] == "forward"], "07"), source_study())
    here, published = fig.axes[0], fig.axes[1]
    assert here.get_ylim() == published.get_ylim()
    assert len(published.get_legend_handles_labels()[1]) == 3


def test_a_variant_keeps_its_mechanisms_colour_and_is_dashed():
    plain, variant = look_of("performer"), look_of("performer_causal")
    assert plain["color"] == variant["color"]
    assert (plain["linestyle"], variant["linestyle"]) == ("-", "--")
    assert variant["label"] == f"{plain['label']}, causal"
    assert order_of(["infinite_former_uniform", "performer", "infinite_former", "softmax"]) == [
        "softmax",
        "performer",
        "infinite_former",
        "infinite_former_uniform",
    ]


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
