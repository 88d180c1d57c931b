"""Figures of the map of tasks: what each mechanism is for, and what that depends on."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from study.figures import legend_below
from study.mechanisms import OWN
from study.report import MODEL_STYLE
from study.tasks.streams import CLASSES

TITLES = {"counts": "counts", "order": "order", "recall_content": "recall by content", "recall_time": "recall by time"}
# By how a network's name begins: what it is called, and its colour, that of the study's mechanism.
FAMILIES = {
    "softmax": ("softmax", MODEL_STYLE["softmax"]),
    "performer": ("Performer", MODEL_STYLE["performer"]),
    "hyperbolic": ("hyperbolic Performer", MODEL_STYLE["performer"] | {"marker": "D"}),
    "even": ("∞-former", MODEL_STYLE["infinite_former"]),
    "sticky": ("sticky ∞-former", MODEL_STYLE["infinite_former"] | {"marker": "v"}),
    **{name: (MODEL_STYLE[name]["label"], MODEL_STYLE[name]) for name in OWN},
    "bins": ("bin means", {"color": "#b0437f", "marker": "P"}),
    "local": ("segments alone", {"color": "#4f8291", "marker": "d"}),
    "gru": ("GRU", MODEL_STYLE["gru"]),
    "none": ("no attention", MODEL_STYLE["mean_pooling"]),
}


def parts(network: str) -> tuple[str, int]:
    """The kind of network that a name begins with, and the number of features or functions in it, or 0."""
    family = network if network in FAMILIES else network.split("_")[0]
    number = network.removeprefix(family).lstrip("_")
    return family, int(number) if number.isdigit() else 0


def style(network: str) -> dict[str, str]:
    """Colour, marker and label of a network; the label ends with the number of its features or functions."""
    family, size = parts(network)
    name, looks = FAMILIES[family]
    return {**looks, "label": f"{name} ({size})" if size else name}


def in_order(networks: Iterable[str]) -> list[str]:
    """Networks by family, then by size."""
    return sorted(networks, key=lambda name: (list(FAMILIES).index(parts(name)[0]), parts(name)[1]))


def map_figure(final: pd.DataFrame, chance: pd.Series, optimum: pd.Series) -> Figure:
    """Accuracy by task and network; on order, of attention with rotary places."""
    names = in_order(final["model"].unique())
    fig, panels = plt.subplots(1, len(TITLES), sharey=True, figsize=(9, 0.9 + 0.3 * len(names)))
    without = final["model"].isin(["gru", "none"])
    chosen = final[(final["task"] != "order") | (final["split"] == "rotary") | (without & (final["split"] == "bare"))]
    for ax, (task, title) in zip(panels, TITLES.items(), strict=True):
        ax.axvline(chance[task], color="#7d7d7d", linestyle=":")
        ax.axvline(optimum[task], color="#7d7d7d")
        for name, values in chosen[chosen["task"] == task].groupby("model")["accuracy"]:
            place, looks = names.index(name), style(name)
            ax.plot([values.min(), values.max()], [place, place], color=looks["color"])
            ax.plot(values, [place] * len(values), looks["marker"], color=looks["color"], alpha=0.7)
        ax.set(title=title, xlabel="accuracy", xlim=(max(0, chance[task] - 0.08), 1.03))
    panels[0].set(yticks=range(len(names)), yticklabels=[style(name)["label"] for name in names])
    panels[0].invert_yaxis()
    return fig


def sweep_figure(recall: pd.DataFrame, alone: dict[int, float]) -> Figure:
    """Recall by content and by time against length and distance; `alone`: what a segment can know, by length."""
    fig, panels = plt.subplots(2, 2, sharey=True, figsize=(9, 6.4))
    names = in_order(recall["model"].unique())
    families = [parts(name)[0] for name in names]
    for row, task in zip(panels, ("recall_content", "recall_time"), strict=True):
        for ax, (axis, xlabel) in zip(row, {"length": "events", "distance": "events ago"}.items(), strict=True):
            chosen = recall[(recall["task"] == task) & (recall["axis"] == axis)]
            for place, name in enumerate(names):
                values = chosen[chosen["model"] == name].groupby("x")["value"].agg(["mean", "min", "max"])
                spread = [values["mean"] - values["min"], values["max"] - values["mean"]]
                dash = ("-", "--", ":")[families[:place].count(families[place]) % 3]
                ax.errorbar(values.index, values["mean"], spread, **style(name), linestyle=dash)
            ax.axhline(1 / CLASSES, color="#7d7d7d", linestyle=":")
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:.0f}")
            ax.set(title=TITLES[task], xlabel=xlabel, ylabel="accuracy" if axis == "length" else None)
    panels[0, 0].plot(list(alone), list(alone.values()), "kx", zorder=3)
    legend_below(fig, *panels.flat, columns=4)
    return fig
