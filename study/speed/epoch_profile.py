"""Where a training epoch spends its time, and how many real events it takes in a second."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.profiler import ProfilerActivity, profile, record_function
from tqdm import tqdm

from lib.attention.softmax import MultiHeadAttention
from lib.data.batches import collate, length_batches, random_slices
from lib.data.histories import Histories
from lib.training.classifier import MECHANISMS, ByteDropout, ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.speed.fresh_process import apart

# Modules whose forward pass is marked for the profiler, each as a part of its own.
MARKS = {MultiHeadAttention: "attention", ByteDropout: "dropout"}
BACKWARD = "autograd::engine::evaluate_function"
OPTIMIZER = "Optimizer."
PRODUCTS = {"aten::linear", "aten::matmul", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
# Of an epoch, in the order in which they are stacked; `between` is Python between the framework's operations.
PARTS = ("attention", "matrix_products", "dropout", "other_operations", "optimizer", "data_path", "between")

# Goals: the least share of attention and matrix products together, and the most that the data path may take.
PRODUCTS_GOAL, DATA_GOAL = 0.7, 0.05


@contextmanager
def modules_marked() -> Iterator[None]:
    """Mark the forward pass of every module of `MARKS` for the profiler."""
    marks: list[record_function] = []

    def enter(module: nn.Module, inputs: object) -> None:
        for kind, name in MARKS.items():
            if isinstance(module, kind):
                marks.append(record_function(name))
                marks[-1].__enter__()

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(module, tuple(MARKS)):
            marks.pop().__exit__(None, None, None)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def marked_nodes(events: Sequence[FunctionEvent]) -> dict[int, str]:
    """The mark of every autograd node that was made inside one, by sequence number.

    An operation carries the number of the next node to be made: what follows a mark tells which number is no longer its
    own.
    """
    forward = [event for event in events if event.sequence_nr >= 0 and not event.name.startswith(BACKWARD)]
    starts = np.array([event.time_range.start for event in forward])
    nodes: dict[int, str] = {}
    for mark in events:
        if mark.name in MARKS.values():
            inside = {each.sequence_nr for each in descendants(mark) if each.sequence_nr >= 0}
            following = int(np.searchsorted(starts, mark.time_range.end))
            if following < len(forward):
                inside.discard(forward[following].sequence_nr)
            nodes |= dict.fromkeys(inside, mark.name)
    return nodes


def descendants(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """All operations inside this one."""
    for child in event.cpu_children:
        yield child
        yield from descendants(child)


def seconds_by_part(events: Iterable[FunctionEvent]) -> dict[str, float]:
    """Seconds of all operations, each counted to what it is or is part of; a call inside another is counted once."""
    events = sorted(events, key=lambda event: event.time_range.start)
    nodes = marked_nodes(events)
    seconds = dict.fromkeys(PARTS[:-2], 0.0)

    def visit(event: FunctionEvent, part: str) -> None:
        if part == "other_operations":
            part = part_of(event, nodes)
        seconds[part] += event.self_cpu_time_total / 1e6
        for child in event.cpu_children:
            visit(child, part)

    for event in events:
        if event.cpu_parent is None:
            visit(event, "other_operations")
    return seconds


def part_of(event: FunctionEvent, nodes: dict[int, str]) -> str:
    """What an operation is by itself."""
    if event.name in MARKS.values():
        return event.name
    if event.name.startswith(BACKWARD):
        return nodes.get(event.sequence_nr, "other_operations")
    if event.name.startswith(OPTIMIZER):
        return "optimizer"
    return "matrix_products" if event.name in PRODUCTS else "other_operations"


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


def profile_here(
    histories: Histories, customers: np.ndarray, model: ModelConfig, config: TrainConfig, epochs: int
) -> list[tuple[int, str, float]]:
    """Seed, metric and value, in this process, which should be a fresh one.

    First the speed, over epochs after a warm-up; then the shares, in epochs under the profiler, which slows small
    operations down and so counts them for more. The share of the data path is that of an epoch without the profiler.
    """
    longer = replace(config, epochs=1 + epochs)
    _, history = train(histories, customers, model, longer, 0, f"{model.attention} speed")
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


def profiles(histories: Histories, customers: np.ndarray, epochs: int, experiment: str) -> pd.DataFrame:
    """The profile of every mechanism, each in a process of its own, in the study's one table shape.

    One that the machine's memory does not allow has `skipped_memory` (bytes that were not enough) instead.
    """
    parts = []
    for mechanism in tqdm(MECHANISMS, desc="profiling", unit="mechanism", disable=None, leave=False):
        arguments = (histories, customers, ModelConfig(attention=mechanism), TrainConfig(), epochs)
        try:
            rows = apart(profile_here, *arguments)
        except MemoryError:
            rows = [(0, "skipped_memory", float(psutil.virtual_memory().total))]
        parts.append(pd.DataFrame(rows, columns=["seed", "metric", "value"]).assign(model=mechanism))
    facts = {
        "experiment": experiment,
        "task": histories.task,
        "split": "training",
        "axis": "epoch_profile",
        "x": np.nan,
    }
    return pd.concat(parts, ignore_index=True).assign(**facts)


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares and speed over epochs, a column per metric and a line per mechanism that was profiled."""
    names = ["events_per_second", "padding_share", *(f"{part}_share" for part in PARTS)]
    table = rows.groupby(["model", "metric"])["value"].median().unstack().reindex(columns=names).dropna()
    return table.loc[[mechanism for mechanism in MECHANISMS if mechanism in table.index]]
