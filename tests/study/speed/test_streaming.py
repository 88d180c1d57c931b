"""Streams compute what whole histories do, and the growth of their cost is told from rows."""

import os
from dataclasses import replace

import pandas as pd
import pytest
import torch

from lib.attention.performer import PerformerAttention
from lib.training.classifier import build_attention
from study.speed.streaming import (
    STEPS,
    checkpoints,
    infinite_former_step,
    performer_step,
    softmax_step,
    state_bytes,
    stream_growth,
    stream_here,
    streams,
)
from study.speed.workload import Configuration, model_config

TINY = Configuration("softmax", length=64, heads=2, head_dim=4, features=8, basis=8, segment=8)
WIDTH = TINY.heads * TINY.head_dim
linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")


def made(mechanism):
    generator = torch.Generator().manual_seed(0)
    layer = build_attention(model_config(replace(TINY, mechanism=mechanism)), generator).eval()
    return layer, torch.randn(1, 24, WIDTH, generator=generator)


def fed(step, layer, events):
    """Outputs of all segments, and the last state."""
    outputs, past = [], None
    with torch.no_grad():
        for piece in events.split(TINY.segment, dim=1):
            output, past = step(layer, piece, past)
            outputs.append(output)
    return torch.cat(outputs, 1), past


# A few hundred roundings of at most 2⁻²⁴ each, of numbers of order one.
CLOSE = {"atol": 300 * 2.0**-24, "rtol": 0.0}


def test_a_softmax_segment_attends_to_all_before_it():
    layer, events = made("softmax")
    found, past = fed(softmax_step, layer, events)
    with torch.no_grad():
        for end in (8, 16, 24):
            torch.testing.assert_close(found[:, end - 8 : end], layer(events[:, :end]).output[:, -8:], **CLOSE)
    assert state_bytes(past) == 2 * 24 * WIDTH * 4


def test_running_sums_are_causal_attention():
    layer, events = made("performer")
    causal = PerformerAttention(WIDTH, TINY.heads, torch.Generator().manual_seed(0), TINY.features, causal=True)
    causal.load_state_dict(layer.state_dict())
    with torch.no_grad():
        expected = causal(events).output
    found, past = fed(performer_step, layer, events)
    torch.testing.assert_close(found, expected, **CLOSE)
    # Per head m sums of values, m of weights, and m levels.
    assert state_bytes(past) == TINY.heads * TINY.features * (TINY.head_dim + 2) * 4


def test_the_memory_of_a_stream_is_that_of_a_whole_history():
    layer, events = made("infinite_former")
    found, past = fed(infinite_former_step, layer, events)
    with torch.no_grad():
        torch.testing.assert_close(found, layer(events).output, **CLOSE)
    assert state_bytes(past) == TINY.basis * WIDTH * 4 + 8


def test_checkpoints_double_and_end():
    assert checkpoints(8) == {1, 2, 4, 8}
    assert checkpoints(11) == {1, 2, 4, 8, 11}


@linux
def test_rows_at_checkpoints_from_processes_of_their_own():
    rows = streams(TINY, 60.0, 64.0, "07")
    assert set(rows["model"]) == set(STEPS)
    for _, part in rows.groupby("model"):
        assert sorted(part["x"].unique()) == [8, 16, 32, 64]
        table = part.pivot(index="x", columns="metric", values="value")
        assert (table["event_us_low"] <= table["event_us"]).all()
        assert (table["event_us"] <= table["event_us_high"]).all()
    kept = rows[rows["metric"] == "state_kib"].pivot(index="model", columns="x", values="value")
    assert kept.loc["softmax", 64] == 8 * kept.loc["softmax", 8] == 2 * 64 * WIDTH * 4 / 1024
    assert kept.loc["performer"].nunique() == kept.loc["infinite_former"].nunique() == 1


@linux
@pytest.mark.parametrize(("limits", "reason"), [((0.0, 64.0), "skipped_time"), ((60.0, 0.0), "skipped_memory")])
def test_a_stream_ends_at_its_budget_and_says_so(limits, reason):
    rows = stream_here(TINY, *limits)
    assert {count for count, _, _ in rows} == {8}
    assert reason in {metric for _, metric, _ in rows}


def rows_of(model, costs, states, resident=(0.0, 0.0, 0.0), ended=False):
    found = []
    for x, cost, state, risen in zip((10, 80, 1280), costs, states, resident, strict=True):
        values = {"event_us": cost, "state_kib": state, "resident_mib": risen}
        found += [(model, x, metric, value) for metric, value in values.items()]
    if ended:
        found.append((model, 1280, "skipped_time", 9.0))
    return pd.DataFrame(found, columns=["model", "x", "metric", "value"])


def test_growth_is_of_the_last_against_the_first_settled():
    rows = pd.concat(
        [
            rows_of("infinite_former", (9.0, 2.0, 2.2), (4.0, 4.0, 4.0)),
            rows_of("softmax", (1.0, 2.0, 30.0), (1.0, 8.0, 128.0), ended=True),
            rows_of("performer", (1.0, 1.0, 1.3), (4.0, 4.0, 4.0)),
            rows_of("leaking", (1.0, 1.0, 1.0), (4.0, 4.0, 4.0), resident=(0.0, 0.0, 50.0)),
        ]
    )
    found = stream_growth(rows).set_index("model")
    assert found["constant"].to_dict() == {
        "infinite_former": True,
        "softmax": False,
        "performer": False,
        "leaking": False,
    }
    assert found["whole"].to_dict() == {model: model != "softmax" for model in found.index}
    assert found.loc["infinite_former", "times_slower"] == pytest.approx(1.1)
    assert found.loc["leaking", "resident_rise_mib"] == 50
