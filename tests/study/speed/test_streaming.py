"""Streams compute what whole histories do, and the growth of their cost is told from rows."""

import os
from dataclasses import replace

import pandas as pd
import pytest
import torch

from study.speed.fresh_process import run_in_fresh_process
from study.speed.measure import Configuration, build
from study.speed.streaming import steps, stream_growth, stream_here, streams

TINY = Configuration("softmax", length=72, heads=2, head_dim=4, features=8, basis=8, segment=8)
WIDTH = TINY.heads * TINY.head_dim
linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
# Numbers carried on: keys and values of 24 events; per head m sums of values, m of weights, and m levels; N
# coefficients, and the 64 bits of a count.
CARRIED = {
    "softmax": 2 * 24 * WIDTH,
    "performer": TINY.heads * TINY.features * (TINY.head_dim + 2),
    "infinite_former": TINY.basis * WIDTH + 2,
}


@pytest.mark.parametrize("mechanism", steps())
def test_a_stream_gives_what_the_whole_history_gives(mechanism):
    layer, events = build(replace(TINY, mechanism=mechanism, length=24))
    whole, _ = build(replace(TINY, mechanism=mechanism, causal=mechanism == "performer"))
    outputs, past = [], None
    with torch.no_grad():
        for piece in events.split(TINY.segment, dim=1):
            output, past = steps()[mechanism](layer, piece, past)
            outputs.append(output)
        # Softmax looks back over all events so far, but not ahead.
        ends = (8, 16, 24) if mechanism == "softmax" else (24,)
        for end in ends:
            last = end if len(ends) == 1 else TINY.segment
            found, expected = torch.cat(outputs, 1)[:, end - last : end], whole(events[:, :end]).output[:, -last:]
            # A few hundred roundings of at most 2⁻²⁴ each, of numbers of order one.
            torch.testing.assert_close(found, expected, atol=300 * 2.0**-24, rtol=0.0)
    assert sum(part.numel() * part.element_size() for part in past) == 4 * CARRIED[mechanism]


@linux
def test_rows_at_doublings_and_the_end_from_processes_of_their_own():
    rows = streams(TINY, 60.0, 64.0, "07")
    assert set(rows["model"]) == set(steps())
    for _, part in rows.groupby("model"):
        assert sorted(part["x"].unique()) == [8, 16, 32, 64, 72]
        table = part.pivot(index="x", columns="metric", values="value")
        assert (table["event_us_low"] <= table["event_us"]).all()
        assert (table["event_us"] <= table["event_us_high"]).all()
    kept = rows[rows["metric"] == "state_kib"].pivot(index="model", columns="x", values="value")
    assert kept.loc["softmax", 64] == 8 * kept.loc["softmax", 8] == 2 * 64 * WIDTH * 4 / 1024
    assert kept.loc["performer"].nunique() == kept.loc["infinite_former"].nunique() == 1


@linux
def test_a_stream_ends_at_its_budget_and_says_so():
    rows = run_in_fresh_process(stream_here, TINY, 0.0, 64.0)
    assert {count for count, _, _ in rows} == {8}
    assert "skipped_time" in {metric for _, metric, _ in rows}
    assert set(streams(replace(TINY, length=8192, segment=4096), 60.0, 0.0, "07")["metric"]) == {"skipped_memory"}


def rows_of(model, costs, states, resident=(0.0, 0.0, 0.0), **last):
    table = pd.DataFrame({"event_us": costs, "state_kib": states, "resident_mib": resident}, index=[10, 80, 1280])
    rows = table.rename_axis("x").reset_index().melt("x", var_name="metric")
    ends = pd.DataFrame([(1280, *pair) for pair in last.items()], columns=rows.columns)
    return pd.concat([rows, ends]).assign(model=model)


def test_growth_is_of_the_last_against_the_first_settled():
    rows = pd.concat(
        [
            rows_of("infinite_former", (9.0, 2.0, 2.2), (4.0, 4.0, 4.0)),
            rows_of("softmax", (1.0, 2.0, 30.0), (1.0, 8.0, 128.0), skipped_time=9.0),
            rows_of("performer", (1.0, 1.0, 1.3), (4.0, 4.0, 4.0)),
            rows_of("leaking", (1.0, 1.0, 1.0), (4.0, 4.0, 4.0), resident=(0.0, 0.0, 50.0)),
        ]
    )
    found = stream_growth(rows).set_index("model")
    assert found.index[found["constant"].astype(bool)].tolist() == ["infinite_former"]
    assert found.index[~found["whole"].astype(bool)].tolist() == ["softmax"]
    assert found.loc["infinite_former", "times_slower"] == pytest.approx(1.1)
    assert found.loc["leaking", "resident_rise_mib"] == 50
