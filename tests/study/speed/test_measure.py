"""Sweeps: complete rows, budgets, and that what was measured is not measured again."""

import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from lib.paths import ROOT
from study.speed import measure as engine
from study.speed.fresh_process import Budget
from study.speed.measure import SETTINGS, main, measure
from study.speed.workload import Configuration

TINY = Configuration("softmax", length=16, heads=2, head_dim=4)
QUICK = Budget(rounds=2, block_seconds=0.001, seconds=5.0, memory_mib=256.0)
TIMES = {"time_ms", "time_ms_low", "time_ms_high"}


class Pretended:
    """Stands in for the fresh process: time grows with the square of length, memory with length; counts its calls."""

    def __init__(self, fail_at=None):
        self.calls = []
        self.fail_at = fail_at

    def __call__(self, configuration, quantity, budget):
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((configuration, quantity))
        if quantity == "memory":
            return {"peak_memory_mib": configuration.length / 16}
        milliseconds = 1000.0 * (configuration.length / 16) ** 2
        return {"time_ms": milliseconds, "time_ms_low": milliseconds - 1, "time_ms_high": milliseconds + 1}


@pytest.fixture
def pretended(monkeypatch):
    stand_in = Pretended()
    monkeypatch.setattr(engine, "measure_apart", stand_in)
    return stand_in


def test_rows_from_real_processes_are_complete(tmp_path):
    rows = measure([TINY, replace(TINY, mechanism="explicit_softmax")], QUICK, tmp_path)
    assert list(rows.columns) == [*SETTINGS, "round", "metric", "value"]
    for _, part in rows.groupby(["mechanism", "round"]):
        number = part["round"].iloc[0]
        assert set(part["metric"]) == TIMES | ({"peak_memory_mib"} if number == 0 else set())
        values = part.set_index("metric")["value"]
        assert 0 < values["time_ms_low"] <= values["time_ms"] <= values["time_ms_high"]
    assert len(rows) == 2 * (4 + 3)
    assert json.loads((tmp_path / "hardware-cpu.json").read_text())["cores"] >= 1


def test_rounds_go_over_all_configurations_shortest_first(pretended, tmp_path):
    grid = [
        replace(TINY, length=length, mechanism=each) for each in ("softmax", "infinite_former") for length in (32, 16)
    ]
    measure(grid, QUICK, tmp_path)
    order = [(each.length, each.mechanism) for each, quantity in pretended.calls if quantity == "time"]
    once = [(16, "softmax"), (16, "infinite_former"), (32, "softmax"), (32, "infinite_former")]
    assert order == once * 2
    assert sum(quantity == "memory" for _, quantity in pretended.calls) == 4


def test_a_second_run_measures_nothing_and_says_the_same(pretended, tmp_path):
    first = measure([TINY], QUICK, tmp_path)
    count = len(pretended.calls)
    again = measure([TINY], QUICK, tmp_path)
    assert len(pretended.calls) == count
    pd.testing.assert_frame_equal(first, again)


def test_a_killed_run_goes_on_where_it_was(monkeypatch, tmp_path):
    grid = [replace(TINY, length=length) for length in (16, 24, 32)]
    killed = Pretended(fail_at=5)
    monkeypatch.setattr(engine, "measure_apart", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(grid, QUICK, tmp_path)
    resumed = Pretended()
    monkeypatch.setattr(engine, "measure_apart", resumed)
    rows = measure(grid, QUICK, tmp_path)
    # Memory and time of 16 and 24 were kept; of 32 only the memory was there, and a round is kept whole.
    assert len(resumed.calls) == 2 + 3
    assert len(rows) == 3 * (4 + 3)


def test_a_damaged_result_is_named_and_measured_again(pretended, tmp_path, capsys):
    first = measure([TINY], QUICK, tmp_path)
    (path,) = tmp_path.glob("*.csv")
    path.write_bytes(path.read_bytes().replace(b"time_ms", b"tame_ms"))
    count = len(pretended.calls)
    capsys.readouterr()
    assert len(measure([TINY], QUICK, tmp_path)) == len(first)
    assert len(pretended.calls) == 2 * count
    assert str(path) in capsys.readouterr().err


def test_more_rounds_add_to_those_kept(pretended, tmp_path):
    measure([TINY], QUICK, tmp_path)
    count = len(pretended.calls)
    rows = measure([TINY], replace(QUICK, rounds=3), tmp_path)
    assert len(pretended.calls) == count + 1
    assert set(rows["round"]) == {0, 1, 2}


def test_what_changes_a_result_changes_its_place(tmp_path):
    places = {
        engine.kept_at(configuration, block, machine, tmp_path)
        for configuration in (TINY, replace(TINY, features=32), replace(TINY, threads=2))
        for block in (0.1, 0.2)
        for machine in ("this", "that")
    }
    assert len(places) == 3 * 2 * 2


def test_too_slow_is_predicted_and_recorded_once(pretended, tmp_path):
    rows = measure([replace(TINY, length=length) for length in (16, 32, 64)], QUICK, tmp_path)
    skipped = rows[rows["metric"] == "skipped_time"]
    # One second at 16 and four at 32; sixteen at 64 by the square of length: beyond five.
    assert skipped[["length", "round", "value"]].to_numpy().tolist() == [[64, 0, 16.0]]
    assert 64 not in {each.length for each, _ in pretended.calls}


def test_too_large_is_known_from_its_matrices(pretended, tmp_path):
    wide = replace(TINY, mechanism="explicit_softmax", length=8192)
    rows = measure([wide, replace(wide, direction="training")], QUICK, tmp_path)
    assert not pretended.calls
    assert rows["metric"].tolist() == ["skipped_memory"] * 2
    assert rows["value"].tolist() == [2.0 * wide.matrix_bytes, 3.0 * wide.matrix_bytes]


@pytest.mark.parametrize(("small", "large"), [({"seconds": 5.0}, {"seconds": 20.0}), ({"memory_mib": 3.0}, {})])
def test_a_skip_is_reconsidered_under_a_larger_budget(pretended, tmp_path, small, large):
    grid, budget = [replace(TINY, length=length) for length in (16, 64)], replace(QUICK, seconds=20.0)
    rows = measure(grid, replace(budget, **small), tmp_path)
    assert rows.loc[rows["length"] == 64, "metric"].str.startswith("skipped").tolist() == [True]
    rows = measure(grid, replace(budget, **large), tmp_path)
    assert not rows["metric"].str.startswith("skipped").any()


def test_one_slow_measurement_does_not_rule_out_longer_calls(pretended, monkeypatch, tmp_path):
    """A busy moment makes 32 events take 9 s instead of 4: 48 are predicted from 16 events, 9 s at most, not 20."""
    quiet = pretended.__call__

    def disturbed(configuration, quantity, budget):
        found = quiet(configuration, quantity, budget)
        busy = (
            configuration.length == 32
            and quantity == "time"
            and sum(each.length == 32 for each, _ in quiet.__self__.calls) == 2
        )
        return found | ({"time_ms": 9000.0, "time_ms_high": 9001.0} if busy else {})

    monkeypatch.setattr(engine, "measure_apart", disturbed)
    grid = [replace(TINY, length=length) for length in (16, 32, 48)]
    rows = measure(grid, replace(QUICK, seconds=10.0), tmp_path)
    assert rows.loc[rows["metric"] == "time_ms", "value"].tolist() == [1000.0, 1000.0, 9000.0, 4000.0, 9000.0, 9000.0]


def test_a_predicted_skip_is_judged_again_in_every_round(pretended, monkeypatch, tmp_path):
    """The only shorter length is slow in round 0 alone: the longer one is measured, memory too, from round 1 on."""
    slow = iter([10.0] + 9 * [1.0])

    def disturbed(configuration, quantity, budget):
        found = pretended(configuration, quantity, budget)
        first = configuration.length == 16 and quantity == "time"
        return {
            metric: value * next(slow) if metric == "time_ms" and first else value for metric, value in found.items()
        }

    monkeypatch.setattr(engine, "measure_apart", disturbed)
    grid, budget = [replace(TINY, length=length) for length in (16, 32)], replace(QUICK, rounds=3)
    found = [measure(grid, budget, tmp_path) for _ in range(2)]
    longer = [rows[(rows["length"] == 32) & rows["metric"].isin(["time_ms", "peak_memory_mib"])] for rows in found]
    assert longer[0][["round", "metric"]].to_numpy().tolist() == [
        [1, "peak_memory_mib"],
        [1, "time_ms"],
        [2, "time_ms"],
    ]
    assert not found[0]["metric"].str.startswith("skipped").any()
    # A second run fills the round that is missing.
    assert longer[1]["round"].tolist() == [0, 0, 1, 1, 2]


def test_what_was_measured_under_a_larger_budget_is_used_and_not_repeated(pretended, tmp_path):
    grid = [replace(TINY, length=length) for length in (16, 32)]
    first = measure(grid, replace(QUICK, rounds=1), tmp_path)
    again = measure(grid, replace(QUICK, seconds=1.0), tmp_path)
    longer = (rows[rows["length"] == 32].reset_index(drop=True) for rows in (first, again))
    pd.testing.assert_frame_equal(*longer)


def test_command_line_measures_prints_and_saves(pretended, tmp_path, capsys):
    output = tmp_path / "rows.csv"
    main(["encoder", "--lengths", "16", "--rounds", "1", "--output", str(output), "--cache", str(tmp_path)])
    assert set(pd.read_csv(output)["mechanism"]) == {"explicit_softmax", "softmax", "performer", "infinite_former"}
    assert f"saved {output}" in capsys.readouterr().out
    assert json.loads((tmp_path / "hardware.json").read_text())["cores"] >= 1


def test_command_line_says_whether_two_runs_agree(pretended, tmp_path, capsys):
    output = tmp_path / "rows.csv"
    main(["layer", "--lengths", "16", "32", "--rounds", "2", "--output", str(output), "--cache", str(tmp_path)])
    capsys.readouterr()
    main(["agree", str(output), str(output)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-1] == "agree"
    assert {line.split()[-1] for line in lines[1:]} == {"True"}


def test_command_line_prints_no_warning(tmp_path):
    arguments = "layer --lengths 16 --rounds 1 --block-seconds 0.001".split()
    command = [sys.executable, "-m", "study.speed.measure", *arguments, "--cache", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == ""
    assert set(pd.read_csv(tmp_path / "layer.csv")["direction"]) == {"forward", "training"}
