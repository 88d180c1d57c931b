"""Figures of the map of tasks: what each mechanism is for, and what that depends on."""

from collections.abc import Iterable
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

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


def family(network: str) -> str:
    """The kind of network that a name begins with."""
    return network if network in FAMILIES else network.split("_")[0]


def size(network: str) -> int:
    """The number of features or functions in a name, or 0."""
    number = network.removeprefix(family(network)).lstrip("_")
    return int(number) if number.isdigit() else 0


def style(network: str) -> dict[str, str]:
    """Colour, marker and label of a network; the label ends with the number of its features or functions."""
    name, looks = FAMILIES[family(network)]
    return {**looks, "label": f"{name} ({size(network)})" if size(network) else name}


def in_order(networks: Iterable[str]) -> list[str]:
    """Networks by family, then by size."""
    return sorted(networks, key=lambda name: (list(FAMILIES).index(family(name)), size(name)))


def map_figure(final: pd.DataFrame, chance: pd.Series, optimum: pd.Series) -> Figure:
    """Accuracy by task and network; on order, of attention with rotary places."""
    names = in_order(final["model"].unique())
    fig, panels = plt.subplots(1, len(TITLES), sharey=True, figsize=(9, 0.9 + 0.3 * len(names)))
    without = final["model"].isin(["gru", "none"])
    chosen = final[(final["task"] != "order") | (final["split"] == "rotary") | (without & (final["split"] == "bare"))]
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


def sweep_figure(recall: pd.DataFrame, alone: dict[int, float]) -> Figure:
    """Recall by content (above) and by time against length, distance, and features or functions; a line per network.

    `alone`: by length, what a segment alone can know by content.
    """
    fig, panels = plt.subplots(2, 3, sharey=True, figsize=(10, 6.4))
    longest = recall[(recall["axis"] == "length") & (recall["x"] == recall.groupby("task")["x"].transform("max"))]
    sized = longest.assign(x=longest["model"].map(size), axis="size", line=longest["model"].map(family))
    sizes = sized.groupby(["task", "line"])["x"].transform("nunique")
    sized = sized[sized["line"].isin(["performer", "hyperbolic", "even"]) & (sizes > 1)]
    rows = pd.concat([recall.assign(line=recall["model"]), sized])
    names = in_order(recall["model"].unique())
    kin = [sum(family(other) == family(name) for other in names[:place]) for place, name in enumerate(names)]
    dashes = {name: ("-", "--", ":")[place % 3] for name, place in zip(names, kin, strict=True)}
    across = {"length": "events", "distance": "events ago", "size": "features or basis functions"}
    for (task, axis), ax in zip(product(("recall_content", "recall_time"), across), panels.flat, strict=True):
        part = rows[(rows["task"] == task) & (rows["axis"] == axis)]
        ax.set_visible(not part.empty)
        for name in in_order(part["line"].unique()):
            values = part[part["line"] == name].groupby("x")["value"].agg(["mean", "min", "max"])
            spread = [values["mean"] - values["min"], values["max"] - values["mean"]]
            looks = style(name) | ({"label": "_"} if axis == "size" else {})
            ax.errorbar(values.index, values["mean"], spread, **looks, linestyle=dashes.get(name, "-"))
        ax.axhline(1 / CLASSES, color="#7d7d7d", linestyle=":")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.set(title=TITLES[task], xlabel=across[axis], ylabel="accuracy" if axis == "length" else None)
    panels[0, 0].plot(list(alone), list(alone.values()), "kx", zorder=3)
    handles = {
        label: handle for ax in panels.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return fig
