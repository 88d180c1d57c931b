"""What is swept besides length, around one attention layer, and how the rows of a sweep are named."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from study.speed.workload import MODULES, Configuration

DIRECTIONS = ("forward", "training")
LAYER = Configuration("softmax")
# A variant of a mechanism is named by its suffix.
CAUSAL, UNIFORM = "_causal", "_uniform"


def layers(lengths: Sequence[int], base: Configuration = LAYER) -> list[Configuration]:
    """One layer of every mechanism at each length, for inference and for training."""
    return [
        replace(base, mechanism=mechanism, direction=direction, length=length)
        for length in lengths
        for direction in DIRECTIONS
        for mechanism in MODULES
    ]


def encoders(lengths: Sequence[int], base: Configuration, depth: int) -> list[Configuration]:
    """The same layers inside a whole encoder of the given depth."""
    return [replace(each, scope="encoder", layers=depth) for each in layers(lengths, base)]


def source_encoders(lengths: Sequence[int]) -> list[Configuration]:
    """The source study's encoder: two customers, width 128, four heads, two layers, forward."""
    return [
        Configuration(mechanism, scope="encoder", length=length, batch=2, head_dim=32)
        for length in lengths
        for mechanism in MODULES
    ]


def widths(head_dims: Sequence[int], base: Configuration) -> list[Configuration]:
    """The width of a head, at the base's length."""
    return [each for head_dim in head_dims for each in layers([base.length], replace(base, head_dim=head_dim))]


def batches(sizes: Sequence[int], events: int, base: Configuration) -> list[Configuration]:
    """The same number of events in all, as few long histories or many short ones.

    Raises ValueError for a batch that does not divide the events.
    """
    for size in sizes:
        if events % size:
            raise ValueError(f"{events} events cannot be split into {size} histories of one length")
    return [each for size in sizes for each in layers([events // size], replace(base, batch=size))]


def features(counts: Sequence[int], base: Configuration) -> list[Configuration]:
    """The Performer's random features m, bidirectional and causal, between given queries, keys and values."""
    return [
        replace(base, mechanism="performer", scope="kernel", direction=direction, features=count, causal=causal)
        for count in counts
        for direction in DIRECTIONS
        for causal in (False, True)
    ]


def bases(counts: Sequence[int], base: Configuration) -> list[Configuration]:
    """The ∞-former's basis functions N, with sticky and with uniform sampling."""
    return [
        replace(base, mechanism="infinite_former", direction=direction, basis=count, sampling=sampling)
        for count in counts
        for direction in DIRECTIONS
        for sampling in ("sticky", "uniform")
    ]


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with causal attention and uniform sampling in the mechanism's name."""
    causal = np.where(rows["causal"], CAUSAL, "")
    uniform = np.where((rows["mechanism"] == "infinite_former") & (rows["sampling"] == "uniform"), UNIFORM, "")
    return rows.assign(mechanism=rows["mechanism"] + causal + uniform)


def other_share(attention: pd.DataFrame, encoder: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The share of an encoder's time that is not spent in its attention layers, from rows of both at the same lengths.

    One minus depth times the time of one layer over that of the encoder, in each round: its median over rounds, its
    lowest and its highest; in the study's one table shape. Left out where a layer alone takes longer than the encoder
    that holds it: alone, it may hand its memory back to the system at every call and pay for it anew.
    """
    keys = ["mechanism", "direction", "length", "round"]
    alone, whole = (rows[rows["metric"] == "time_ms"] for rows in (attention, encoder))
    pairs = whole[[*keys, "layers", "value"]].merge(alone[[*keys, "value"]], on=keys, validate="one_to_one")
    share = 1 - pairs["layers"] * pairs["value_y"] / pairs["value_x"]
    spread = pairs.assign(share=share).groupby(keys[:-1])["share"].agg(["median", "min", "max"]).reset_index()
    spread = spread[spread["median"] > 0]
    metrics = {"median": "other_share", "min": "other_share_low", "max": "other_share_high"}
    table = spread.rename(columns=metrics).melt(keys[:-1], list(metrics.values()), "metric", "value")
    table = table.rename(columns={"mechanism": "model", "direction": "split", "length": "x"})
    return table.assign(experiment=experiment, task="encoder", seed="-", axis="encoder_length")
