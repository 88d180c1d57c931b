"""The front page's two panels and its numbers, from saved rows whose answers are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study.speed import panels

COLUMNS = ["task", "model", "split", "axis", "x", "metric", "value"]
# Milliseconds of a layer by length: softmax and Performer meet at 512 events, softmax and ∞-former at none.
TIMES = {
    "softmax": (1, 16, 256),
    "explicit_softmax": (2, 32, 512),
    "performer": (2, 8, 32),
    "infinite_former": (512,) * 3,
}
CROSSINGS = {"performer": (512, 1), "infinite_former": (4096, 0)}


@pytest.fixture
def rows():
    found = [("encoder", "softmax", "forward", "length", 4096, "time_ms", 1e9)]
    for model, times in TIMES.items():
        for length, time in zip((256, 1024, 4096), times, strict=True):
            found.append(("attention", model, "forward", "length", length, "time_ms", time))
            found.append(("attention", model, "forward", "length", length, "peak_memory_mib", time / 2))
    for model, (length, pays) in CROSSINGS.items():
        values = {"crossover_length": length, "crossover_low": length, "crossover_high": length, "pays": pays}
        found += [("attention", model, "forward", "against_softmax", np.nan, *pair) for pair in values.items()]
    return pd.DataFrame(found, columns=COLUMNS)


def test_advantages_are_crossings_and_ratios_at_the_length(rows):
    found = panels.advantages(rows)
    assert found.index.tolist() == ["performer", "infinite_former"]
    assert found.loc["performer", ["crossing", "time_softmax", "time_explicit_softmax"]].tolist() == [512, 8, 16]
    assert found.loc["performer", "memory_explicit_softmax"] == 16
    assert np.isnan(found.loc["infinite_former", "crossing"])
    assert found.loc["infinite_former", "time_softmax"] == 0.5
    missing = panels.advantages(rows[rows["x"] != 4096])
    assert missing.filter(like="softmax").isna().all(axis=None)
    assert panels.advantages(rows.iloc[:0]).empty


def test_panels_ring_the_crossing_and_name_every_line_once(rows):
    fig, (time, memory) = plt.subplots(1, 2)
    panels.time_panel(time, rows, history=300.0)
    panels.memory_panel(memory, rows)
    (ring,) = [line for line in time.lines if line.get_markersize() == 11]
    np.testing.assert_allclose(ring.get_xydata(), [[512, 4]])
    texts = [text.get_text() for text in time.texts]
    assert {"512", "median history\n300 events"} < set(texts)
    names = ["fused softmax", "naive softmax", "Performer", "∞-former"]
    for ax in (time, memory):
        heights = sorted(text.xy[1] for text in ax.texts if text.get_text() in names)
        assert len(heights) == 4
        assert np.diff(heights).min() >= 0.07, "names do not cover each other"
    panels.time_panel(time, rows.iloc[:0])
    plt.close(fig)
