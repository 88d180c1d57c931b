"""Calls run in every form; sweeps have complete rows and budgets, and measure nothing twice."""

import os
import time
from dataclasses import asdict, replace
from functools import partial

import pandas as pd
import pytest

from study.speed import __main__ as command_line
from study.speed import measure as engine
from study.speed.fresh_process import MIB, reading_error, run_in_fresh_process
from study.speed.measure import Budget, Configuration, block_times, build, grid, measure, measure_here, prepare
from study.speed.scaling import crossovers_by_hardware

linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
TINY = Configuration("softmax", length=48, batch=2, heads=2, head_dim=4, features=8, basis=8, segment=16)
QUICK = Budget(rounds=2, block_seconds=0.001, seconds=5.0, memory_mib=256.0)
TIMES = ["time_ms", "time_ms_low", "time_ms_high"]


class Pretended:
    """Stands in for the fresh process: time grows with the square of length; counts its calls.

    The calls numbered in `slow` take so many times longer; before number `fail_at` the run is killed.
    """

    def __init__(self, fail_at=None):
        self.calls, self.fail_at, self.slow = [], fail_at, {}

    def __call__(self, function, configuration, quantity, budget, patience):
        number = len(self.calls)
        if number == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((configuration.length, configuration.mechanism, quantity))
        if quantity == "memory":
            return {"peak_memory_mib": 1.0}
        return dict.fromkeys(TIMES, 1000.0 * (configuration.length / 16) ** 2 * self.slow.get(number, 1.0))


@pytest.fixture
def pretended(monkeypatch):
    stand_in = Pretended()
    monkeypatch.setattr(engine, "run_in_fresh_process", stand_in)
    return stand_in


def at(*lengths, **settings):
    return [replace(TINY, length=length, **settings) for length in lengths]


every_call = pytest.mark.parametrize(
    "configuration",
    grid(TINY, scope=["attention", "encoder"], mechanism=engine.MODULES),
    ids=lambda call: call.mechanism,
)


@every_call
def test_forward_has_no_gradient_and_training_has_all(configuration):
    output = prepare(configuration)()
    assert output.isfinite().all()
    assert not output.requires_grad
    gradients = prepare(replace(configuration, direction="training"))()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@every_call
def test_everything_is_made_on_the_device_asked_for(configuration):
    # The meta device computes shapes only, and refuses to meet a tensor of the processor.
    layer, events = build(replace(configuration, device="meta"))
    assert {each.device.type for each in (events, *layer.parameters(), *layer.buffers())} == {"meta"}


@linux
def test_rows_from_real_processes_are_complete(tmp_path):
    rows = measure(grid(TINY, mechanism=["softmax", "explicit_softmax"]), QUICK, tmp_path)
    assert list(rows.columns) == [*asdict(TINY), "round", "metric", "value"]
    for (_, number), part in rows.groupby(["mechanism", "round"]):
        assert sorted(part["metric"]) == sorted([*TIMES, *(["peak_memory_mib"] if number == 0 else [])])
        values = part.set_index("metric")["value"]
        assert 0 < values["time_ms_low"] <= values["time_ms"] <= values["time_ms_high"]
    assert len(rows) == 2 * (4 + 3)


@linux
def test_memory_of_the_explicit_matrix_and_its_limit(tmp_path):
    # The scores and their softmax are there at once: two matrices, beside at most four tensors of length x head_dim.
    wide = Configuration("explicit_softmax", length=1024, heads=4, head_dim=16)
    peak = run_in_fresh_process(measure_here, wide, "memory", QUICK)["peak_memory_mib"]
    vectors = 4 * wide.heads * wide.length * wide.head_dim * 4 / MIB
    lowest = 2 * wide.heads * wide.length**2 * 4 / MIB
    assert lowest - reading_error() <= peak <= lowest + vectors + reading_error()
    too_large = [replace(wide, mechanism="softmax", length=8192), replace(wide, length=2**17)]
    rows = measure(too_large, replace(QUICK, memory_mib=1.0), tmp_path)
    assert rows[["metric", "value"]].to_numpy().tolist() == [["skipped_memory", 1.0 * MIB]] * 2


def test_a_long_call_is_timed_once_and_a_short_one_in_blocks():
    calls = []
    slow = block_times(lambda: (calls.append(1), time.sleep(0.05)), block_seconds=0.001)
    assert len(calls) == len(slow) == 1
    calls.clear()
    fast = block_times(lambda: calls.append(1), block_seconds=0.001)
    assert len(calls) > len(fast) == engine.BLOCKS


def test_rounds_go_over_all_configurations_shortest_first(pretended, tmp_path):
    measure([*at(32, 16), *at(32, 16, mechanism="infinite_former")], QUICK, tmp_path)
    order = [(length, mechanism) for length, mechanism, quantity in pretended.calls if quantity == "time"]
    assert order == [(16, "softmax"), (16, "infinite_former"), (32, "softmax"), (32, "infinite_former")] * 2
    assert sum(quantity == "memory" for *_, quantity in pretended.calls) == 4


def test_what_is_kept_is_not_measured_again_unless_something_changed(pretended, monkeypatch, tmp_path, capsys):
    first = measure([TINY], QUICK, tmp_path)
    pd.testing.assert_frame_equal(first, measure([TINY], QUICK, tmp_path))
    assert len(pretended.calls) == 3
    rows = measure([TINY], replace(QUICK, rounds=3), tmp_path)
    assert len(pretended.calls) == 4
    assert set(rows["round"]) == {0, 1, 2}
    (path,) = tmp_path.glob("softmax-*")
    path.write_bytes(path.read_bytes().replace(b"time_ms", b"tame_ms"))
    capsys.readouterr()
    pd.testing.assert_frame_equal(first, measure([TINY], QUICK, tmp_path))
    assert len(pretended.calls) == 7
    assert str(path) in capsys.readouterr().err
    measure([replace(TINY, seed=1)], replace(QUICK, block_seconds=0.002), tmp_path)
    monkeypatch.setattr(engine, "hardware", lambda device: {"processor": "another"})
    measure([TINY], QUICK, tmp_path)
    assert len(pretended.calls) == 7 + 3 + 3, "another setting, another machine"


def test_a_killed_run_goes_on_where_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "run_in_fresh_process", Pretended(fail_at=5))
    with pytest.raises(KeyboardInterrupt):
        measure(at(16, 24, 32), QUICK, tmp_path)
    resumed = Pretended()
    monkeypatch.setattr(engine, "run_in_fresh_process", resumed)
    rows = measure(at(16, 24, 32), QUICK, tmp_path)
    # Memory and time of 16 and 24 were kept; of 32 only the memory was there, and a round is kept whole.
    assert len(resumed.calls) == 2 + 3
    assert len(rows) == 3 * (4 + 3)


def test_too_slow_is_predicted_and_reconsidered_under_a_larger_budget(pretended, tmp_path):
    rows = measure(at(16, 32, 64), QUICK, tmp_path)
    skipped = rows[rows["metric"] == "skipped_time"]
    # One second at 16 and four at 32; sixteen at 64 by the square of length: beyond five.
    assert skipped[["length", "round", "value"]].to_numpy().tolist() == [[64, 0, 16.0]]
    assert 64 not in {length for length, *_ in pretended.calls}
    rows = measure(at(16, 32, 64), replace(QUICK, seconds=20.0), tmp_path)
    assert not rows["metric"].str.startswith("skipped").any()
    # What was measured under the larger budget is used under the smaller one.
    pd.testing.assert_frame_equal(rows, measure(at(16, 32, 64), QUICK, tmp_path))


def test_one_slow_measurement_does_not_rule_out_longer_calls(pretended, tmp_path):
    """A busy moment makes 32 events take 9 s instead of 4: 48 are predicted from 16 events, 9 s at most, not 20."""
    pretended.slow = {3: 9 / 4}
    rows = measure(at(16, 32, 48), replace(QUICK, seconds=10.0), tmp_path)
    assert rows.loc[rows["metric"] == "time_ms", "value"].tolist() == [1000.0, 1000.0, 9000.0, 4000.0, 9000.0, 9000.0]


def test_a_predicted_skip_is_judged_again_in_every_round(pretended, tmp_path):
    """The only shorter length is slow in round 0 alone: the longer one is measured, memory too, from round 1 on."""
    pretended.slow = {1: 10.0}
    budget = replace(QUICK, rounds=3)
    found = measure(at(16, 32), budget, tmp_path)
    longer = found[(found["length"] == 32) & found["metric"].isin(["time_ms", "peak_memory_mib"])]
    expected = [[1, "peak_memory_mib"], [1, "time_ms"], [2, "time_ms"]]
    assert longer[["round", "metric"]].to_numpy().tolist() == expected
    assert not found["metric"].str.startswith("skipped").any()
    again = measure(at(16, 32), budget, tmp_path)
    assert set(again.loc[again["length"] == 32, "round"]) == {0, 1, 2}, "a second run fills the round that is missing"


def test_the_command_line_leaves_what_other_machines_read(pretended, monkeypatch, tmp_path):
    monkeypatch.setattr(command_line, "measure", partial(measure, cache=tmp_path / "local"))
    command_line.main([str(tmp_path / "card"), "--lengths", "16", "32"])
    assert (tmp_path / "card" / "hardware.json").exists()
    found = crossovers_by_hardware(pd.read_csv(tmp_path / "card" / "layer.csv"), Configuration("softmax"), tmp_path)
    assert list(found) == ["card", "this machine"]
