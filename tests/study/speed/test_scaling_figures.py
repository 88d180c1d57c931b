"""Figures draw what the rows say: every curve, its spread, and predictions where the budget ended."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from study.speed.scaling import crossovers, result_rows, source_study
from study.speed.scaling_figures import (
    against_length,
    beside_source,
    crossover_intervals,
    crossover_note,
    look_of,
    order_of,
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
