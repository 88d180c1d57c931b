"""Time and memory against length and other settings, along streams and of epochs: figures and words from saved rows."""

from collections.abc import Mapping, Sequence
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.report import MODEL_STYLE, NOT_MEASURED
from study.speed.panels import UNITS, label_of, look_of, order_of, place_ticks, plain_numbers

SPLITS = {"forward": "inference", "training": "training"}
REASONS = {"skipped_time": "beyond its budget of time", "skipped_memory": "beyond its budget of memory"}
# How a budget's skip is drawn: the metric it belongs to, and its unit in that metric's.
SKIPS = {"time_ms": ("skipped_time", 1000.0), "peak_memory_mib": ("skipped_memory", 2.0**-20)}


def reasons(rows: pd.DataFrame) -> str:
    """Why measurements are missing, in words: every call among the rows, measured or result rows, that was skipped."""
    named = rows.rename(columns={"model": "mechanism", "split": "direction", "x": "length"})
    found = named[named["metric"].isin(REASONS)]
    calls: dict[str, list[str]] = {}
    for (metric, mechanism, split), part in found.groupby(["metric", "mechanism", "direction"], sort=False):
        shortest = part["length"].min()
        at = "" if np.isnan(shortest) else f" from {shortest:,.0f} events on"
        calls.setdefault(REASONS[metric], []).append(f"{look_of(mechanism)['label']} in {SPLITS[split]}{at}")
    return "; ".join(f"{reason}: {', '.join(each)}" for reason, each in calls.items()) or "too few or too noisy points"


def name_lines(fig: Figure) -> None:
    """One legend below all panels, where there is anything to name."""
    named = {label: line for ax in fig.axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if named:
        fig.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(len(named), 4), handlelength=3)


def curves(rows: pd.DataFrame, axes: Mapping[str, str], metrics: Sequence[str]) -> Figure:
    """Each metric against each setting (axis to its label): a line of panels for each, a panel per direction.

    Bars are the spread; hollow marks on dotted lines are predictions for calls that the budget did not allow.
    """
    splits = list(dict.fromkeys(rows["split"])) or list(SPLITS)
    lines = list(product(axes.items(), metrics))
    size = (4.2 * len(splits), 0.6 + 3.2 * len(lines))
    fig, panels = plt.subplots(len(lines), len(splits), sharex="row", sharey="row", squeeze=False, figsize=size)
    for line, ((axis, label), metric) in zip(panels, lines, strict=True):
        for ax, split in zip(line, splits, strict=True):
            chosen = rows[(rows["axis"] == axis) & (rows["split"] == split)]
            draw_curves(ax, chosen.pivot(index=["model", "x"], columns="metric", values="value"), metric)
            ax.set(title=SPLITS.get(split, split), xlabel=label)
        for ax in line:
            place_ticks(ax, rows.loc[rows["axis"] == axis, "x"].dropna().unique())
            ax.set_yscale("log")
            plain_numbers(ax.yaxis)
        line[0].set_ylabel(UNITS[metric])
    name_lines(fig)
    return fig


def draw_curves(ax: Axes, table: pd.DataFrame, metric: str) -> None:
    """One curve per mechanism with its spread and its predictions, from a table by mechanism and place."""
    skip, unit = SKIPS[metric]
    for model in order_of(table.index.get_level_values("model")):
        found = table.loc[model].reindex(columns=table.columns.union([metric]))
        known = found.dropna(subset=metric)
        draw_range(ax, known, metric, model)
        skipped = found[skip].dropna() * unit if skip in found else pd.Series()
        if len(skipped):
            guess = pd.concat([known.loc[known.index < skipped.index.min(), metric].tail(1), skipped])
            look = look_of(model) | {"linestyle": ":", "label": "_"}
            ax.plot(guess.index, guess, markerfacecolor="white", zorder=1, **look)


def draw_range(ax: Axes, table: pd.DataFrame, metric: str, model: str) -> None:
    """One curve, with bars from the low to the high end where there are such."""
    ends = [f"{metric}_low", f"{metric}_high"]
    bars = np.abs(table[ends].T.to_numpy() - table[metric].to_numpy()) if set(ends) <= set(table.columns) else None
    ax.errorbar(table.index, table[metric], yerr=bars, **look_of(model))


def crossover_intervals(crossings: pd.DataFrame, lengths: Sequence[int]) -> Figure:
    """The length from which each model is faster, a row per pair, a panel per direction; hollow at the ends."""
    splits = list(dict.fromkeys(crossings["split"]))
    pairs = list(dict.fromkeys(zip(crossings["model"], crossings["against"], strict=True)))
    size = (1.8 + 3.2 * len(splits), 1.4 + 0.45 * len(pairs))
    fig, panels = plt.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False, figsize=size)
    for ax, split in zip(panels[0], splits, strict=True):
        for row in crossings[crossings["split"] == split].itertuples():
            draw_crossover(ax, pairs.index((row.model, row.against)), row, lengths)
        ax.set(title=SPLITS[split], xlabel="length from which it is faster, events")
        place_ticks(ax, lengths)
    labels = [f"{label_of(model)} faster\nthan {label_of(against)}" for model, against in pairs]
    panels[0, 0].set_yticks(range(len(pairs)), labels)
    panels[0, 0].set(ylim=(len(pairs) - 0.5, -0.7), xlim=(min(lengths) / 1.3, max(lengths) * 1.3))
    return fig


def draw_crossover(ax: Axes, place: int, row: tuple, lengths: Sequence[int]) -> None:
    """A point with its interval and its length in words; hollow at the ends of the lengths, where it is open."""
    length, shortest, longest = row.crossover_length, min(lengths), max(lengths)
    if np.isnan(length):
        ax.annotate(NOT_MEASURED.lower(), (shortest, place), fontsize=8)
        return
    inside = shortest < length < longest
    note = (
        f"{length:,.0f} ({row.low:,.0f} to {row.high:,.0f})"
        if inside
        else "at every length"
        if row.pays
        else "at no length"
    )
    bars = np.maximum([[length - row.low], [row.high - length]], 0) if inside else None
    look = MODEL_STYLE[row.model] | {"fillstyle": "full" if inside else "none"}
    ax.errorbar(length, place, xerr=bars, **look)
    side = "right" if length > np.sqrt(shortest * longest) else "left"
    ax.annotate(note, (length, place), (0, 6), textcoords="offset points", ha=side, fontsize=8)


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
        ax.set(xlabel="events streamed so far", ylabel=UNITS[metric], xscale="log")
        if metric != "resident_mib":  # which falls too
            ax.set_yscale("log")
            plain_numbers(ax.yaxis)
        place_ticks(ax, rows["x"].unique())
    name_lines(fig)
    return fig
