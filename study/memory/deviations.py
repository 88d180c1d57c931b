"""What each difference from the published ∞-former buys: its own switches, turned one at a time."""

from dataclasses import replace

from lib.attention.infinite_former import MemorySettings

SWITCHES = {
    "events at the middles of cells": {"right_ends": False},
    "no zeros outside": {"zeros_outside": False},
    "scaled scores": {"scaled_scores": True},
    "scaled scores, one map a head": {"scaled_scores": True, "initial_widths": (0.4, 0.05)},
    "lower least variance": {"least_variance": 1e-6},
    "wider prior": {"prior_width": 0.1},
    "gradients through memory": {"through_memory": True},
    "sticky, drawn at random": {"sampling": "sticky_random"},
    "sticky": {"sampling": "sticky"},
    "even": {"sampling": "even"},
}
"""What is changed of the published memory, by the words for it."""
GEOMETRIC = ("events at the middles of cells", "no zeros outside", "sticky, drawn at random", "sticky", "even")
"""Of these, the ones that change what is kept, not only how it is read and trained."""


def memories_by_switch(**sizes: int) -> dict[str, MemorySettings]:
    """The published memory, each change of it alone, and all together."""
    published = MemorySettings.published(**sizes)
    changed = {words: replace(published, **change) for words, change in SWITCHES.items()}
    return {"published": published, **changed, "all together": MemorySettings(sampling="even", **sizes)}
