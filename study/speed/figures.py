"""Time and memory against length, other settings and along streams: every figure of speed, and its words, from rows.

Imports no mechanism, so that a page does not change with the code of one.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from study.figures import legend_below, plain_numbers
from study.mechanisms import MECHANISMS
from study.report import MODEL_STYLE

CAUSAL, UNIFORM = "_causal", "_uniform"
VARIANTS = {"": "", CAUSAL: " (causal)", UNIFORM: " (uniform)"}  # ends of names in rows, and of labels
LABELS = {"softmax": "fused softmax"}  # because the naive one stands beside it
LOOKS = {
    f"{model}{variant}": MODEL_STYLE[model]
    | {"linestyle": "--" if variant else "-", "label": LABELS.get(model, MODEL_STYLE[model]["label"]) + words}
    # From the steepest growth to the flattest: of a pair, the later is the one expected to pay from some length on.
    for model in ("explicit_softmax", *MECHANISMS)
    for variant, words in VARIANTS.items()
}
"""Marker, line and label of the mechanisms in the study's order; a variant is dashed."""
UNITS = {
    "time_ms": "time of a call, ms",
    "peak_memory_mib": "peak memory of a call, MiB",
    "event_us": "time per event, µs",
    "state_kib": "carried to the next segment, KiB",
    "resident_mib": "rise of resident memory, MiB",
}
BESIDE = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 9}  # words beside a point
SPLITS = {"forward": "inference", "training": "training"}
REASONS = {"skipped_time": "beyond its budget of time", "skipped_memory": "beyond its budget of memory"}
# How a budget's skip is drawn: the metric it belongs to, and its unit in that metric's.
SKIPS = {"time_ms": ("skipped_time", 1000.0), "peak_memory_mib": ("skipped_memory", 2.0**-20)}


def label_of(model: str) -> str:
    """What figures and sentences call a mechanism here."""
    return LOOKS[model]["label"]


def order_of(models: Iterable[str]) -> list[str]:
    """The mechanisms and variants in the study's order, a user's own ones last."""
    return sorted(set(models), key=list(LOOKS).index)


def doublings(ax: Axes) -> None:
    """A logarithmic axis below with ticks at powers of two, in full."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:,g}")
    ax.tick_params(axis="x", labelrotation=45)


def inference_of_a_layer(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Of all saved rows those of one attention layer in inference along the axis."""
    return rows[(rows["task"] == "attention") & (rows["split"] == "forward") & (rows["axis"] == axis)]


def layer_lengths(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric of a layer in inference by length, a column for each mechanism."""
    layer = inference_of_a_layer(rows, "length")
    table = layer[layer["metric"] == metric].pivot(index="x", columns="model", values="value")
    return table[order_of(table.columns)]


def crossings_with_softmax(rows: pd.DataFrame) -> pd.Series:
    """By mechanism the length from which a layer is faster than fused softmax in inference; missing where at none.

    A length at the shortest one measured means at all of them.
    """
    layer = inference_of_a_layer(rows, "against_softmax")
    found = layer.pivot(index="model", columns="metric", values="value").reindex(columns=["crossover_length", "pays"])
    return found["crossover_length"].where(found["pays"] == 1).loc[order_of(found.index)]


def time_panel(ax: Axes, rows: pd.DataFrame, history: float | None = None) -> None:
    """Time of a layer against length; rings where a line crosses that of fused softmax, dashed: a typical `history`."""
    table = layer_lengths(rows, "time_ms")
    _draw_lines(ax, table, "time of a layer, ms")
    for model, length in crossings_with_softmax(rows).items():
        if model in table and length > table.index.min():
            known = table[model].dropna()
            height = np.exp(np.interp(np.log(length), np.log(known.index), np.log(known)))
            color = MODEL_STYLE[model]["color"]
            ax.plot(length, height, "o", fillstyle="none", markersize=11, color=color)
            ax.plot([length] * 2, [ax.get_ylim()[0], height], linestyle=":", linewidth=1, color=color)
            ax.annotate(f"{length:,.0f}", (length, 0), (3, 4), **BESIDE)
    if history and len(table):
        ax.axvline(history, ymin=0.12, color="#77756f", linestyle="--", linewidth=1)
        ax.annotate(f"median history\n{history:,.0f} events", (history, 1.0), (4, 0), va="top", **BESIDE)


def memory_panel(ax: Axes, rows: pd.DataFrame) -> None:
    """Peak memory that one call of a layer adds, against length."""
    _draw_lines(ax, layer_lengths(rows, "peak_memory_mib"), "peak memory of a layer, MiB")


def _draw_lines(ax: Axes, table: pd.DataFrame, label: str) -> None:
    """A line per column on logarithmic axes, named at its right end; names that would cover each other move apart."""
    for model in table:
        ax.plot(table.index, table[model], **LOOKS[model])
    ax.set(xlabel="length, events", ylabel=label, yscale="log")
    doublings(ax)
    if table.empty:
        return
    ax.set_ylim(table.min().min() / 2, table.max().max() * 1.5)
    plain_numbers(ax.yaxis)
    low, high = np.log(ax.get_ylim())
    heights = ((np.log(table.ffill().iloc[-1]) - low) / (high - low)).sort_values()
    steps = 0.075 * np.arange(len(heights))
    places = isotonic_regression(heights.to_numpy() - steps).x + steps
    for model, place in zip(heights.index, places, strict=True):
        end = (table.index.max(), place)
        ax.annotate(label_of(model), end, (8, 0), va="center", annotation_clip=False, **BESIDE)


def advantages(rows: pd.DataFrame, length: int) -> pd.DataFrame:
    """By mechanism, in inference: the crossing with fused softmax, and times less time and memory at `length` events.

    `time_softmax`, `memory_explicit_softmax` and so on are softmax over mechanism; what was not measured is missing.
    """
    found = crossings_with_softmax(rows).to_frame("crossing")
    for name, metric in (("time", "time_ms"), ("memory", "peak_memory_mib")):
        at = layer_lengths(rows, metric).reindex([length]).iloc[0]
        for softmax in ("softmax", "explicit_softmax"):
            found[f"{name}_{softmax}"] = at.get(softmax, np.nan) / at.reindex(found.index)
    return found.drop(index="softmax", errors="ignore")


def median_history(rows: pd.DataFrame) -> float | None:
    """Median number of events of a customer, from the rows of notebook 01."""
    chosen = rows[(rows["metric"] == "events_per_customer") & (rows["x"] == 0.5)]
    return float(chosen["value"].iloc[0]) if len(chosen) else None


def reasons(rows: pd.DataFrame) -> str:
    """Why measurements are missing, in words: every call among the rows, measured or result rows, that was skipped."""
    named = rows.rename(columns={"model": "mechanism", "split": "direction", "x": "length"})
    found = named[named["metric"].isin(REASONS)]
    calls: dict[str, list[str]] = {}
    for (metric, mechanism, split), part in found.groupby(["metric", "mechanism", "direction"], sort=False):
        words = f"{label_of(mechanism)} in {SPLITS[split]} from {part['length'].min():,.0f} events on"
        calls.setdefault(REASONS[metric], []).append(words)
    return "; ".join(f"{reason}: {', '.join(each)}" for reason, each in calls.items()) or "too few or too noisy points"


def curves(rows: pd.DataFrame, axes: Mapping[str, str], metrics: Sequence[str]) -> Figure:
    """Each metric against each setting (axis to its label): a line of panels for each, a panel per direction.

    Bars are the spread; hollow marks on dotted lines are predictions for calls that the budget did not allow.
    """
    splits = list(dict.fromkeys(rows["split"]))
    lines = list(product(axes.items(), metrics))
    size = (4.2 * len(splits), 0.6 + 3.2 * len(lines))
    fig, panels = plt.subplots(len(lines), len(splits), sharex="row", sharey="row", squeeze=False, figsize=size)
    for line, ((axis, label), metric) in zip(panels, lines, strict=True):
        for ax, split in zip(line, splits, strict=True):
            chosen = rows[(rows["axis"] == axis) & (rows["split"] == split)]
            draw_curves(ax, chosen.pivot(index=["model", "x"], columns="metric", values="value"), metric)
            ax.set(title=SPLITS.get(split, split), xlabel=label)
        for ax in line:
            doublings(ax)
            ax.set_yscale("log")
            plain_numbers(ax.yaxis)
        line[0].set_ylabel(UNITS[metric])
    legend_below(fig, *fig.axes, columns=4, handlelength=3)
    return fig


def draw_curves(ax: Axes, table: pd.DataFrame, metric: str) -> None:
    """One curve per mechanism with its spread and its predictions, from a table by mechanism and place."""
    skip, unit = SKIPS[metric]
    for model in order_of(table.index.get_level_values("model")):
        found = table.loc[model].reindex(columns=table.columns.union([metric, skip]))
        known, skipped = found.dropna(subset=metric), found[skip].dropna() * unit
        draw_range(ax, known, metric, model)
        if len(skipped):
            guess = pd.concat([known.loc[known.index < skipped.index.min(), metric].tail(1), skipped])
            look = LOOKS[model] | {"linestyle": ":", "label": "_"}
            ax.plot(guess.index, guess, markerfacecolor="white", zorder=1, **look)


def draw_range(ax: Axes, table: pd.DataFrame, metric: str, model: str) -> None:
    """One curve, with bars from the low to the high end where there are such."""
    ends = [f"{metric}_low", f"{metric}_high"]
    bars = np.abs(table[ends].T.to_numpy() - table[metric].to_numpy()) if set(ends) <= set(table.columns) else None
    ax.errorbar(table.index, table[metric], yerr=bars, **LOOKS[model])


def along_stream(rows: pd.DataFrame) -> Figure:
    """Time per event, state and resident memory along a stream; a hollow mark where a stream was ended."""
    fig, panels = plt.subplots(1, 3, sharex=True, figsize=(11.0, 3.8))
    table = rows.pivot(index=["model", "x"], columns="metric", values="value").sort_index()
    for ax, metric in zip(panels, ("event_us", "state_kib", "resident_mib"), strict=True):
        for model in order_of(rows["model"]):
            found = table.loc[model].reindex(columns=table.columns.union([metric]))
            draw_range(ax, found, metric, model)
            ended = found.filter(like="skipped").notna().any(axis=1)
            ax.plot(found.index[ended], found.loc[ended, metric], "o", fillstyle="none", markersize=12, color="#1b1f24")
        ax.set(xlabel="events streamed so far", ylabel=UNITS[metric])
        if metric != "resident_mib":  # which falls too
            ax.set_yscale("log")
            plain_numbers(ax.yaxis)
        doublings(ax)
    legend_below(fig, *fig.axes, columns=4, handlelength=3)
    return fig
