"""Time and peak memory of calls, each in a fresh process, interleaved in rounds, results kept so that a run resumes.

Time is the median over blocks of repeated calls after a warm-up, under the C library's own allocation defaults; a call
that lasts as long as many blocks is timed once. Memory is the peak above what is held before the call: on CPU the rise
of the process's resident high-water mark, with every block above 64 KiB mapped on its own so that freed memory counts
no longer; on CUDA the allocator's peak.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from torch.utils.benchmark import Timer, timer
from tqdm import tqdm

from lib.dependencies import code_hash, mechanism_files, modules
from lib.paths import MEASUREMENTS
from lib.storage import read_checksummed, write_checksummed
from study.mechanisms import OWN
from study.provenance import processor
from study.speed.fresh_process import MIB, limit_memory, map_blocks_separately, peak_mib, run_in_fresh_process
from study.speed.workload import Configuration, prepare

LOCAL = MEASUREMENTS / "local"
SETTINGS = [field.name for field in fields(Configuration)]
START_SECONDS = 60.0
LONG_CALL = 10  # blocks: a call that lasts as long has settled within itself
Rounds = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Budget:
    """How often and how long to measure: `seconds` and `memory_mib` bound one call, `block_seconds` one timing."""

    rounds: int = 3
    block_seconds: float = 0.2
    seconds: float = 60.0
    memory_mib: float = 8192.0


def measure(configurations: Iterable[Configuration], budget: Budget, cache: Path = LOCAL) -> pd.DataFrame:
    """One row per configuration, round and metric; rounds that earlier runs kept under `cache` are not measured again.

    Rounds go over all configurations in turn, shortest first, so that a machine that drifts drifts for all of them.
    What exceeds its budget in every round has a row too: `skipped_memory` (bytes) or `skipped_time` (seconds).
    """
    ordered = sorted(dict.fromkeys(configurations), key=lambda configuration: configuration.length)
    machines = {device: fingerprint(device) for device in {each.device for each in ordered}}
    paths = {each: kept_at(each, budget.block_seconds, machines[each.device], cache) for each in ordered}
    results = {each: load_kept(path) for each, path in paths.items()}
    skips: dict[Configuration, dict[str, float]] = {}
    failed: set[Configuration] = set()
    turns = [(number, each) for number in range(budget.rounds) for each in ordered]
    for number, each in tqdm(turns, desc="measuring", unit="process", disable=None, leave=False):
        rounds = results[each]
        if number in rounds or each in failed:
            continue
        # Judged again in every round, by what is known then; a skip is not kept, because it depends on the budget.
        skip = beyond_budget(each, results, budget)
        if not skip:
            try:
                rounds[number] = measure_round(each, number < min(rounds, default=budget.rounds), budget)
                write_checksummed(paths[each], json.dumps(rounds).encode())
                continue
            except TimeoutError:
                skip = {"skipped_time": patience(budget)}
            except MemoryError:
                skip = {"skipped_memory": budget.memory_mib * MIB}
            failed.add(each)
        skips[each] = skip
    rows = []
    for each in ordered:
        used = {number: found for number, found in sorted(results[each].items()) if number < budget.rounds}
        for number, metrics in (used or {0: skips[each]}).items():
            rows += [(*asdict(each).values(), number, *pair) for pair in metrics.items()]
    return pd.DataFrame(rows, columns=[*SETTINGS, "round", "metric", "value"])


def fingerprint(device: str) -> str:
    """A hash of the hardware, of the code whose speed is measured and of the code that measures it."""
    code = code_hash([Path(__file__), *modules(Path(__file__))])
    return hashlib.sha256(json.dumps([hardware(device), code], sort_keys=True).encode()).hexdigest()


def hardware(device: str = "cpu") -> dict[str, object]:
    """What a measurement depends on besides code and configuration."""
    facts = {
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "torch": torch.__version__,
    }
    return facts | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def kept_at(configuration: Configuration, block_seconds: float, machine: str, cache: Path) -> Path:
    """The file of a configuration's results: a readable name, then a hash of configuration, code and hardware."""
    own = code_hash(mechanism_files(OWN[configuration.mechanism])) if configuration.mechanism in OWN else ""
    facts = json.dumps([asdict(configuration), block_seconds, machine, own], sort_keys=True)
    parts = (configuration.mechanism, configuration.scope, configuration.direction, configuration.length)
    return cache / f"{'-'.join(map(str, parts))}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.json"


def load_kept(path: Path) -> Rounds:
    """The rounds of earlier runs; none, and a line on stderr, where the file is damaged."""
    content = read_checksummed(path)
    return {} if content is None else {int(number): metrics for number, metrics in json.loads(content).items()}


def beyond_budget(configuration: Configuration, results: dict[Configuration, Rounds], budget: Budget) -> dict:
    """The skip of a configuration that will not fit, judged by shorter ones and by its matrices; empty if it may.

    Other work on the machine makes calls slower, never faster: the least time predicted counts, so that one slow
    measurement does not rule out longer calls. Memory does not vary: the longest length predicts it best.
    """
    shorter = {
        configuration.length / other.length: rounds.values()
        for other, rounds in results.items()
        if other.length < configuration.length and replace(other, length=configuration.length) == configuration
    }
    order = 2 if configuration.mechanism.endswith("softmax") else 1
    times = [found["time_ms"] * ratio**order / 1000 for ratio, rounds in shorter.items() for found in rounds]
    metric = "peak_memory_mib"  # measured in one round only
    memory = [found[metric] * ratio for ratio, rounds in shorter.items() for found in rounds if metric in found]
    seconds, needed = min(times, default=0.0), (memory or [0.0])[-1] * MIB
    if configuration.mechanism == "explicit_softmax":
        matrices = 2 if configuration.direction == "forward" else 3
        needed = max(needed, float(matrices * configuration.matrix_bytes))
    if needed > budget.memory_mib * MIB:
        return {"skipped_memory": needed}
    return {"skipped_time": seconds} if seconds > budget.seconds else {}


def patience(budget: Budget) -> float:
    """Seconds after which a call is ended."""
    return START_SECONDS + budget.block_seconds + 4 * budget.seconds


def measure_round(configuration: Configuration, first: bool, budget: Budget) -> dict[str, float]:
    """Metric to value: memory in the first round, time in every round, each from a process of its own.

    Raises TimeoutError or MemoryError for a call that takes far beyond its budget, RuntimeError with the process's
    traceback, or its exit status if it died.
    """
    metrics: dict[str, float] = {}
    try:
        for quantity in ("memory", "time") if first else ("time",):
            given = (configuration, quantity, budget)
            metrics |= run_in_fresh_process(measure_here, *given, patience=patience(budget))
    except RuntimeError as error:
        raise RuntimeError(f"{configuration}: {error}") from None
    return metrics


def measure_here(configuration: Configuration, quantity: str, budget: Budget) -> dict[str, float]:
    """Metric to value for `quantity` (`time` or `memory`), in this process, which should be a fresh one."""
    torch.set_num_threads(configuration.threads)
    if quantity == "memory":
        map_blocks_separately()
    # The same code over few events: what a first call allocates once is then allocated.
    prepare(replace(configuration, length=min(configuration.length, 2 * configuration.segment)))()
    run = prepare(configuration)
    limit_memory(configuration.device, budget.memory_mib)
    if quantity == "memory":
        return {"peak_memory_mib": peak_mib(run, device=configuration.device)}
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


def other_hardware(folder: Path = MEASUREMENTS) -> dict[str, pd.DataFrame]:
    """Rows kept from other machines, by the name of their folder: every CSV file beside a `hardware.json`."""
    machines = [path.parent for path in sorted(folder.glob("*/hardware.json")) if path.parent.name != LOCAL.name]
    return {
        machine.name: pd.concat(map(pd.read_csv, sorted(machine.glob("*.csv"))), ignore_index=True)
        for machine in machines
    }
