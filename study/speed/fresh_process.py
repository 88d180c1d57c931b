"""A call in a process of its own, and that process's memory: its peak, and a limit to it."""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

MIB = 2**20


def run_in_fresh_process(function: Callable, *arguments: object, patience: float | None = None) -> object:
    """The function's result from a process forked from a server that has imported all and computed nothing.

    Raises TimeoutError after `patience` seconds, MemoryError when memory ran out there, RuntimeError for other ends.
    """
    context = multiprocessing.get_context("forkserver")
    # What this process has imported, and what the framework imports in its first backward pass.
    ours = sorted(name for name in sys.modules if name.startswith(("lib.", "study.")))
    context.set_forkserver_preload([*ours, "torch.fx.experimental.symbolic_shapes"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(patience):
            raise TimeoutError(f"no result within {patience:g} s")
        worked, outcome = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:  # what the kernel sends when the machine's memory runs out
            raise MemoryError("the process was killed") from None
        raise RuntimeError(f"the process died with status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if not worked:
        raise outcome
    return outcome


def _send_result(sender: Connection, function: Callable[..., object], arguments: tuple) -> None:
    try:
        sender.send((True, function(*arguments)))
    except Exception as error:
        # On CPU the framework says in words only that an allocation failed.
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        sender.send((False, (MemoryError if short else RuntimeError)(traceback.format_exc())))


def peak_mib(run: Callable[[], object], device: str = "cpu") -> float:
    """How far this process's memory rises at its peak during the call, MiB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to the present level
    run()
    return max(resident_bytes("VmHWM") - before, 0) / MIB


def resident_bytes(entry: str) -> int:
    """An entry of Linux's /proc/self/status in bytes, such as VmRSS (resident now) or VmHWM (resident at the peak)."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise RuntimeError(f"no {status}: memory of the processor is measured on Linux only")
    lines = status.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


def reading_error() -> float:
    """How far two readings may be off together, MiB, on CPU."""
    # Linux counts a process's pages per core, in batches that a reading does not see; the heap grows by 128 KiB.
    cores = os.cpu_count() or 1
    return (2 * cores * max(32, 2 * cores) * resource.getpagesize() + 128 * 1024) / MIB


def map_blocks() -> None:
    """Have the C library map each block above 64 KiB on its own and hand it back when freed (GNU libc only)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: None)
    for option in (-3, -1):  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
        mallopt(option, 64 * 1024)


def limit_memory(device: str, memory_mib: float) -> None:
    """Make allocations that exceed what is held now by the budget fail, instead of bringing the machine down."""
    allowed = int(memory_mib * MIB)
    if device == "cuda":
        allowed += torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction(min(allowed / torch.cuda.mem_get_info()[1], 1.0))
    else:
        limit = resident_bytes("VmData") + allowed
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
