"""Time and memory against length from saved rows: looks and axes of every figure of speed, and what a front page says.

Imports no mechanism, so that a page does not change with the code of one.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.optimize import isotonic_regression

from study.mechanisms import MECHANISMS
from study.report import MODEL_STYLE

# From the steepest growth to the flattest: of a pair, the later is the one expected to pay from some length on.
ORDER = ("explicit_softmax", *MECHANISMS)
CAUSAL, UNIFORM = "_causal", "_uniform"
VARIANTS = {"": "", CAUSAL: " (causal)", UNIFORM: " (uniform)"}
"""What a variant of a mechanism is named by in rows, and what a label adds for it."""
UNITS = {
    "time_ms": "time of a call, ms",
    "peak_memory_mib": "peak memory of a call, MiB",
    "event_us": "time per event, µs",
    "state_kib": "carried to the next segment, KiB",
    "resident_mib": "rise of resident memory, MiB",
}


def label_of(model: str) -> str:
    """A mechanism's name; here softmax is the fused one, because the naive one stands beside it."""
    return "fused softmax" if model == "softmax" else MODEL_STYLE[model]["label"]


def split_variant(model: str) -> tuple[str, str]:
    """The mechanism, and what names its variant."""
    variant = "" if model in ORDER else next(suffix for suffix in (CAUSAL, UNIFORM) if model.endswith(suffix))
    return model.removesuffix(variant), variant


def order_of(models: Iterable[str]) -> list[str]:
    """The mechanisms and variants in the study's order, a user's own ones last."""
    return sorted(set(models), key=lambda model: (ORDER.index(split_variant(model)[0]), model))


def look_of(model: str) -> dict[str, str]:
    """Marker, line and label of a mechanism; a variant keeps its mechanism's colour and is dashed."""
    mechanism, variant = split_variant(model)
    look = {"linestyle": "--" if variant else "-", "label": label_of(mechanism) + VARIANTS[variant]}
    return MODEL_STYLE[mechanism] | look


def place_ticks(ax: Axes, places: Iterable) -> None:
    """A logarithmic axis with ticks at up to seven of the places measured."""
    ordered = sorted(places)
    if ordered:
        doublings = [place for place in ordered if np.log2(place) % 1 == 0] or ordered
        ax.set_xscale("log")
        ax.set_xticks(doublings[:: -(-len(doublings) // 7)], minor=False)
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter("{x:,g}")
        ax.tick_params(axis="x", labelrotation=45 if len(doublings) > 4 else 0)


def plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as numbers in full: powers of ten, and between them where these would be few."""
    low, high = axis.get_view_interval()
    if low > 0:  # otherwise nothing is drawn
        decades = np.log10(high / low)
        between = (1.0,) if decades > 3 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=between) if decades > 1 else MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def layer_rows(rows: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Of all saved rows those of one attention layer in one direction (`forward` or `training`)."""
    return rows[(rows["task"] == "attention") & (rows["split"] == direction)]


def layer_lengths(rows: pd.DataFrame, metric: str, direction: str) -> pd.DataFrame:
    """The metric of a layer by length, a column for each mechanism."""
    layer = layer_rows(rows, direction)
    chosen = layer[(layer["axis"] == "length") & (layer["metric"] == metric)]
    table = chosen.pivot(index="x", columns="model", values="value")
    return table[order_of(table.columns)]


def crossings_with_softmax(rows: pd.DataFrame, direction: str = "forward") -> pd.DataFrame:
    """By mechanism the length in events from which a layer is faster than fused softmax, with its interval.

    Where `pays` is false it is at no length measured; a length at the shortest one measured means at all of them.
    """
    layer = layer_rows(rows, direction)
    found = layer[layer["axis"] == "against_softmax"].pivot(index="model", columns="metric", values="value")
    return found.rename(columns=lambda name: name.removeprefix("crossover_")).loc[order_of(found.index)]


def time_panel(ax: Axes, rows: pd.DataFrame, direction: str = "forward", history: float | None = None) -> None:
    """Time of a layer against length; rings where a line crosses that of fused softmax, dashed: a typical `history`."""
    table = layer_lengths(rows, "time_ms", direction)
    _draw_lines(ax, table, "time of a layer, ms")
    if table.empty:
        return
    for model, row in crossings_with_softmax(rows, direction).iterrows():
        if model in table and row["pays"] and row["length"] > table.index.min():
            known = table[model].dropna()
            height = np.exp(np.interp(np.log(row["length"]), np.log(known.index), np.log(known)))
            color = MODEL_STYLE[model]["color"]
            ax.plot(row["length"], height, "o", fillstyle="none", markersize=11, color=color)
            ax.plot([row["length"]] * 2, [ax.get_ylim()[0], height], linestyle=":", linewidth=1, color=color)
            foot = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 9}
            ax.annotate(f"{row['length']:,.0f}", (row["length"], 0), (3, 4), **foot)
    if history:
        ax.axvline(history, ymin=0.12, color="#77756f", linestyle="--", linewidth=1)
        where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top", "fontsize": 9}
        ax.annotate(f"median history\n{history:,.0f} events", (history, 1.0), (4, 0), **where)


def memory_panel(ax: Axes, rows: pd.DataFrame, direction: str = "forward") -> None:
    """Peak memory that one call of a layer adds, against length."""
    _draw_lines(ax, layer_lengths(rows, "peak_memory_mib", direction), "peak memory of a layer, MiB")


def _draw_lines(ax: Axes, table: pd.DataFrame, label: str) -> None:
    """A line per column on logarithmic axes, named at its right end."""
    for model in table:
        ax.plot(table.index, table[model], **look_of(model))
    ax.set(xlabel="length, events", ylabel=label, yscale="log")
    place_ticks(ax, table.index)
    if not table.empty:
        ax.set_ylim(table.min().min() / 2, table.max().max() * 1.5)
        plain_numbers(ax.yaxis)
        _name_ends(ax, table)


def _name_ends(ax: Axes, table: pd.DataFrame, apart: float = 0.075) -> None:
    """Every line's name beside its last point; names that would cover each other share the room around them."""
    low, high = np.log(ax.get_ylim())
    last = pd.Series({model: table[model].dropna().iloc[-1] for model in table})
    heights = ((np.log(last) - low) / (high - low)).sort_values()
    steps = apart * np.arange(len(heights))
    places = isotonic_regression(heights.to_numpy() - steps).x + steps
    words = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "center", "fontsize": 9}
    for model, place in zip(heights.index, places, strict=True):
        ax.annotate(label_of(model), (table.index.max(), place), (8, 0), annotation_clip=False, **words)


def advantages(rows: pd.DataFrame, direction: str = "forward", length: int = 4096) -> pd.DataFrame:
    """By mechanism: the crossing with fused softmax, and times less time and memory at `length` events.

    Columns `crossing`, `crossing_low`, `crossing_high` (events; missing where it is faster at no length, the shortest
    one measured where it is faster at all of them) and
    `time_softmax`, `memory_softmax`, `time_explicit_softmax`, `memory_explicit_softmax`: softmax over mechanism, so
    that above one the mechanism is better. What was not measured is missing.
    """
    crossings = crossings_with_softmax(rows, direction).reindex(columns=["length", "low", "high", "pays"])
    crossings = crossings.drop(columns="pays").where(crossings["pays"] == 1)
    found = crossings.rename(columns={"length": "crossing", "low": "crossing_low", "high": "crossing_high"})
    for name, metric in (("time", "time_ms"), ("memory", "peak_memory_mib")):
        table = layer_lengths(rows, metric, direction)
        at = table.loc[length] if length in table.index else pd.Series(dtype=float)
        for softmax in ("softmax", "explicit_softmax"):
            found[f"{name}_{softmax}"] = at.get(softmax, np.nan) / at.reindex(found.index)
    return found.drop(index="softmax", errors="ignore")


def conditions(record: Mapping) -> dict[str, object]:
    """The layer and the machine that the rows belong to, from a study's `provenance.json`."""
    layer = record["notebooks"].get("07_speed_and_memory", {})
    names = ("batch", "heads", "head_dim", "features", "basis", "segment")
    return {"threads": 1, "processor": record["processor"]} | {name: layer[name] for name in names if name in layer}


def median_history(rows: pd.DataFrame) -> float | None:
    """Median number of events of a customer, from the rows of notebook 01."""
    chosen = rows[(rows["metric"] == "events_per_customer") & (rows["x"] == 0.5)]
    return float(chosen["value"].iloc[0]) if len(chosen) else None
