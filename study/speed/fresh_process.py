"""One measurement in a process of its own: time and peak memory of a call, within limits.

Time is the median over blocks of repeated calls (the framework's benchmark timer, which warms up first), under the
C library's own allocation defaults; a call that lasts as long as many blocks is timed once. Memory is the peak above
what is held before the call (inputs and parameters): on CPU the rise of the process's resident high-water mark, with
every block above 64 KiB mapped on its own so that freed memory counts no longer; on CUDA the allocator's peak.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

import numpy as np
import torch
from torch.utils.benchmark import Timer, timer

from study.speed.memory import MIB, limit_memory, map_blocks_separately, peak_memory
from study.speed.workload import Configuration, prepare, small

START_SECONDS = 60.0
LONG_CALL = 10  # blocks: a call that lasts as long has settled within itself
# What children need, so that they import nothing: the framework's first backward pass imports symbolic_shapes.
# Not study.speed.measure, which a command line runs as its main module.
PRELOAD = [f"study.{name}" for name in ("report", "speed.epoch_profile", "speed.fresh_process", "speed.streaming")]
PRELOAD.append("torch.fx.experimental.symbolic_shapes")
Result = TypeVar("Result")


class ProcessDied(RuntimeError):
    """A process ended without a result; `status` is its exit status, negative for a signal."""

    def __init__(self, status: int | None):
        super().__init__(f"the process died with status {status}")
        self.status = status


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

    Raises the framework's error when memory runs out.
    """
    torch.set_num_threads(configuration.threads)
    if quantity == "memory":
        map_blocks_separately()
    prepare(small(configuration))()
    run = prepare(configuration)
    limit_memory(configuration.device, budget.memory_mib)
    if quantity == "memory":
        with peak_memory(configuration.device) as peak:
            run()
        return {"peak_memory_mib": peak.mib}
    blocks = block_times(run, configuration.threads, budget.block_seconds)
    low, median, high = (float(1000 * np.quantile(blocks, share)) for share in (0.25, 0.5, 0.75))
    return {"time_ms": median, "time_ms_low": low, "time_ms_high": high}


def block_times(run: Callable[[], object], threads: int, block_seconds: float) -> list[float]:
    """Seconds of a call in each block of calls, or of the first call alone if it lasts as long as many blocks."""
    started = timer()
    run()
    first = timer() - started
    if first > LONG_CALL * block_seconds:
        return [first]
    blocks = Timer("run()", globals={"run": run}, num_threads=threads)
    return blocks.blocked_autorange(min_run_time=block_seconds).times


def send_result(sender: Connection, function: Callable[..., object], arguments: tuple) -> None:
    """What the fresh process does: send whether the function worked, and its result or an error with the traceback."""
    try:
        sender.send((True, function(*arguments)))
    except Exception as error:
        kind = MemoryError if out_of_memory(error) else RuntimeError
        sender.send((False, kind(traceback.format_exc())))


def apart(function: Callable[..., Result], *arguments: object, patience: float | None = None) -> Result:
    """The function's result from a process of its own, forked from a server that has imported all and computed nothing.

    Raises TimeoutError after `patience` seconds, MemoryError when memory ran out there, ProcessDied, or RuntimeError
    with the traceback of another error there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_result, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(patience):
            raise TimeoutError(f"no result within {patience:g} s")
        worked, outcome = receiver.recv()
    except EOFError:
        process.join()
        # The signal that the kernel sends when the machine's memory runs out.
        killed = process.exitcode == -signal.SIGKILL
        raise (MemoryError("the process was killed") if killed else ProcessDied(process.exitcode)) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if not worked:
        raise outcome
    return outcome


def measure_apart(configuration: Configuration, quantity: str, budget: Budget) -> dict[str, float]:
    """Metric to value from a process of its own.

    A call that takes far beyond its budget is ended: `skipped_time` (seconds that were not enough) or `skipped_memory`
    (bytes that were not enough). Raises RuntimeError with the process's traceback, or its exit status if it died.
    """
    patience = START_SECONDS + budget.block_seconds + 4 * budget.seconds
    try:
        return apart(measure_here, configuration, quantity, budget, patience=patience)
    except TimeoutError:
        return {"skipped_time": patience}
    except MemoryError:
        return {"skipped_memory": budget.memory_mib * MIB}
    except RuntimeError as error:
        raise RuntimeError(f"{configuration}: {error}") from None
