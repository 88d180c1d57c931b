from dataclasses import asdict

from lib.attention.infinite_former import PUBLISHED, MemorySettings
from study.memory.deviations import SWITCHES, memories_by_switch, start_rows


def test_every_switch_of_the_published_memory_is_turned_once_at_least():
    assert {name for change in SWITCHES.values() for name in change} == set(PUBLISHED)
    found = memories_by_switch(basis=16, segment=32, samples=32)
    published = asdict(found.pop("published"))
    for words, settings in found.items():
        changed = {name for name, value in asdict(settings).items() if value != published[name]}
        assert changed == set(SWITCHES.get(words, PUBLISHED)), words


def test_a_scaled_start_spreads_over_the_past():
    """The quartiles of a uniform μ are 1/4 and 3/4; unscaled reads all lie in the middle."""
    settings = MemorySettings(32, 64, "even", samples=64, initial_widths=None)
    table = start_rows(settings, 2, 3).groupby(["split", "metric"])["value"].mean()
    assert abs(table["scaled", "mean_low"] - 1 / 4) < 0.05
    assert abs(table["scaled", "mean_high"] - 3 / 4) < 0.05
    assert table["as published", "mean_low"] > 0.4
