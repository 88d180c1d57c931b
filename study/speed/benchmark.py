"""The grids that the command line measures, and this study's mechanisms side by side with other implementations."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import pandas as pd

from study.speed.workload import KERNELS, MODULES, Configuration

# Ratios of this study's time or memory to another implementation's that were set as goals; training, one thread.
GOALS = (
    ("bidirectional FAVOR+, head_dim 64", "performer", "performer_pytorch", 64, False, "time_ms", 0.30),
    ("bidirectional FAVOR+, head_dim 64", "performer", "performer_pytorch", 64, False, "peak_memory_mib", 0.16),
    ("bidirectional FAVOR+, head_dim 16", "performer", "performer_pytorch", 16, False, "time_ms", 0.20),
    ("bidirectional FAVOR+, head_dim 16", "performer", "performer_pytorch", 16, False, "peak_memory_mib", 0.05),
    ("bidirectional FAVOR+, head_dim 64", "performer", "matrix_products", 64, False, "time_ms", 1.5),
    ("bidirectional FAVOR+, head_dim 16", "performer", "matrix_products", 16, False, "time_ms", 2.4),
    ("causal FAVOR+, head_dim 64", "performer", "performer_pytorch", 64, True, "time_ms", 0.03),
    ("causal FAVOR+, head_dim 64", "performer", "softmax", 64, True, "time_ms", 0.6),
    ("softmax, head_dim 64", "softmax", "framework_softmax", 64, False, "time_ms", 1.02),
)
CAUSAL_LENGTH = 4096
MACHINE = ("device", "threads", "dtype")  # the same for all rows of one table
STREAM = Configuration(
    "infinite_former", direction="training", length=16384, basis=128, segment=512, sampling="uniform"
)
SEGMENT = replace(STREAM, scope="memory", length=512, batch=8)


def kernel(mechanism: str, direction: str, length: int, head_dim: int, causal: bool) -> Configuration:
    """Attention of four customers with four heads and 256 features, between given queries, keys and values."""
    return Configuration(
        mechanism,
        scope="kernel",
        direction=direction,
        length=length,
        batch=4,
        head_dim=head_dim,
        features=256,
        causal=causal,
    )


def kernels(lengths: Sequence[int]) -> list[Configuration]:
    """Every kernel forward and in training at head_dim 16 and 64; causal ones, and ∞-former layers, where goals ask."""
    grid = [
        kernel(mechanism, direction, length, head_dim, False)
        for length in lengths
        for head_dim in (16, 64)
        for direction in ("forward", "training")
        for mechanism in KERNELS
    ]
    causal = [
        kernel(mechanism, "training", CAUSAL_LENGTH, 64, True)
        for mechanism in ("performer", "performer_pytorch", "softmax")
    ]
    pairs = ((SEGMENT, "published_infinite_former"), (STREAM, "softmax"))
    layers = [replace(one, mechanism=each) for one, peer in pairs for each in (one.mechanism, peer)]
    return grid + causal + [layer for layer in layers if layer.length <= max(lengths)]


def encoders(lengths: Sequence[int]) -> list[Configuration]:
    """The source study's encoder: two customers, width 128, four heads, two layers, forward."""
    return [
        Configuration(mechanism, scope="encoder", length=length, batch=2, head_dim=32)
        for length in lengths
        for mechanism in MODULES
    ]


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """One value per configuration and metric: the median over rounds."""
    settings = [column for column in rows.columns if column not in ("round", "value")]
    return rows.groupby(settings, as_index=False, sort=False)["value"].median()


def side_by_side(rows: pd.DataFrame) -> pd.DataFrame:
    """Time and memory with a column per length; what was skipped stands with its reason."""
    shown = medians(rows)
    shown = shown[~shown["metric"].isin(["time_ms_low", "time_ms_high"])]
    names = ["scope", "direction", "causal", "batch", "head_dim", "metric", "mechanism"]
    return shown.pivot(index=names, columns="length", values="value").sort_index().round(2)


def goals(rows: pd.DataFrame) -> pd.DataFrame:
    """Each goal's measured ratio at every length from 4,096 events on, and whether it is met; others are left open."""
    found = []
    for what, ours, theirs, head_dim, causal, metric, limit in GOALS:
        for length in sorted(rows.loc[rows["length"] >= CAUSAL_LENGTH, "length"].unique()):
            pair = [kernel(each, "training", int(length), head_dim, causal) for each in (ours, theirs)]
            found.append((what, theirs, int(length), metric, limit, ratio(rows, *pair, metric)))
    own = [kernel("performer", "training", CAUSAL_LENGTH, 64, causal) for causal in (True, False)]
    found.append(
        ("causal FAVOR+, head_dim 64", "bidirectional", CAUSAL_LENGTH, "time_ms", 2.0, ratio(rows, *own, "time_ms"))
    )
    for one, peer, metric, limit in (
        (SEGMENT, "published_infinite_former", "time_ms", 0.2),
        (SEGMENT, "published_infinite_former", "peak_memory_mib", 0.65),
        (STREAM, "softmax", "time_ms", 0.06),
    ):
        pair = [one, replace(one, mechanism=peer)]
        found.append((f"∞-former, {one.scope}", peer, one.length, metric, limit, ratio(rows, *pair, metric)))
    table = pd.DataFrame(found, columns=["what", "against", "length", "metric", "goal", "ratio"]).dropna(subset="ratio")
    return table.assign(met=table["ratio"] <= table["goal"])


def ratio(rows: pd.DataFrame, ours: Configuration, theirs: Configuration, metric: str) -> float:
    """Our median over theirs, whatever the machine's settings; missing where one of them was not measured."""
    values = []
    for configuration in (ours, theirs):
        settings = {**asdict(configuration), "metric": metric}
        for setting in MACHINE:
            settings.pop(setting)
        values.append(rows.loc[(rows[list(settings)] == pd.Series(settings)).all(axis=1), "value"].median())
    return values[0] / values[1]
