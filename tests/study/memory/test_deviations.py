from dataclasses import asdict

import pytest

from lib.attention.infinite_former import PUBLISHED, MemorySettings
from study.memory.deviations import SWITCHES, memories_by_switch, start_rows


def test_every_switch_of_the_published_memory_is_turned_once_at_least():
    assert {name for change in SWITCHES.values() for name in change} == set(PUBLISHED)
    found = memories_by_switch(basis=16, segment=32, samples=32)
    published = asdict(found.pop("published"))
    for words, settings in found.items():
        changed = {name for name, value in asdict(settings).items() if value != published[name]}
        assert changed == set(SWITCHES.get(words, PUBLISHED)), words


def test_scaled_start_does_not_depend_on_the_number_of_functions():
    rows = [start_rows(MemorySettings(basis, 64, "even", samples=128), 2, 4) for basis in (16, 64)]
    spreads = []
    for each in rows:
        table = each.groupby(["split", "metric"])["value"].mean()
        assert table["as published", "mean_low"] > table["scaled", "mean_low"]
        spreads.append(table["scaled", "mean_high"] - table["scaled", "mean_low"])
    assert spreads[0] == pytest.approx(spreads[1], rel=0.25)
