"""Measurements in real processes: limits, errors, and memory whose size is known."""

import os
import signal
import sys
import time
from dataclasses import replace

import pytest

from study.speed.fresh_process import PRELOAD, Budget, ProcessDied, apart, block_times, measure_apart
from study.speed.memory import MIB, reading_error_mib
from study.speed.workload import MODULES, Configuration, prepare

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
QUICK = Budget(rounds=1, block_seconds=0.001, seconds=5.0, memory_mib=256.0)


def test_an_allocation_beyond_the_budget_is_a_result():
    # Two matrices of 4 heads x 2048² x 4 bytes are 128 MiB; 32 MiB are allowed.
    wide = Configuration("explicit_softmax", length=2048)
    assert measure_apart(wide, "memory", replace(QUICK, memory_mib=32.0)) == {"skipped_memory": 32.0 * MIB}


def test_memory_of_the_explicit_matrix():
    # The scores and their softmax are there at once: two matrices, beside at most four tensors of length x head_dim.
    wide = Configuration("explicit_softmax", scope="kernel", length=1024, heads=4, head_dim=16)
    peak = measure_apart(wide, "memory", QUICK)["peak_memory_mib"]
    vectors = 4 * wide.heads * wide.length * wide.head_dim * 4 / MIB
    lowest = 2 * wide.matrix_bytes / MIB
    assert lowest - reading_error_mib() <= peak <= lowest + vectors + reading_error_mib()


def test_an_error_in_the_process_is_told_here():
    with pytest.raises(RuntimeError, match="heads must divide model_dim"):
        measure_apart(Configuration("softmax", heads=0), "time", QUICK)


def test_time_comes_with_its_quartiles():
    tiny = Configuration("softmax", length=16, heads=2, head_dim=4)
    found = measure_apart(tiny, "time", QUICK)
    assert list(found) == ["time_ms", "time_ms_low", "time_ms_high"]
    assert 0 < found["time_ms_low"] <= found["time_ms"] <= found["time_ms_high"]


def test_each_call_has_a_process_of_its_own():
    assert len({apart(os.getpid), apart(os.getpid), os.getpid()}) == 3


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def beyond_memory():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("function", [killed, beyond_memory])
def test_memory_that_runs_out_is_told_from_other_errors(function):
    with pytest.raises(MemoryError, match=r"killed|you tried to allocate"):
        apart(function)


def test_a_process_that_dies_or_does_not_come_back():
    with pytest.raises(ProcessDied) as died:
        apart(os._exit, 7)
    assert died.value.status == 7
    with pytest.raises(TimeoutError):
        apart(time.sleep, 60.0, patience=0.2)


def test_a_long_call_is_timed_once_and_a_short_one_in_blocks():
    calls = []
    slow = block_times(lambda: (calls.append(1), time.sleep(0.05)), 1, block_seconds=0.001)
    assert len(calls) == len(slow) == 1
    calls.clear()
    fast = block_times(lambda: calls.append(1), 1, block_seconds=0.001)
    assert len(calls) > len(fast) >= 1


def test_the_command_lines_module_is_not_imported_before_it_runs():
    # It would be in the children when they run it as their main module, and the interpreter warns of that.
    assert "study.speed.measure" not in PRELOAD
    done = apart(loaded_modules)
    assert set(PRELOAD) <= done
    assert "study.speed.measure" not in done


def loaded_modules():
    return set(sys.modules)


def test_children_import_nothing():
    assert apart(imported_by_training) == set()


def imported_by_training():
    """Modules that one training call of each mechanism brings in."""
    before = set(sys.modules)
    for mechanism in MODULES:
        prepare(Configuration(mechanism, direction="training", length=16, heads=2, head_dim=4))()
    return set(sys.modules) - before
