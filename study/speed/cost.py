"""What training costs: seconds, peak memory and real events per second, and where an epoch spends its time."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
from scipy import sparse
from sklearn.base import BaseEstimator
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.profiler import ProfilerActivity, profile, record_function
from tqdm import tqdm

from lib.attention.mechanism import MultiHeadAttention
from lib.data.batches import collate, length_batches, random_slices
from lib.data.histories import Histories
from lib.training.classifier import MECHANISMS, ByteDropout, ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.speed.fresh_process import map_blocks_separately, peak_mib, run_in_fresh_process

TIMED_EPOCHS = 3
# Modules whose forward pass is marked for the profiler, each as a part of its own.
MARKS = {MultiHeadAttention: "attention", ByteDropout: "dropout"}
BACKWARD = "autograd::engine::evaluate_function"
PRODUCTS = {"aten::linear", "aten::matmul", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
# Of an epoch, in the order in which they are stacked; `between` is Python between the framework's operations.
PARTS = ("attention", "matrix_products", "dropout", "other_operations", "optimizer", "data_path", "between")
# Goals: the least share of attention and matrix products together, and the most that the data path may take.
PRODUCTS_GOAL, DATA_GOAL = 0.7, 0.05


def training_cost(
    histories: Histories, customers: np.ndarray, model: ModelConfig, config: TrainConfig
) -> dict[str, float]:
    """Median seconds of an epoch over these customers, and the rise of resident memory while one is trained, MiB.

    Each in a process of its own after a warm-up; missing where the machine's memory ran out.
    """
    given = (histories, customers, model, config)
    return {
        "epoch_seconds": _or_missing(_epoch_seconds, *given),
        "peak_memory_mib": _or_missing(_rise, _train_epoch, *given),
    }


def fitting_cost(model: BaseEstimator, table: np.ndarray | sparse.csr_array, labels: np.ndarray) -> dict[str, float]:
    """The same of one whole fit of a classical model."""
    return {
        "epoch_seconds": _or_missing(_seconds, model.fit, table, labels),
        "peak_memory_mib": _or_missing(_rise, model.fit, table, labels),
    }


def _or_missing(function: Callable[..., float], *arguments: object) -> float:
    try:
        return run_in_fresh_process(function, *arguments)
    except MemoryError:
        return math.nan


def _epoch_seconds(histories, customers, model, config) -> float:
    _, history = train(histories, customers, model, replace(config, epochs=1 + TIMED_EPOCHS), 0, "cost")
    return float(history["seconds"].iloc[1:].median())


def _train_epoch(histories, customers, model, config) -> None:
    train(histories, customers, model, replace(config, epochs=1), 0, "cost")


def _seconds(work, *arguments) -> float:
    work(*arguments)
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def _rise(work, *arguments) -> float:
    map_blocks_separately()
    work(*arguments)
    return peak_mib(work, *arguments)


def profiles(histories: Histories, customers: np.ndarray, epochs: int, experiment: str) -> pd.DataFrame:
    """The profile of every mechanism, each in a process of its own, in the study's one table shape.

    One that the machine's memory does not allow has `skipped_memory` (bytes that were not enough) instead.
    """
    parts = []
    for mechanism in tqdm(MECHANISMS, desc="profiling", unit="mechanism", disable=None, leave=False):
        arguments = (histories, customers, ModelConfig(attention=mechanism), TrainConfig(), epochs)
        try:
            rows = run_in_fresh_process(profile_here, *arguments)
        except MemoryError:
            rows = [(0, "skipped_memory", float(psutil.virtual_memory().total))]
        parts.append(pd.DataFrame(rows, columns=["seed", "metric", "value"]).assign(model=mechanism))
    facts = {"experiment": experiment, "task": histories.task, "split": "training", "axis": "epoch_profile"}
    return pd.concat(parts, ignore_index=True).assign(**facts, x=np.nan)


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares and speed over epochs, a column per metric and a line per mechanism that was profiled."""
    names = ["events_per_second", "padding_share", *(f"{part}_share" for part in PARTS)]
    table = rows.groupby(["model", "metric"])["value"].median().unstack().reindex(columns=names).dropna()
    return table.loc[[mechanism for mechanism in MECHANISMS if mechanism in table.index]]


def profile_here(
    histories: Histories, customers: np.ndarray, model: ModelConfig, config: TrainConfig, epochs: int
) -> list[tuple[int, str, float]]:
    """Seed, metric and value, in this process, which should be a fresh one.

    First the speed, over epochs after a warm-up; then the shares, in epochs under the profiler, which slows small
    operations down and so counts them for more. The share of the data path is that of an epoch without the profiler.
    """
    _, history = train(histories, customers, model, replace(config, epochs=1 + epochs), 0, f"{model.attention} speed")
    batches = data_path(histories, customers, config, 0, 1 + epochs)[1:]
    rows = []
    for number, (seconds, (spent, events, places)) in enumerate(zip(history["seconds"].iloc[1:], batches, strict=True)):
        rows += [(number, "events_per_second", events / seconds), (number, "padding_share", 1 - events / places)]
        with modules_marked(), profile(activities=[ProfilerActivity.CPU]) as profiler:
            _, profiled = train(histories, customers, model, replace(config, epochs=1), number, "profile")
        whole = float(profiled["seconds"].iloc[0])
        parts = {name: value / whole for name, value in seconds_by_part(profiler.events()).items()}
        parts["data_path"] = spent / seconds
        parts["between"] = 1 - sum(parts.values())
        rows += [(number, f"{part}_share", parts[part]) for part in PARTS]
    return rows


def data_path(
    histories: Histories, customers: np.ndarray, config: TrainConfig, seed: int, epochs: int
) -> list[tuple[float, int, int]]:
    """Seconds, real events and padded places of the batches that `train` makes in each epoch, and nothing else."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(epochs):
        started = time.perf_counter()
        starts, lengths = random_slices(histories, customers, config.max_events, config.shortest_slice, generator)
        groups = length_batches(lengths, config.batch_size, generator)
        places = sum(collate(histories, customers[g], starts[g], lengths[g]).key_mask.numel() for g in groups)
        found.append((time.perf_counter() - started, int(lengths.sum()), places))
    return found


@contextmanager
def modules_marked() -> Iterator[None]:
    """Mark the forward pass of every module of `MARKS` for the profiler."""
    open_marks: list[record_function] = []

    def enter(module: nn.Module, inputs: object) -> None:
        for kind, name in MARKS.items():
            if isinstance(module, kind):
                open_marks.append(record_function(name))
                open_marks[-1].__enter__()

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(module, tuple(MARKS)):
            open_marks.pop().__exit__(None, None, None)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def seconds_by_part(events: list[FunctionEvent]) -> dict[str, float]:
    """Seconds of all operations, each counted to what it is or is part of; a call inside another is counted once."""
    nodes = marked_nodes(events)
    seconds = dict.fromkeys(PARTS[:-2], 0.0)
    for event in events:
        parts = [part_of(each, nodes) for each in (event, *callers(event))]
        known = [part for part in parts if part != "other_operations"]
        seconds[known[-1] if known else "other_operations"] += event.self_cpu_time_total / 1e6
    return seconds


def marked_nodes(events: list[FunctionEvent]) -> dict[int, str | None]:
    """For every autograd node, by sequence number, the mark that it was made inside.

    An operation carries the number of the next node to be made, so the last one with a number is the one that made it.
    """
    nodes = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        names = [event.name, *(caller.name for caller in callers(event))]
        if event.sequence_nr >= 0 and not any(name.startswith(BACKWARD) for name in names):
            nodes[event.sequence_nr] = next((name for name in names if name in MARKS.values()), None)
    return nodes


def callers(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """The operations that this one is inside, from the nearest to the outermost."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event


def part_of(event: FunctionEvent, nodes: dict[int, str | None]) -> str:
    """What an operation is by itself."""
    if event.name in MARKS.values():
        return event.name
    if event.name.startswith(BACKWARD):
        return nodes.get(event.sequence_nr) or "other_operations"
    if event.name.startswith("Optimizer."):
        return "optimizer"
    return "matrix_products" if event.name in PRODUCTS else "other_operations"
