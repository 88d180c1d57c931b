"""A history fed segment by segment: what a layer keeps of the past, and what an event costs along a long stream.

All but the Performer, whose attention is causal, see all of the segment.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from lib.attention.mechanism import MultiHeadAttention
from lib.attention.performer import PerformerAttention, favor_stream
from lib.attention.softmax import SoftmaxAttention, softmax_attention
from lib.attention.tiled import State
from lib.training.classifier import attention_class
from study.mechanisms import MECHANISMS, OWN
from study.speed.fresh_process import MIB, limit_memory, map_blocks, reading_error, resident_bytes, run_in_fresh_process
from study.speed.measure import Configuration, build

Events = Float[Tensor, "batch length model_dim"]
SETTLED = 8  # segments after which a layer's first calls are over
STEADY = 1.2  # times the cost of an early event that a late one may have at constant cost


def softmax_step(layer: SoftmaxAttention, events: Events, past: tuple | None) -> tuple[Events, tuple]:
    """Attention to all events so far, whose keys and values grow by those of this segment."""
    queries, keys, values = layer.project(events)
    if past is not None:
        keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
    return layer.merge(softmax_attention(queries, keys, values)), (keys, values)


def performer_step(layer: PerformerAttention, events: Events, past: State | None) -> tuple[Events, State]:
    """Causal attention through running sums."""
    attended, state = favor_stream(*layer.project(events), layer.projection, layer.kernel, state=past)
    return layer.merge(attended), state


def layer_step(layer: MultiHeadAttention, events: Events, past: tuple | None) -> tuple[Events, tuple]:
    """The layer's own step, as the ∞-former has one: attention within the segment and a read of its memory."""
    attended, state = layer.step(events, None, past)
    return attended.output, state


def steps() -> dict[str, Callable]:
    """By mechanism of the study that keeps a state of a stream, how it takes the next segment."""
    ours = {"softmax": softmax_step, "performer": performer_step}
    others = [name for name in MECHANISMS if name not in ours and hasattr(attention_class(OWN.get(name, name)), "step")]
    return ours | dict.fromkeys(others, layer_step)


def streams(base: Configuration, seconds: float, memory_mib: float, experiment: str) -> pd.DataFrame:
    """The stream of every mechanism, each in a process of its own, in the study's one table shape."""
    parts = []
    for mechanism in tqdm(steps(), desc="streaming", unit="mechanism", disable=None, leave=False):
        try:
            rows = run_in_fresh_process(stream_here, replace(base, mechanism=mechanism), seconds, memory_mib)
        except MemoryError:
            rows = [(base.segment, "skipped_memory", memory_mib * MIB)]
        parts.append(pd.DataFrame(rows, columns=["x", "metric", "value"]).assign(model=mechanism))
    facts = {"experiment": experiment, "task": "stream", "seed": "-", "split": "forward", "axis": "events_streamed"}
    return pd.concat(parts, ignore_index=True).assign(**facts)


def stream_here(configuration: Configuration, seconds: float, memory_mib: float) -> list[tuple[int, str, float]]:
    """Events so far, metric and value at every doubling and at the end, in this process, which should be a fresh one.

    `event_us` is the median over the segments since the row before, with quartiles; `resident_mib` the rise of memory
    since before the first event. A stream ends after `seconds` (`skipped_time`); MemoryError if beyond `memory_mib`.
    """
    torch.set_num_threads(1)
    map_blocks()
    generator, segment = torch.Generator().manual_seed(configuration.seed), configuration.segment
    step, (layer, first) = steps()[configuration.mechanism], build(replace(configuration, length=segment))
    segments = -(-configuration.length // segment)
    rows, times, spent, past = [], [], 0.0, None
    with torch.no_grad():
        # What the first calls allocate once is there before the stream starts.
        step(layer, *step(layer, first, None))
        limit_memory("cpu", memory_mib)
        before = resident_bytes("VmRSS")
        for count in range(1, segments + 1):
            events = torch.randn(first.shape, generator=generator)
            started = time.perf_counter()
            _, past = step(layer, events, past)
            times.append(time.perf_counter() - started)
            spent += times[-1]
            ended = spent > seconds and count < segments
            if ended or count & (count - 1) == 0 or count == segments:
                low, middle, high = 1e6 * np.quantile(times, (0.25, 0.5, 0.75)) / segment
                found = {"event_us": middle, "event_us_low": low, "event_us_high": high}
                found["state_kib"] = sum(part.numel() * part.element_size() for part in past) / 1024
                found["resident_mib"] = (resident_bytes("VmRSS") - before) / MIB
                found |= {"skipped_time": spent} if ended else {}
                rows += [(count * segment, metric, float(value)) for metric, value in found.items()]
                times = []
            if ended:
                break
    return rows


def stream_growth(rows: pd.DataFrame) -> pd.DataFrame:
    """How much more a late event costs than an early one: the last row against that of `SETTLED` segments.

    `constant` if a whole stream's state does not grow, its resident memory rises by less than a byte per event, or than
    two readings may be off, and its time by less than `STEADY`.
    """
    found = []
    for model, part in rows.groupby("model", sort=False):
        table = part.pivot(index="x", columns="metric", values="value")
        whole, events = table.filter(like="skipped").empty, float(table.index[-1])
        table = table.reindex(columns=["event_us", "state_kib", "resident_mib"])
        early, late = table.reindex([SETTLED * table.index[0]]).iloc[0], table.iloc[-1]
        rise = late["resident_mib"] - early["resident_mib"]
        steady_memory = late["state_kib"] == early["state_kib"] and rise <= max(events / MIB, reading_error())
        slower = late["event_us"] / early["event_us"]
        constant = bool(whole and steady_memory and slower <= STEADY)
        found.append((model, events, whole, late["event_us"], slower, late["state_kib"], rise, constant))
    names = ["model", "events", "whole", "event_us", "times_slower", "state_kib", "resident_rise_mib", "constant"]
    return pd.DataFrame(found, columns=names)
