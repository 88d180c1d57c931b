"""Figures of the map of tasks: what each mechanism is for, and what that depends on."""

from collections.abc import Sequence
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.report import MODEL_STYLE

TITLES = {"counts": "counts", "order": "order", "recall_content": "recall by content", "recall_time": "recall by time"}
# By how a network's name begins: what it is called, and its colour, that of the study's mechanism.
FAMILIES = {
    "softmax": ("softmax", MODEL_STYLE["softmax"]),
    "performer": ("Performer", MODEL_STYLE["performer"]),
    "hyperbolic": ("Performer, hyperbolic", MODEL_STYLE["performer"] | {"marker": "D"}),
    "even": ("∞-former, even", MODEL_STYLE["infinite_former"]),
    "sticky": ("∞-former, sticky", MODEL_STYLE["infinite_former"] | {"marker": "v"}),
    "bins": ("bin means", {"color": "#b0437f", "marker": "P"}),
    "local": ("segments alone", {"color": "#4f8291", "marker": "d"}),
    "gru": ("GRU", MODEL_STYLE["gru"]),
    "none": ("no attention", MODEL_STYLE["mean_pooling"]),
}


def family(network: str) -> str:
    """What a network's name begins with."""
    return network.split("_")[0]


def style(network: str) -> dict[str, str]:
    """Colour, marker and label of a network; the label ends with the number of its features or functions."""
    name, looks = FAMILIES[family(network)]
    number = network.rpartition("_")[2]
    return {**looks, "label": f"{name}, {number}" if number.isdigit() else name}


def in_order(networks: Sequence[str]) -> list[str]:
    """Networks by family, then by size."""
    number = {name: int(name.rpartition("_")[2]) for name in networks if name.rpartition("_")[2].isdigit()}
    return sorted(networks, key=lambda name: (list(FAMILIES).index(family(name)), number.get(name, 0)))


def map_figure(final: pd.DataFrame, chance: pd.Series, optimum: pd.Series) -> Figure:
    """Accuracy by task and network; on order, of attention with rotary places."""
    names = in_order(final["model"].unique())
    fig, panels = plt.subplots(1, len(TITLES), sharey=True, figsize=(9, 0.9 + 0.3 * len(names)))
    without = final["model"].isin(["gru", "none"])
    chosen = final[(final["task"] != "order") | (final["split"] == "rotary") | (without & (final["split"] == "plain"))]
    for ax, (task, title) in zip(panels, TITLES.items(), strict=True):
        ax.axvline(chance[task], color="#7d7d7d", linestyle=":")
        ax.axvline(optimum[task], color="#7d7d7d")
        of_task = chosen[chosen["task"] == task].groupby("model")["accuracy"]
        for place, name in enumerate(names):
            if name in of_task.groups:
                values, looks = of_task.get_group(name), style(name)
                ax.plot([values.min(), values.max()], [place, place], color=looks["color"])
                ax.plot(values, [place] * len(values), looks["marker"], color=looks["color"], alpha=0.7)
        ax.set(title=title, xlabel="accuracy", xlim=(max(0, chance[task] - 0.08), 1.03))
    panels[0].set(yticks=range(len(names)), yticklabels=[style(name)["label"] for name in names])
    panels[0].invert_yaxis()
    return fig


def line(ax: Axes, values: pd.Series, **looks: str) -> None:
    """Mean over seeds at each level of the index, with bars from lowest to highest."""
    summary = values.groupby(level=0).agg(["mean", "min", "max"])
    spread = [summary["mean"] - summary["min"], summary["max"] - summary["mean"]]
    ax.errorbar(summary.index, summary["mean"], spread, **looks)


def sweep_figure(rows: pd.DataFrame, alone: dict[int, float]) -> Figure:
    """Recall by content and by time, against length and against distance."""
    fig, panels = plt.subplots(2, 2, sharey=True, figsize=(9, 6.4))
    shown = product(("recall_content", "recall_time"), ("length", "distance"))
    for (task, axis), ax in zip(shown, panels.flat, strict=True):
        part = rows[(rows["task"] == task) & (rows["axis"] == axis)]
        for shade, name in enumerate(in_order(part["model"].unique())):
            looks = style(name) | {"linestyle": ("-", "--", ":")[shade % 3], "linewidth": 1.2}
            line(ax, part[part["model"] == name].set_index("x")["value"], **looks)
        ax.axhline(1 / 8, color="#7d7d7d", linestyle=":")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.set(title=TITLES[task], xlabel="events" if axis == "length" else "events ago", ylabel="accuracy")
    panels[0, 0].plot(list(alone), list(alone.values()), "kx", zorder=3)
    for ax in panels[:, 1]:
        ax.legend(*ax.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def size_figure(final: pd.DataFrame) -> Figure:
    """Recall by content against random features, and by time against basis functions."""
    fig, panels = plt.subplots(1, 2, sharey=True)
    sizes = {
        "recall_content": ("random features", ("performer", "hyperbolic")),
        "recall_time": ("basis functions", ("even",)),
    }
    for ax, (task, (label, families)) in zip(panels, sizes.items(), strict=True):
        of_task = final[final["task"] == task].assign(family=final["model"].map(family))
        for name in families:
            part = of_task[of_task["family"] == name]
            looks = FAMILIES[name][1] | {"label": FAMILIES[name][0]}
            line(ax, part.set_index(part["model"].str.rpartition("_")[2].astype(int))["accuracy"], **looks)
        ax.axhline(1 / 8, color="#7d7d7d", linestyle=":")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.set(title=TITLES[task], xlabel=label, ylabel="accuracy")
        ax.legend()
    return fig
