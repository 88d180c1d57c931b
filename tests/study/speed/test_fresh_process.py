"""Calls in processes of their own, and memory against allocations of known size."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from study.speed.fresh_process import MIB, limit_memory, peak_mib, reading_error, run_in_fresh_process
from study.speed.measure import MODULES, Configuration, prepare

linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def beyond_memory():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("function", [killed, beyond_memory])
def test_memory_that_runs_out_is_told_from_other_errors(function):
    with pytest.raises(MemoryError, match=r"killed|you tried to allocate"):
        run_in_fresh_process(function)


def test_a_process_of_its_own_that_works_fails_dies_or_does_not_come_back():
    assert len({run_in_fresh_process(os.getpid), run_in_fresh_process(os.getpid), os.getpid()}) == 3
    with pytest.raises(RuntimeError, match="heads must divide model_dim"):
        run_in_fresh_process(prepare, Configuration("softmax", heads=0))
    with pytest.raises(RuntimeError, match="died with status 7"):
        run_in_fresh_process(os._exit, 7)
    with pytest.raises(TimeoutError):
        run_in_fresh_process(time.sleep, 60.0, patience=0.2)


def test_children_import_nothing():
    assert run_in_fresh_process(imported_by_training) == set()


def imported_by_training():
    """Modules that one training call of each mechanism brings in."""
    before = set(sys.modules)
    for mechanism in MODULES:
        prepare(Configuration(mechanism, direction="training", length=16, heads=2, head_dim=4))()
    return set(sys.modules) - before


@linux
def test_the_peak_is_what_was_held_at_once_since_the_start():
    def hold():
        for _ in range(3):
            block = torch.ones(16 * MIB)
            del block

    peak_mib(int)  # the first call of a function brings its code into memory, which counts too
    # Three blocks of 64 MiB after each other need one; an earlier peak is forgotten.
    assert [peak_mib(hold), peak_mib(int)] == pytest.approx([64, 0], abs=reading_error())


def test_an_accelerators_peak_is_its_allocators_and_its_limit_is_on_top_of_what_it_holds(monkeypatch):
    peaks, shares, waits = [900 * MIB], [], []
    allocator = {
        "synchronize": lambda: waits.append(1),
        "reset_peak_memory_stats": lambda: peaks.append(100 * MIB),
        "memory_allocated": lambda: 100 * MIB,
        "memory_reserved": lambda: 100 * MIB,
        "max_memory_allocated": lambda: peaks[-1],
        "mem_get_info": lambda: (300 * MIB, 400 * MIB),
        "set_per_process_memory_fraction": shares.append,
    }
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(**allocator))

    def work():
        # The earlier peak is forgotten; a call in flight has been waited for.
        assert (peaks[-1], len(waits)) == (100 * MIB, 1)
        peaks.append(164 * MIB)

    assert (peak_mib(work, device="cuda"), len(waits)) == (64, 2)
    for limit in (100.0, 10_000.0):
        limit_memory("cuda", limit)
    assert shares == [0.5, 1.0]
