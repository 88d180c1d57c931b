"""Rows of other machines stand beside those of this one when they are about the same layer."""

import json
from dataclasses import asdict, replace

import pandas as pd
import pytest

from study.speed.hardware import crossovers_by_hardware, hardware, other_hardware, same_layer, times_by_hardware
from study.speed.workload import Configuration

LAYER = Configuration("softmax")
TIMES = {"softmax": {256: 1.0, 1024: 16.0}, "performer": {256: 2.0, 1024: 8.0}}


def rows_of(layer, scale=1.0):
    return pd.DataFrame(
        [
            asdict(replace(layer, mechanism=mechanism, length=length))
            | {"round": 0, "metric": "time_ms", "value": scale * value}
            for mechanism, times in TIMES.items()
            for length, value in times.items()
        ]
    )


@pytest.fixture
def folder(tmp_path):
    """A card's rows in two files, this machine's own cache, and a folder that says nothing of its hardware."""
    rows = rows_of(replace(LAYER, device="cuda", threads=4), 0.5)
    for name in ("card", "local", "unknown"):
        (tmp_path / name).mkdir()
    rows[rows["length"] == 256].to_csv(tmp_path / "card" / "a.csv", index=False)
    rows[rows["length"] == 1024].to_parquet(tmp_path / "card" / "b.parquet")
    rows.to_csv(tmp_path / "local" / "layer.csv", index=False)
    rows.to_csv(tmp_path / "unknown" / "layer.csv", index=False)
    for name in ("card", "local"):
        (tmp_path / name / "hardware.json").write_text(json.dumps({"gpu": "a card"}))
    return tmp_path


def test_kept_rows_are_found_with_their_machine(folder):
    found = other_hardware(folder)
    assert list(found) == ["card"]
    assert len(found["card"]) == 4


def test_a_machine_without_rows_is_an_error(tmp_path):
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "hardware.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="without rows"):
        other_hardware(tmp_path)


def test_only_the_same_layer_is_compared(folder):
    found = other_hardware(folder)
    assert list(same_layer(found, LAYER)) == ["card"]
    assert same_layer(found, replace(LAYER, head_dim=64)) == {}


def test_a_column_per_machine(folder):
    machines = {"this machine": rows_of(LAYER)} | same_layer(other_hardware(folder), LAYER)
    times = times_by_hardware(machines)
    assert list(times.columns) == ["this machine", "card"]
    assert times.loc[("forward", 1024, "performer")].tolist() == [8.0, 4.0]
    crossings = crossovers_by_hardware(machines)
    # The ratio falls from 2 to 1/2, so on logarithms it is one in the middle, on both machines.
    assert all("from 512 events on" in text for text in crossings.loc[("performer", "softmax", "forward")])


def test_the_card_is_among_the_facts(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a card")
    assert "gpu" not in hardware("cpu")
    assert hardware("cuda")["gpu"] == "a card"
