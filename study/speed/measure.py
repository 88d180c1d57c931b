"""Time and peak memory of calls, each in a fresh process, interleaved in rounds, results kept so that a run resumes.

Time is the median over blocks of calls after a warm-up. Memory is the peak above what is held before the call: on CPU
the rise of the process's resident high-water mark, with every block above 64 KiB mapped on its own so that freed memory
counts no longer; on CUDA the allocator's peak.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from timeit import repeat

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor
from torch.utils.benchmark import timer
from tqdm import tqdm

from lib.dependencies import code_hash, mechanism_files, modules
from lib.storage import MEASUREMENTS, read_checksummed, write_checksummed
from lib.training.classifier import Encoder, ModelConfig, build_attention
from study.mechanisms import MECHANISMS, OWN
from study.provenance import processor
from study.speed.fresh_process import MIB, limit_memory, map_blocks, peak_mib, run_in_fresh_process

MODULES = ("explicit_softmax", *MECHANISMS)
DIRECTIONS = ("forward", "training")
LOCAL = MEASUREMENTS / "local"
BLOCKS = 5  # of a timing
LONG_CALL = 10  # timings: a call that lasts as long has settled within itself
START_SECONDS, PATIENCE = 60.0, 4  # after a start and so many times its budget a call is ended
Rounds = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Configuration:
    """One thing to measure; a mechanism ignores the settings that are not its own."""

    mechanism: str
    scope: str = "attention"  # one layer with its projections, or "encoder": the source study's
    direction: str = "forward"  # without gradients, or "training": forward and backward
    length: int = 1024
    batch: int = 1
    heads: int = 4
    head_dim: int = 16
    features: int = 64
    basis: int = 64
    segment: int = 128
    sampling: str = "sticky"
    causal: bool = False
    device: str = "cpu"
    seed: int = 0


def grid(base: Configuration, **values: Sequence) -> list[Configuration]:
    """The base with every combination of the given values of its settings."""
    return [replace(base, **dict(zip(values, chosen, strict=True))) for chosen in product(*values.values())]


@dataclass(frozen=True)
class Budget:
    """How often and how long to measure: `seconds` and `memory_mib` bound one call, `block_seconds` one timing."""

    rounds: int = 3
    block_seconds: float = 0.2
    seconds: float = 60.0
    memory_mib: float = 8192.0


def measure(configurations: Iterable[Configuration], budget: Budget, cache: Path = LOCAL) -> pd.DataFrame:
    """One row per configuration, round and metric; rounds that earlier runs kept under `cache` are not measured again.

    Rounds go over all configurations in turn, shortest first, so that a machine that drifts drifts for all of them;
    memory is measured in the first. What exceeds its budget in every round has a row too: `skipped_memory` (bytes) or
    `skipped_time` (seconds).
    """
    ordered = sorted(dict.fromkeys(configurations), key=lambda configuration: configuration.length)
    paths = {each: kept_at(each, budget.block_seconds, cache) for each in ordered}
    results: dict[Configuration, Rounds] = {}
    for each, path in paths.items():
        kept = json.loads(read_checksummed(path) or "{}")
        results[each] = {int(number): metrics for number, metrics in kept.items()}
    failed: dict[Configuration, dict[str, float]] = {}
    patience = START_SECONDS + PATIENCE * budget.seconds
    turns = [(number, each) for number in range(budget.rounds) for each in ordered]
    for number, each in tqdm(turns, desc="measuring", unit="process", disable=None, leave=False):
        rounds = results[each]
        # Judged again in every round, by what is known then; a skip is not kept, because it depends on the budget.
        if number in rounds or each in failed or too_slow(each, results, budget):
            continue
        metrics: dict[str, float] = {}
        first = number < min(rounds, default=budget.rounds)
        try:
            for quantity in ("memory", "time") if first else ("time",):
                metrics |= run_in_fresh_process(measure_here, each, quantity, budget, patience=patience)
            rounds[number] = metrics
            write_checksummed(paths[each], json.dumps(rounds).encode())
        except TimeoutError:
            failed[each] = {"skipped_time": PATIENCE * budget.seconds}
        except MemoryError:
            failed[each] = {"skipped_memory": budget.memory_mib * MIB}
    rows = []
    for each in ordered:
        used = {number: found for number, found in sorted(results[each].items()) if number < budget.rounds}
        skip = failed.get(each) or too_slow(each, results, budget)
        for number, metrics in (used or {0: skip}).items():
            rows += [(*asdict(each).values(), number, *pair) for pair in metrics.items()]
    return pd.DataFrame(rows, columns=[*Configuration.__dataclass_fields__, "round", "metric", "value"])


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


def kept_at(configuration: Configuration, block_seconds: float, cache: Path) -> Path:
    """The file of a configuration's results: a readable name, then a hash of settings, hardware and all code used."""
    code = code_hash([Path(__file__), *modules(Path(__file__))])
    own = code_hash(mechanism_files(OWN[configuration.mechanism])) if configuration.mechanism in OWN else ""
    facts = [asdict(configuration), block_seconds, hardware(configuration.device), code, own]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    parts = (configuration.mechanism, configuration.scope, configuration.direction, configuration.length, digest[:12])
    return cache / f"{'-'.join(map(str, parts))}.json"


def too_slow(configuration: Configuration, results: dict[Configuration, Rounds], budget: Budget) -> dict[str, float]:
    """The skip of a configuration that will take too long, judged by shorter ones; empty if it may not."""
    # Other work makes calls slower, never faster: the least time counts, so that one slow call rules nothing out.
    order = 2 if configuration.mechanism.endswith("softmax") else 1
    times = [
        found["time_ms"] * (configuration.length / other.length) ** order / 1000
        for other, rounds in results.items()
        if other.length < configuration.length and replace(other, length=configuration.length) == configuration
        for found in rounds.values()
    ]
    seconds = min(times, default=0.0)
    return {"skipped_time": seconds} if seconds > budget.seconds else {}


def measure_here(configuration: Configuration, quantity: str, budget: Budget) -> dict[str, float]:
    """Metric to value for `quantity` (`time` or `memory`), in this process, which should be a fresh one."""
    torch.set_num_threads(1)
    if quantity == "memory":
        map_blocks()
    # The same code over few events: what a first call allocates once is then allocated.
    prepare(replace(configuration, length=min(configuration.length, 2 * configuration.segment)))()
    run = prepare(configuration)
    limit_memory(configuration.device, budget.memory_mib)
    if quantity == "memory":
        return {"peak_memory_mib": peak_mib(run, configuration.device)}
    low, median, high = 1000 * np.quantile(block_times(run, budget.block_seconds), (0.25, 0.5, 0.75))
    return {"time_ms": float(median), "time_ms_low": float(low), "time_ms_high": float(high)}


def prepare(configuration: Configuration) -> Callable[[], object]:
    """The call to measure and nothing else: a forward pass without gradients, or forward and backward."""
    layer, events = build(configuration)

    @torch.no_grad()
    def forward() -> Tensor:
        return layer(events)[0]

    if configuration.direction == "forward":
        return forward
    upstream, leaves = torch.ones_like(events), (events.requires_grad_(), *layer.parameters())

    def training() -> tuple[Tensor | None, ...]:
        output, regulariser = layer(events)
        if not regulariser.requires_grad:
            return torch.autograd.grad(output, leaves, upstream, allow_unused=True)
        return torch.autograd.grad([output, regulariser], leaves, [upstream, None], allow_unused=True)

    return training


def build(configuration: Configuration) -> tuple[torch.nn.Module, Tensor]:
    """The layer or encoder, in evaluation mode, and random events for it."""
    alike = ("heads", "features", "basis", "segment", "sampling")
    config = ModelConfig(
        attention=OWN.get(configuration.mechanism, configuration.mechanism),
        model_dim=configuration.heads * configuration.head_dim,
        layers=2,
        feedforward_dim=512,
        dropout=0.0,
        **{name: getattr(configuration, name) for name in alike},
    )
    generator = torch.Generator().manual_seed(configuration.seed)
    with torch.random.fork_rng():
        torch.manual_seed(configuration.seed)
        if configuration.scope == "encoder":
            layer = Encoder(config, generator)
        else:
            layer = build_attention(config, generator, configuration.causal)
    events = torch.randn(configuration.batch, configuration.length, config.model_dim, generator=generator)
    return layer.to(configuration.device).eval(), events.to(configuration.device)


def block_times(run: Callable[[], object], block_seconds: float) -> list[float]:
    """Seconds of a call in each block of calls, or of the first call alone if it lasts as long as many blocks."""
    (first,) = repeat(run, timer=timer, repeat=1, number=1)
    if first > LONG_CALL * block_seconds:
        return [first]
    number = max(round(block_seconds / BLOCKS / first), 1)
    return [seconds / number for seconds in repeat(run, timer=timer, repeat=BLOCKS, number=number)]
