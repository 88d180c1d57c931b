from dataclasses import asdict

from lib.attention.infinite_former import PUBLISHED
from study.memory.deviations import SWITCHES, memories_by_switch


def test_every_switch_of_the_published_memory_is_turned_once_at_least():
    assert {name for change in SWITCHES.values() for name in change} == set(PUBLISHED)
    found = memories_by_switch(basis=16, segment=32, samples=32)
    published = asdict(found.pop("published"))
    for words, settings in found.items():
        changed = {name for name, value in asdict(settings).items() if value != published[name]}
        assert changed == set(SWITCHES.get(words, PUBLISHED)), words
