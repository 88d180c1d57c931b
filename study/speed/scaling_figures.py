"""Time and memory against length and other settings, along streams and of epochs: figures and words from saved rows."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from study.report import MODEL_STYLE, NOT_MEASURED
from study.speed.epoch_profile import PARTS
from study.speed.scaling import ORDER, REASONS
from study.speed.sweeps import CAUSAL, UNIFORM

UNITS = {"time_ms": "time of a call, ms", "peak_memory_mib": "peak memory of a call, MiB"}
SPLITS = {"forward": "inference", "training": "training"}
# How a budget's skip is drawn: the metric it belongs to, and its unit in that metric's.
SKIPS = {"time_ms": ("skipped_time", 1000.0), "peak_memory_mib": ("skipped_memory", 2.0**-20)}
# A variant keeps its mechanism's colour and is drawn dashed.
VARIANTS = {"": "", CAUSAL: ", causal", UNIFORM: ", uniform"}
STREAM_UNITS = {"event_us": "time per event, µs", "state_kib": "carried to the next segment, KiB"}
STREAM_UNITS |= {"resident_mib": "rise of resident memory, MiB"}
# From what is counted as the mechanism's own work to what is overhead: one hue, fading.
SHADES = dict(zip(PARTS, ("#1b4965", "#4a7fa5", "#8a6fc9", "#93b7cf", "#c9c3b5", "#d1571f", "#e6e1d6"), strict=True))


def order_of(models: Iterable[str]) -> list[str]:
    """The mechanisms and variants among the models, in the study's order."""
    present = set(models)
    return [f"{model}{suffix}" for model in ORDER for suffix in VARIANTS if f"{model}{suffix}" in present]


def look_of(model: str) -> dict[str, str]:
    """Colour, marker, line and label of a mechanism or variant."""
    suffix = next((suffix for suffix in VARIANTS if suffix and model.endswith(suffix)), "")
    style = MODEL_STYLE[model.removesuffix(suffix)]
    look = {name: style[name] for name in ("color", "marker")}
    return look | {"linestyle": "--" if suffix else "-", "label": style["label"] + VARIANTS[suffix]}


def reasons(rows: pd.DataFrame) -> str:
    """Why measurements are missing, in words: every call among the rows, measured or result rows, that was skipped."""
    named = rows.rename(columns={"model": "mechanism", "split": "direction", "x": "length"})
    found = named[named["metric"].isin(REASONS)]
    said: dict[str, list[str]] = {}
    for (metric, mechanism, split), part in found.groupby(["metric", "mechanism", "direction"], sort=False):
        lengths = sorted(part["length"].dropna().unique())
        at = f" from {lengths[0]:,.0f} events on" if lengths else ""
        said.setdefault(REASONS[metric][0], []).append(f"{look_of(mechanism)['label']} in {SPLITS[split]}{at}")
    return "; ".join(f"{reason}: {', '.join(calls)}" for reason, calls in said.items()) or "too few points asked for"


def listed(values: pd.Series, form: str = "{:.0%}") -> str | float:
    """The mechanisms with their values, in words; missing where no value is known."""
    known = values.dropna().items()
    return ", ".join(f"{MODEL_STYLE[model]['label']} {form.format(value)}" for model, value in known) or np.nan


def panels_of(rows: pd.DataFrame) -> list[str]:
    """The directions among the rows, a panel each; both where nothing was measured."""
    return [split for split in SPLITS if split in set(rows["split"])] or list(SPLITS)


def name_lines(ax: Axes) -> None:
    """A legend, where there is anything to name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend()


def against_length(rows: pd.DataFrame, metric: str) -> Figure:
    """A metric against length, one panel per direction, both axes logarithmic.

    Bars are the spread of time; hollow marks on dotted lines are predictions for calls that the budget did not allow.
    """
    splits = panels_of(rows)
    fig, panels = plt.subplots(
        1, len(splits), sharex=True, sharey=True, squeeze=False, figsize=(4.2 * len(splits), 4.0)
    )
    for ax, split in zip(panels[0], splits, strict=True):
        draw_curves(ax, rows[rows["split"] == split], metric)
        ax.set_title(SPLITS[split])
        ax.set_xlabel("length, events")
    panels[0, 0].set_ylabel(UNITS[metric])
    panels[0, 0].legend()
    return fig


def draw_curves(ax: Axes, rows: pd.DataFrame, metric: str, axis: str = "length") -> None:
    """One curve per mechanism with its spread and its predictions, along a length or another setting."""
    table = rows[rows["axis"] == axis].pivot(index=["model", "x"], columns="metric", values="value").sort_index()
    skip, unit = SKIPS[metric]
    for model in order_of(table.index.get_level_values("model")):
        look, found = look_of(model), table.loc[model].reindex(columns=table.columns.union([metric]))
        known = found.dropna(subset=metric)
        draw_range(ax, known, metric, model)
        if skip in found.columns and found[skip].notna().any():
            skipped = found[skip].dropna() * unit
            guess = pd.concat([known.loc[known.index < skipped.index.min(), metric].tail(1), skipped])
            look |= {"linestyle": ":", "label": "_"}
            ax.plot(guess.index, guess, markerfacecolor="white", zorder=1, **look)
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)
    length_axis(ax, [int(place) for place in rows["x"].dropna().unique()])


def length_axis(ax: Axes, lengths: Sequence[int]) -> None:
    """A logarithmic axis of lengths, with ticks at up to seven of those measured."""
    if not lengths:
        return
    doublings = [length for length in sorted(lengths) if np.log2(length) % 1 == 0] or sorted(lengths)
    ax.set_xscale("log")
    ax.set_xticks(doublings[:: -(-len(doublings) // 7)])
    plain_numbers(ax.xaxis)
    ax.tick_params(axis="x", labelrotation=45)


def plain_numbers(axis: Axis) -> None:
    """Numbers in full instead of powers of ten, none at minor ticks."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def crossover_intervals(crossings: pd.DataFrame, lengths: Sequence[int]) -> Figure:
    """The length from which each challenger is faster, a row per pair, a panel per direction; hollow at the ends."""
    splits = panels_of(crossings)
    pairs = list(dict.fromkeys(zip(crossings["model"], crossings["against"], strict=True)))
    size = (1.8 + 3.2 * len(splits), 1.4 + 0.45 * len(pairs))
    fig, panels = plt.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False, figsize=size)
    for ax, split in zip(panels[0], splits, strict=True):
        for row in crossings[crossings["split"] == split].itertuples():
            place = pairs.index((row.model, row.against))
            if np.isnan(row.crossover_length):
                ax.annotate(NOT_MEASURED.lower(), (min(lengths), place), fontsize=8)
                continue
            within = min(lengths) < row.crossover_length < max(lengths)
            draw_crossover(ax, place, row.crossover_length, (row.low, row.high) if within else None, row.model)
            note = crossover_note(row.crossover_length, row.low, row.high, row.pays, lengths)
            side = "right" if row.crossover_length > np.sqrt(min(lengths) * max(lengths)) else "left"
            ax.annotate(note, (row.crossover_length, place), (0, 6), textcoords="offset points", ha=side, fontsize=8)
        ax.set(title=SPLITS[split], xlabel="length from which it is faster, events")
        length_axis(ax, lengths)
    labels = {model: MODEL_STYLE[model]["label"] for model in ORDER}
    panels[0, 0].set_yticks(
        range(len(pairs)), [f"{labels[model]} before\n{labels[against]}" for model, against in pairs]
    )
    panels[0, 0].set(ylim=(len(pairs) - 0.5, -0.7), xlim=(min(lengths) / 1.3, max(lengths) * 1.3))
    return fig


def draw_crossover(ax: Axes, place: int, length: float, interval: tuple[float, float] | None, model: str) -> None:
    """A point with its interval; hollow without one."""
    look = {"color": MODEL_STYLE[model]["color"], "marker": MODEL_STYLE[model]["marker"]}
    if interval is None:
        ax.plot([length], [place], fillstyle="none", **look)
    else:
        error = [[length - interval[0]], [interval[1] - length]]
        ax.errorbar(length, place, xerr=np.maximum(error, 0), **look)


def crossover_note(length: float, low: float, high: float, pays: bool, lengths: Sequence[int]) -> str:
    """The cross-over in a few words."""
    if not pays:
        return "at none"
    return "at all" if length <= min(lengths) else f"{length:,.0f} ({low:,.0f} to {high:,.0f})"


def beside_source(rows: pd.DataFrame, source: pd.DataFrame) -> Figure:
    """Time and memory of the encoder here (left) and in the source study (right), with the same limits in a row."""
    fig, panels = plt.subplots(2, 2, sharex=True, sharey="row", figsize=(8.4, 7.0))
    published = source[source["axis"] == "length"].assign(model=source["model"].replace("softmax", "explicit_softmax"))
    for line, metric in zip(panels, UNITS, strict=True):
        draw_curves(line[0], rows, metric)
        draw_curves(line[1], published, metric)
        line[0].set_ylabel(UNITS[metric])
    panels[0, 0].set_title("measured here")
    panels[0, 1].set_title("published, on a GPU")
    for ax in panels[1]:
        ax.set_xlabel("length, events")
    panels[0, 0].legend()
    return fig


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
    """One curve, with bars from the low to the high end where there are such."""
    if f"{metric}_low" not in table.columns:
        ax.plot(table.index, table[metric], **look_of(model))
        return
    error = np.abs(table[[f"{metric}_low", f"{metric}_high"]].T.to_numpy() - table[metric].to_numpy())
    ax.errorbar(table.index, table[metric], yerr=error, **look_of(model))


def along_stream(rows: pd.DataFrame) -> Figure:
    """Time per event, state and resident memory along a stream; a hollow mark where a stream was ended."""
    fig, panels = plt.subplots(1, 3, sharex=True, figsize=(11.0, 3.8))
    table = rows.pivot(index=["model", "x"], columns="metric", values="value").sort_index()
    for ax, (metric, unit) in zip(panels, STREAM_UNITS.items(), strict=True):
        for model in order_of(rows["model"]):
            found = table.loc[model].reindex(columns=table.columns.union([metric]))
            draw_range(ax, found, metric, model)
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
