"""Figures of the kernel-error notebook, drawn from its rows: colour by kernel, line and marker by projection."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.figures import legend_below, measured_ticks

# Other than the mechanisms' own; each has three to one contrast on white and on the page's dark background.
COLOURS = {"trigonometric": "#77756f", "positive": "#b5327a", "hyperbolic": "#7a63d8"}
LINES = {"gaussian": ":", "orthogonal": "-", "fixed_norm": "--"}
MARKERS = {"gaussian": "D", "orthogonal": "o", "fixed_norm": "s"}
WORDS = {"gaussian": "independent", "fixed_norm": "fixed norm", "theorem_2": "Theorem 2"}
INK = "#1b1f24"
Limits = tuple[float, float] | None


def label(estimator: str) -> str:
    """The estimator, its kernel and its projection, in words."""
    return ", ".join(WORDS.get(word, word) for word in estimator.split(" "))


def style_of(estimator: str) -> dict[str, str]:
    """Colour by kernel, line and marker by projection, and a readable label."""
    kernel, _, projection = estimator.partition(" ")
    look = {"linestyle": LINES.get(projection, "-"), "marker": MARKERS.get(projection, ".")}
    return {"color": COLOURS.get(kernel, INK), "label": label(estimator), **look}


def panels(count: int, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """Panels side by side on shared vertical limits."""
    fig, axes = plt.subplots(1, count, figsize=(max(7.0, 2.7 * count), height), sharey=True)
    return fig, list(np.atleast_1d(axes))


def pair_figure(frame: pd.DataFrame) -> Figure:
    """Means over what is expected with four standard errors, and errors over their closed form; a column per kernel."""
    kernels = frame["model"].str.split(" ").str[0]
    columns = kernels.nunique()
    fig, axes = plt.subplots(2, columns, figsize=(2.4 * columns, 5.2), sharex=True, sharey="row", squeeze=False)
    for column, (kernel, of_kernel) in zip(axes.T, frame.groupby(kernels, sort=False), strict=True):
        models = list(of_kernel.groupby("model", sort=False))
        for ax, name in zip(column, ("mean", "square"), strict=True):
            for place, (model, rows) in enumerate(models):
                x = rows["sum_square"] + 0.035 * (place - (len(models) - 1) / 2)  # apart, so that none hides another
                mean, error = (rows[part] / rows[f"{name}_expected"] for part in (name, f"{name}_error"))
                look = style_of(model) | {"linestyle": "none", "markersize": 4, "linewidth": 1}
                ax.errorbar(x, mean, 4 * error, **look)
            ax.axhline(1, color=INK, linewidth=0.8)
        column[0].set_title(kernel)
        column[1].set_xlabel("|x + y|²")
    axes[0, 0].set_ylabel("mean / expected")
    axes[1, 0].set_ylabel("square error / closed form")
    marks = [plt.Line2D([], [], color=INK, marker=mark, linestyle="none") for mark in MARKERS.values()]
    fig.legend(marks, [label(name) for name in MARKERS], loc="outside lower center", ncols=len(MARKERS))
    return fig


def swept_figure(
    rows: pd.DataFrame, by: str, xlabel: str, ylabel: str, limits: Limits = None, levels: dict[str, float] | None = None
) -> Figure:
    """Median and middle half of `value` against `x`, a panel for each value of `by`; `levels` are lines in panels."""
    fig, axes = panels(rows[by].nunique(), height=3.9)
    for ax, (name, chosen) in zip(axes, rows.groupby(by, sort=False), strict=True):
        for model, of_model in chosen.groupby("model", sort=False):
            spread = of_model.groupby("x")["value"].quantile([0.25, 0.5, 0.75]).unstack()
            style = style_of(model)
            ax.fill_between(spread.index, spread[0.25], spread[0.75], color=style["color"], alpha=0.15, linewidth=0)
            ax.plot(spread.index, spread[0.5], **style)
        if levels:
            ax.axhline(levels[name], color=INK, linewidth=0.8)
        measured_ticks(ax, chosen["x"])
        ax.set(title=name, yscale="log", xlabel=f"{xlabel} (logarithmic)")
        if limits:
            ax.set_ylim(limits)
    axes[0].set_ylabel(ylabel)
    legend_below(fig, *axes)
    return fig
