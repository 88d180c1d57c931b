"""Peak memory of this process, against allocations of known size."""

import os

import pytest
import torch

from study.speed.memory import MIB, limit_memory, peak_memory, reading_error_mib, resident_bytes

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")


@pytest.fixture(autouse=True)
def loaded_code():
    """The first call of a function brings its code into memory, which counts too."""
    with peak_memory():
        torch.ones(4)


def test_peak_is_what_was_allocated():
    with peak_memory() as peak:
        block = torch.ones(16 * MIB)
    assert block.nbytes == 64 * MIB
    assert peak.mib == pytest.approx(64, abs=reading_error_mib())


def test_freed_memory_counts_at_the_peak_only_once():
    with peak_memory() as peak:
        for _ in range(3):
            block = torch.ones(16 * MIB)
            del block
    assert peak.mib == pytest.approx(64, abs=reading_error_mib())


def test_an_earlier_peak_is_forgotten():
    earlier = torch.ones(16 * MIB)
    del earlier
    with peak_memory() as peak:
        pass
    assert peak.mib <= reading_error_mib()


def test_an_unknown_entry_is_an_error():
    with pytest.raises(RuntimeError, match="no VmNothing"):
        resident_bytes("VmNothing")


class Accelerator:
    """Stands in for a graphics card's allocator: counts what is held, and whether it was waited for."""

    def __init__(self):
        self.held, self.peak, self.waits, self.share = 100 * MIB, 900 * MIB, 0, None

    def synchronize(self):
        self.waits += 1

    def reset_peak_memory_stats(self):
        self.peak = self.held

    def memory_allocated(self):
        return self.held

    memory_reserved = memory_allocated

    def max_memory_allocated(self):
        return self.peak

    def mem_get_info(self):
        return 300 * MIB, 400 * MIB

    def set_per_process_memory_fraction(self, share):
        self.share = share


def test_an_accelerators_peak_is_its_allocators(monkeypatch):
    card = Accelerator()
    monkeypatch.setattr(torch, "cuda", card)
    with peak_memory("cuda") as peak:
        # The earlier peak of 900 MiB is forgotten; a call in flight has been waited for.
        assert (card.peak, card.waits) == (100 * MIB, 1)
        card.peak = 164 * MIB
    assert peak.mib == 64
    assert card.waits == 2


def test_an_accelerators_limit_is_on_top_of_what_it_holds(monkeypatch):
    card = Accelerator()
    monkeypatch.setattr(torch, "cuda", card)
    limit_memory("cuda", 100.0)
    assert card.share == 0.5
    limit_memory("cuda", 10_000.0)
    assert card.share == 1.0
