"""Time and peak memory of calls, each in a fresh process, interleaved in rounds, results kept so that a run resumes.

Time is the median over blocks of repeated calls (the framework's benchmark timer, which warms up first), under the
C library's own allocation defaults; a call that lasts as long as many blocks is timed once. Memory is the peak above
what is held before the call (inputs and parameters): on CPU the rise of the process's resident high-water mark, with
every block above 64 KiB mapped on its own so that freed memory counts no longer; on CUDA the allocator's peak.

Rounds go over all configurations in turn, shortest first, so that a machine that drifts drifts for all of them. A
configuration that would exceed its budget is a row too: `skipped_memory` (bytes) or `skipped_time` (seconds).
"""

import hashlib
import json
import os
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

    What was not measured in any round has its skip as a row. Skips are not kept, because they depend on the budget, and
    one that was only predicted is judged again in every round, by what is known then.
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
        found = beyond_budget(each, results, budget)
        if not found:
            found = measure_round(each, number < min(rounds, default=budget.rounds), budget)
            failed |= {each} if is_skip(found) else set()
        if is_skip(found):
            skips[each] = found
        else:
            rounds[number] = found
            write_checksummed(paths[each], json.dumps(rounds).encode())
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
    allocator = {name: text for name, text in sorted(os.environ.items()) if name.startswith("MALLOC_")}
    facts = {
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "torch": torch.__version__,
    }
    facts |= {"allocator": allocator} if allocator else {}
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
    quadratic = configuration.mechanism.endswith("softmax")
    seconds = min(predictions("time_ms", configuration, results, 2 if quadratic else 1), default=0.0) / 1000
    needed = (predictions("peak_memory_mib", configuration, results, 1) or [0.0])[-1] * MIB
    if configuration.mechanism == "explicit_softmax":
        matrices = 2 if configuration.direction == "forward" else 3
        needed = max(needed, float(matrices * configuration.matrix_bytes))
    if needed > budget.memory_mib * MIB:
        return {"skipped_memory": needed}
    return {"skipped_time": seconds} if seconds > budget.seconds else {}


def predictions(
    metric: str, configuration: Configuration, results: dict[Configuration, Rounds], order: int
) -> list[float]:
    """What `metric` will be if it grows with a power of length, from every round of every shorter length measured."""
    return [
        metrics[metric] * (configuration.length / other.length) ** order
        for other, rounds in results.items()
        if other.length < configuration.length and replace(other, length=configuration.length) == configuration
        for metrics in rounds.values()
        if metric in metrics
    ]


def is_skip(metrics: dict[str, float]) -> bool:
    """Whether the metrics say why there is no measurement."""
    return any(metric.startswith("skipped") for metric in metrics)


def measure_round(configuration: Configuration, first: bool, budget: Budget) -> dict[str, float]:
    """Metric to value: memory in the first round, time in every round, each from a process of its own.

    A call that takes far beyond its budget is ended: `skipped_time` (seconds that were not enough) or `skipped_memory`
    (bytes that were not enough) alone. Raises RuntimeError with the process's traceback, or its exit status if it died.
    """
    metrics: dict[str, float] = {}
    patience = START_SECONDS + budget.block_seconds + 4 * budget.seconds
    try:
        for quantity in ("memory", "time") if first else ("time",):
            metrics |= run_in_fresh_process(measure_here, configuration, quantity, budget, patience=patience)
    except TimeoutError:
        return {"skipped_time": patience}
    except MemoryError:
        return {"skipped_memory": budget.memory_mib * MIB}
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
    """Rows kept from other machines, by the name of their folder: every CSV and Parquet file beside a `hardware.json`.

    Raises FileNotFoundError for a `hardware.json` without rows.
    """
    found = {}
    for machine in sorted(path.parent for path in folder.glob("*/hardware.json") if path.parent.name != LOCAL.name):
        tables = [pd.read_csv(path) for path in sorted(machine.glob("*.csv"))]
        tables += [pd.read_parquet(path) for path in sorted(machine.glob("*.parquet"))]
        if not tables:
            raise FileNotFoundError(f"{machine}: a hardware.json without rows")
        found[machine.name] = pd.concat(tables, ignore_index=True)
    return found
