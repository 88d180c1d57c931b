"""Figures that more than one notebook draws, from rows or runs."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from study.report import MODEL_STYLE


def measured_ticks(ax: Axes, values: pd.Series) -> None:
    """A logarithmic axis labelled at the measured values, at every second one where there are many."""
    ticks = sorted(values.unique())
    ticks = ticks if len(ticks) < 7 else ticks[::2]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.minorticks_off()


def legend_below(fig: Figure, *axes: Axes, columns: int = 3, **look: object) -> None:
    """One legend under all panels, where they name anything; a name that several panels have stands once."""
    found = {name: line for ax in axes for line, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    if found:
        fig.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, **look)


def plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as numbers in full: powers of ten, and between them where these would be few."""
    low, high = axis.get_view_interval()
    if low > 0:  # otherwise nothing is drawn
        decades = np.log10(high / low)
        between = (1.0,) if decades > 3 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=between) if decades > 1 else MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def interval_plot(ax: Axes, table: pd.DataFrame, labels: dict[str, str], xlabel: str) -> None:
    """One row per label of a table with columns value, low, high: point and interval in the first model's colour."""
    for place, name in enumerate(labels):
        row, style = table.loc[name], MODEL_STYLE.get(name.split(" − ")[0], {"color": "#6f6f6f", "marker": "o"})
        look = {"color": style["color"], "marker": style["marker"], "fillstyle": style.get("fillstyle", "full")}
        ax.errorbar(row["value"], place, xerr=[[row["value"] - row["low"]], [row["high"] - row["value"]]], **look)
    ax.set(yticks=range(len(labels)), yticklabels=labels.values(), xlabel=xlabel, ylim=(len(labels) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)


def attention_map(weights: np.ndarray) -> Figure:
    """Weight times length of every query and key event, one panel per head; one is uniform attention."""
    fig, panels = plt.subplots(1, len(weights), figsize=(9, 2.9), sharey=True)
    for head, (ax, matrix) in enumerate(zip(panels, weights, strict=True)):
        image = ax.imshow(matrix * len(matrix), cmap="viridis", vmin=0, vmax=3, origin="lower")
        ax.set(title=f"head {head + 1}", xlabel="key event", ylabel="query event" if head == 0 else None)
        ax.grid(False)
    fig.colorbar(image, ax=panels, label="weight × length")
    return fig


def kernel_error(rows: pd.DataFrame, trained_with: int) -> Figure:
    """Error against feature columns by head: median and middle half over draws; a line at the model's own."""
    fig, ax = plt.subplots()
    style = MODEL_STYLE["performer"]
    for (head, of_head), line in zip(rows.groupby("split"), cycle(["-", "--", "-.", (0, (1, 1))]), strict=False):
        spread = of_head.groupby("x")["value"].quantile([0.25, 0.5, 0.75]).unstack()
        ax.fill_between(spread.index, spread[0.25], spread[0.75], color=style["color"], alpha=0.12, linewidth=0)
        ax.plot(spread.index, spread[0.5], color=style["color"], linestyle=line, marker=style["marker"], label=head)
    ax.axvline(trained_with, color="#9a9a9a", linestyle=":", linewidth=0.8)
    ax.set(yscale="log", xlabel="feature columns (logarithmic)", ylabel="relative error of the output (logarithmic)")
    measured_ticks(ax, rows["x"])
    plain_numbers(ax.yaxis)
    ax.legend()
    return fig


def memory_densities(densities: pd.DataFrame) -> Figure:
    """Histograms of the means and of the widths of the read densities, one line per head, darker for later heads."""
    fig, panels = plt.subplots(1, 2)
    for head, chosen in densities.groupby("head"):
        shade = 0.35 + 0.65 * head / densities["head"].max()
        look = {"color": MODEL_STYLE["infinite_former"]["color"], "alpha": shade, "label": f"head {head}"}
        for ax, values in zip(panels, (chosen["mean"], np.log10(chosen["width"])), strict=True):
            ax.hist(values, bins=50, density=True, histtype="step", **look)
    panels[0].set(xlabel="place read (0 oldest, 1 newest)", ylabel="density over queries")
    panels[1].set(xlabel="log₁₀ of the standard deviation")
    panels[1].legend()
    return fig
