"""The memory of this process: its peak during a block of code, and a limit to it."""

import ctypes
import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20
MAPPED_FROM = 64 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of the C library's mallopt


@dataclass
class Peak:
    """Filled at the end of `peak_memory`: how far memory rose above its level at the start."""

    mib: float = math.nan


def resident_bytes(entry: str) -> int:
    """An entry of /proc/self/status in bytes, such as VmRSS (resident now) or VmHWM (resident at the peak).

    Raises RuntimeError where the system does not tell, as outside Linux.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {entry} in {status}: memory of the processor is measured on Linux only")


def reading_error_mib() -> float:
    """How far two readings may be off together, MiB, on CPU.

    Linux counts a process's pages per core, in batches of max(32, 2 cores) pages that a reading does not see; the C
    library's heap grows by 128 KiB at a time.
    """
    cores = os.cpu_count() or 1
    return (2 * cores * max(32, 2 * cores) * resource.getpagesize() + 128 * 1024) / MIB


@contextmanager
def peak_memory(device: str = "cpu") -> Iterator[Peak]:
    """Measure how far this process's memory rises while the block runs."""
    peak = Peak()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        torch.cuda.synchronize()
        peak.mib = (torch.cuda.max_memory_allocated() - before) / MIB
    else:
        before = resident_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to the present level
        yield peak
        peak.mib = max(resident_bytes("VmHWM") - before, 0) / MIB


def map_blocks_separately() -> None:
    """Have the C library map each block above 64 KiB on its own and hand it back when freed (GNU libc only)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
        mallopt(M_TRIM_THRESHOLD, MAPPED_FROM)


def limit_memory(device: str, memory_mib: float) -> None:
    """Make allocations that exceed what is held now by the budget fail, instead of bringing the machine down."""
    allowed = int(memory_mib * MIB)
    if device == "cuda":
        allowed += torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction(min(allowed / torch.cuda.mem_get_info()[1], 1.0))
    else:
        limit = resident_bytes("VmData") + allowed
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
