"""Time and memory against length, in figures and in words, from saved rows."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from study.report import MODEL_STYLE, NOT_MEASURED
from study.speed.scaling import ORDER, REASONS
from study.speed.sweeps import CAUSAL, UNIFORM

UNITS = {"time_ms": "time of a call, ms", "peak_memory_mib": "peak memory of a call, MiB"}
SPLITS = {"forward": "inference", "training": "training"}
# How a budget's skip is drawn: the metric it belongs to, and its unit in that metric's.
SKIPS = {"time_ms": ("skipped_time", 1000.0), "peak_memory_mib": ("skipped_memory", 2.0**-20)}
# A variant keeps its mechanism's colour and is drawn dashed.
VARIANTS = {"": "", CAUSAL: ", causal", UNIFORM: ", uniform"}


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
        if f"{metric}_low" in known.columns:
            error = np.abs(known[[f"{metric}_low", f"{metric}_high"]].T.to_numpy() - known[metric].to_numpy())
            ax.errorbar(known.index, known[metric], yerr=error, **look)
        else:
            ax.plot(known.index, known[metric], **look)
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
