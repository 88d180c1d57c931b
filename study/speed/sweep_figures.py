"""Figures of sweeps, streams and epochs, drawn from saved rows."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.report import MODEL_STYLE
from study.speed.epoch_profile import PARTS
from study.speed.scaling_figures import (
    SPLITS,
    UNITS,
    draw_curves,
    length_axis,
    look_of,
    name_lines,
    order_of,
    panels_of,
    plain_numbers,
)

STREAM_UNITS = {"event_us": "time per event, µs", "state_kib": "carried to the next segment, KiB"}
STREAM_UNITS |= {"resident_mib": "rise of resident memory, MiB"}
# From what is counted as the mechanism's own work to what is overhead: one hue, fading.
SHADES = dict(zip(PARTS, ("#1b4965", "#4a7fa5", "#8a6fc9", "#93b7cf", "#c9c3b5", "#d1571f", "#e6e1d6"), strict=True))


def against_settings(rows: pd.DataFrame, axes: Mapping[str, str], metric: str) -> Figure:
    """A metric against each of the given settings (axis to its label), a line per setting, a panel per direction."""
    splits = panels_of(rows)
    size = (4.2 * len(splits), 3.3 * len(axes))
    fig, panels = plt.subplots(len(axes), len(splits), sharey="row", sharex="row", squeeze=False, figsize=size)
    for line, (axis, label) in zip(panels, axes.items(), strict=True):
        of_axis = rows[rows["axis"] == axis]
        for ax, split in zip(line, splits, strict=True):
            draw_curves(ax, of_axis[of_axis["split"] == split], metric, axis)
            ax.set_title(SPLITS[split])
            ax.set_xlabel(label)
        line[0].set_ylabel(UNITS[metric])
        line[0].legend()
    return fig


def with_range(rows: pd.DataFrame, metric: str, unit: str) -> Figure:
    """A metric with its low and high ends against length, a panel per direction."""
    splits = panels_of(rows)
    fig, panels = plt.subplots(
        1, len(splits), sharey=True, sharex=True, squeeze=False, figsize=(4.2 * len(splits), 3.6)
    )
    for ax, split in zip(panels[0], splits, strict=True):
        of_split = rows[rows["split"] == split]
        table = of_split.pivot(index=["model", "x"], columns="metric", values="value").sort_index()
        for model in order_of(of_split["model"]):
            draw_range(ax, table.loc[model], metric, model)
        ax.set_title(SPLITS[split])
        ax.set_xlabel("length, events")
        length_axis(ax, [int(length) for length in of_split["x"].unique()])
    panels[0, 0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel(unit)
    name_lines(panels[0, 0])
    return fig


def draw_range(ax: Axes, table: pd.DataFrame, metric: str, model: str) -> None:
    """One curve with bars from the low to the high end."""
    ends = table[[f"{metric}_low", f"{metric}_high"]].T.to_numpy()
    error = np.abs(ends - table[metric].to_numpy())
    ax.errorbar(table.index, table[metric], yerr=error, **look_of(model))


def along_stream(rows: pd.DataFrame) -> Figure:
    """Time per event, state and resident memory along a stream; a hollow mark where a stream was ended."""
    fig, panels = plt.subplots(1, 3, sharex=True, figsize=(11.0, 3.8))
    table = rows.pivot(index=["model", "x"], columns="metric", values="value").sort_index()
    for ax, (metric, unit) in zip(panels, STREAM_UNITS.items(), strict=True):
        for model in order_of(rows["model"]):
            found = table.loc[model].reindex(columns=table.columns.union([metric]))
            if f"{metric}_low" in found.columns:
                draw_range(ax, found, metric, model)
            else:
                ax.plot(found.index, found[metric], **look_of(model))
            ended = found.filter(like="skipped").notna().any(axis=1)
            ax.plot(found.index[ended], found.loc[ended, metric], "o", fillstyle="none", markersize=12, color="#1b1f24")
        ax.set(xlabel="events streamed so far", ylabel=unit, xscale="log")
        ax.set_yscale("symlog", linthresh=1) if metric == "resident_mib" else ax.set_yscale("log")
        plain_numbers(ax.xaxis)
        plain_numbers(ax.yaxis)
        ax.tick_params(axis="x", labelrotation=45)
    panels[0].legend()
    return fig


def epoch_parts(rows: pd.DataFrame) -> Figure:
    """Shares of an epoch, stacked, a bar per mechanism; the bar's end of each part carries its range over epochs."""
    shares = rows[rows["metric"].str.endswith("_share")]
    table = shares.pivot(index=["model", "seed"], columns="metric", values="value")
    models = order_of(shares["model"])
    fig, ax = plt.subplots(figsize=(8.0, 1.2 + 0.8 * len(models)))
    for place, model in enumerate(models):
        parts = 100 * table.loc[model, [f"{part}_share" for part in PARTS]]
        left = 0.0
        for part, (_, values) in zip(PARTS, parts.items(), strict=True):
            label = part.replace("_", " ") if place == 0 else None
            ax.barh(place, values.mean(), left=left, height=0.6, color=SHADES[part], label=label)
            left += values.mean()
        products = parts.iloc[:, :2].sum(axis=1)
        error = [[products.mean() - products.min()], [products.max() - products.mean()]]
        ax.errorbar(products.mean(), place, xerr=error, color="#1b1f24", fmt="none")
    ax.set_yticks(range(len(models)), [MODEL_STYLE[model]["label"] for model in models])
    ax.set(xlabel="share of an epoch, %", xlim=(0, 100))
    ax.invert_yaxis()
    if models:
        ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def throughput(rows: pd.DataFrame) -> Figure:
    """Real events per second of training, a point per epoch and their median as a line."""
    speeds = rows[rows["metric"] == "events_per_second"]
    models = order_of(speeds["model"])
    fig, ax = plt.subplots(figsize=(6.0, 1.2 + 0.5 * len(models)))
    for place, model in enumerate(models):
        values = speeds.loc[speeds["model"] == model, "value"]
        style = MODEL_STYLE[model]
        ax.plot(values, [place] * len(values), linestyle="none", color=style["color"], marker=style["marker"])
        ax.plot([values.median()] * 2, [place - 0.3, place + 0.3], color=style["color"])
    ax.set_yticks(range(len(models)), [MODEL_STYLE[model]["label"] for model in models])
    ax.set(xlabel="real events per second of training", xlim=(0, None))
    plain_numbers(ax.xaxis)
    ax.invert_yaxis()
    return fig
