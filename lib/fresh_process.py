"""One measurement in a process of its own: time and peak memory of a call, within limits.

Time is the median over blocks of repeated calls (the framework's benchmark timer, which warms up first), under the
C library's own allocation defaults. Memory is the peak above what is held before the call (inputs and parameters): on
CPU the rise of the process's resident high-water mark, with every block above 64 KiB mapped on its own so that freed
memory counts no longer; on CUDA the allocator's peak.
"""

import multiprocessing
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch.utils.benchmark import Timer

from lib.memory import MIB, limit_memory, map_blocks_separately, peak_memory
from lib.workload import Configuration, prepare, small

START_SECONDS = 60.0


@dataclass(frozen=True)
class Budget:
    """How often and how long to measure: `seconds` and `memory_mib` bound one call, `block_seconds` one timing."""

    rounds: int = 3
    block_seconds: float = 0.2
    seconds: float = 60.0
    memory_mib: float = 8192.0


def out_of_memory(error: Exception) -> bool:
    """Whether the framework says that an allocation failed; on CPU it does so in words only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def measure_here(configuration: Configuration, quantity: str, budget: Budget) -> dict[str, float]:
    """Metric to value for `quantity` (`time` or `memory`), measured in this process, which should be a fresh one.

    What cannot be had is a metric too: `skipped_memory` (bytes that were not enough) or `skipped_not_installed`.
    """
    torch.set_num_threads(configuration.threads)
    if quantity == "memory":
        map_blocks_separately()
    try:
        prepare(small(configuration))()
        run = prepare(configuration)
        limit_memory(configuration.device, budget.memory_mib)
        if quantity == "memory":
            with peak_memory(configuration.device) as peak:
                run()
            return {"peak_memory_mib": peak.mib}
        timer = Timer("run()", globals={"run": run}, num_threads=configuration.threads)
        blocks = timer.blocked_autorange(min_run_time=budget.block_seconds).times
    except ModuleNotFoundError:
        return {"skipped_not_installed": 1.0}
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            return {"skipped_memory": budget.memory_mib * MIB}
        raise
    low, median, high = (float(1000 * np.quantile(blocks, share)) for share in (0.25, 0.5, 0.75))
    return {"time_ms": median, "time_ms_low": low, "time_ms_high": high}


def report_back(sender: Connection, configuration: Configuration, quantity: str, budget: Budget) -> None:
    """What the fresh process does: measure, and send the metrics or the traceback."""
    try:
        sender.send(measure_here(configuration, quantity, budget))
    except Exception:
        sender.send(traceback.format_exc())


def measure_apart(configuration: Configuration, quantity: str, budget: Budget) -> dict[str, float]:
    """Metric to value from a process of its own, forked from a server that has imported all and computed nothing.

    A call that takes far beyond its budget is ended: `skipped_time` (seconds that were not enough). Raises RuntimeError
    with the process's traceback, or its exit status if it died.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lib.measure"])  # the widest importer: a child then imports nothing
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=report_back, args=(sender, configuration, quantity, budget), daemon=True)
    process.start()
    sender.close()
    patience = START_SECONDS + budget.block_seconds + 4 * budget.seconds
    try:
        outcome = receiver.recv() if receiver.poll(patience) else {"skipped_time": patience}
    except EOFError:
        process.join()
        if process.exitcode != -signal.SIGKILL:  # the signal that the kernel sends when the machine's memory runs out
            raise RuntimeError(f"{configuration}: the process died with status {process.exitcode}") from None
        outcome = {"skipped_memory": budget.memory_mib * MIB}
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(outcome, str):
        raise RuntimeError(f"{configuration}:\n{outcome}")
    return outcome
