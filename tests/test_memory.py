"""Peak memory of this process, against allocations of known size."""

import os

import pytest
import torch

from lib.memory import MIB, peak_memory, reading_error_mib, resident_bytes

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
