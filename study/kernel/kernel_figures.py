"""Figures of the kernel-error notebook, drawn from its rows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"trigonometric": "#77756f", "positive": "#d1571f", "hyperbolic": "#0a6ab0", "favor++": "#00a37a"}
MARKERS = {"trigonometric": "D", "positive": "s", "hyperbolic": "o", "favor++": "^"}
LINES = {"gaussian": ":", "orthogonal": "-", "fixed_norm": "--", "simplex": "-."}
WORDS = {"gaussian": "independent", "fixed_norm": "fixed norm", "theorem_2": "Theorem 2"}


def label(estimator: str) -> str:
    """The estimator, its kernel and its projection, in words."""
    kernel, _, projection = estimator.partition(" ")
    if kernel not in COLOURS:
        return WORDS.get(estimator, estimator)
    return f"{kernel}, {WORDS.get(projection, projection)}" if projection else kernel


def style_of(estimator: str) -> dict[str, str]:
    """Colour and marker by kernel, line by projection, and a readable label."""
    kernel, _, projection = estimator.partition(" ")
    colour, marker = COLOURS.get(kernel, "#1b1f24"), MARKERS.get(kernel, ".")
    return {"color": colour, "marker": marker, "linestyle": LINES.get(projection, "-"), "label": label(estimator)}


def lines_with_spread(ax: Axes, rows: pd.DataFrame) -> None:
    """Median and middle half of `value` against `x`, one line per model."""
    for model, of_model in rows.groupby("model", sort=False):
        spread = of_model.groupby("x")["value"].quantile([0.25, 0.5, 0.75]).unstack()
        style = style_of(model)
        ax.fill_between(spread.index, spread[0.25], spread[0.75], color=style["color"], alpha=0.15, linewidth=0)
        ax.plot(spread.index, spread[0.5], **style)


def measured_ticks(ax: Axes, values: pd.Series) -> None:
    """A logarithmic axis labelled at the measured values, at every second one where there are many."""
    ticks = sorted(values.unique())
    ticks = ticks if len(ticks) < 7 else ticks[::2]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.minorticks_off()


def panels(count: int, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """Panels side by side on shared vertical limits."""
    fig, axes = plt.subplots(1, count, figsize=(max(7.0, 2.7 * count), height), sharey=True)
    return fig, list(np.atleast_1d(axes))


def legend_below(fig: Figure, ax: Axes, columns: int = 3) -> None:
    """One legend for all panels, under them."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def spread_figure(rows: pd.DataFrame) -> Figure:
    """Variance of the dot product against d, and the share of keys that softmax uses with and without 1/√d."""
    fig, axes = plt.subplots(1, 2)
    axes[0].errorbar(rows["x"], rows["variance"], 4 * rows["standard_error"], fmt="o", color="#0a6ab0")
    axes[0].plot(rows["x"], rows["x"], color="#1b1f24", linewidth=0.8)
    for ax in axes:
        measured_ticks(ax, rows["x"])
    axes[0].annotate("d", (rows["x"].iloc[-1], rows["x"].iloc[-1]), xytext=(-12, -2), textcoords="offset points")
    axes[0].set(yscale="log", xlabel="d", ylabel="variance of q·k")
    for column, label, colour in (("share_scaled", "q·k / √d", "#0a6ab0"), ("share_unscaled", "q·k", "#d1571f")):
        axes[1].plot(rows["x"], rows[column], marker="o", color=colour)
        last = rows["x"].iloc[-1], rows[column].iloc[-1]
        axes[1].annotate(label, last, xytext=(0, 6), textcoords="offset points", ha="right", color=colour)
    axes[1].set(xlabel="d", ylabel="share of keys in use", ylim=(0, 1))
    return fig


def pair_figure(frame: pd.DataFrame) -> Figure:
    """Measured mean and mean square error of every estimator and pair, over their closed forms."""
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.9))
    for model, rows in frame.groupby("model", sort=False):
        style = style_of(model) | {"linestyle": "none"}
        ratio, error = rows["mean"] / rows["mean_expected"], rows["mean_error"] / rows["mean_expected"]
        axes[0].errorbar(rows["sum_square"], ratio, 4 * error, **style)
        axes[1].plot(rows["square_expected"], rows["square"], alpha=0.8, **style)
    axes[0].axhline(1, color="#1b1f24", linewidth=0.8)
    ends = frame["square_expected"].min(), frame["square_expected"].max()
    axes[1].plot(ends, ends, color="#1b1f24", linewidth=0.8)
    axes[0].set(xlabel="|x + y|²", ylabel="measured mean / expected mean")
    axes[1].set(xscale="log", yscale="log", xlabel="closed form", ylabel="measured relative square error")
    legend_below(fig, axes[1])
    return fig


def ratio_figure(maps: dict[str, np.ndarray], lengths: np.ndarray, angles: np.ndarray) -> Figure:
    """log₁₀ of the error ratio over angle and length, one panel per map, with the line of equal error."""
    fig, axes = panels(len(maps))
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        image = ax.pcolormesh(angles, lengths, values.clip(-6, 6), cmap="RdBu_r", vmin=-6, vmax=6, rasterized=True)
        ax.contour(angles, lengths, values, [0], colors="#1b1f24", linewidths=1)
        ax.set(title=title, xlabel="angle between x and y")
        ax.grid(False)
    axes[0].set_ylabel("|x| = |y|")
    fig.colorbar(image, ax=list(axes), label="log₁₀ trigonometric / positive")
    return fig


def gain_figure(rows: pd.DataFrame) -> Figure:
    """Share of the independent error left by orthogonal rows, one panel per head_dim, with the paper's bound."""
    fig, axes = panels(rows["split"].nunique())
    for ax, (dim, of_dim) in zip(axes, rows.groupby("split", sort=False), strict=True):
        for model, line in of_dim.groupby("model", sort=False):
            style = style_of(model) | {"marker": None, "linestyle": "--" if model == "theorem_2" else "-"}
            ax.plot(line["x"], line["value"], **style)
        ax.set(title=dim, xlabel="|x ± y|² (logarithmic)", xscale="log", ylim=(0, 1.05))
    axes[0].set_ylabel("orthogonal / independent error")
    legend_below(fig, axes[0], columns=4)
    return fig


def output_figure(rows: pd.DataFrame, label: str) -> Figure:
    """Output error over that of uniform attention, one panel per variance of queries and keys."""
    fig, axes = panels(rows["task"].nunique(), height=3.9)
    for ax, (task, of_task) in zip(axes, rows.groupby("task", sort=False), strict=True):
        lines_with_spread(ax, of_task)
        ax.axhline(1, color="#1b1f24", linewidth=0.8)
        measured_ticks(ax, of_task["x"])
        ax.set(title=task, yscale="log", xlabel=label, ylim=(3e-3, 1e3))
    axes[0].set_ylabel("error / uniform attention's")
    legend_below(fig, axes[0])
    return fig


def sup_figure(rows: pd.DataFrame) -> Figure:
    """Largest error against the number of features and against the length."""
    fig, axes = panels(2, height=3.9)
    names = {"features": "features (logarithmic)", "length": "length (logarithmic)"}
    for ax, (axis, label) in zip(axes, names.items(), strict=True):
        swept = rows[rows["axis"] == axis]
        lines_with_spread(ax, swept)
        measured_ticks(ax, swept["x"])
        ax.set(yscale="log", xlabel=label)
    axes[0].set_ylabel("largest error of the matrix")
    legend_below(fig, axes[0])
    return fig


def single_figure(rows: pd.DataFrame, x: str, y: str, limits: tuple[float, float] | None = None) -> Figure:
    """One panel of medians with their middle half, logarithmic both ways, with a line at one."""
    fig, ax = plt.subplots(figsize=(7.0, 4.6))
    lines_with_spread(ax, rows)
    ax.axhline(1, color="#1b1f24", linewidth=0.8)
    measured_ticks(ax, rows["x"])
    ax.set(yscale="log", xlabel=x, ylabel=y, ylim=limits)
    legend_below(fig, ax)
    return fig


def heads_figure(rows: pd.DataFrame, uniform: pd.Series) -> Figure:
    """Relative output error of every trained head against feature columns; `uniform` names a level for each head."""
    fig, axes = panels(rows["split"].nunique(), height=3.9)
    for ax, (head, of_head) in zip(axes, rows.groupby("split", sort=False), strict=True):
        lines_with_spread(ax, of_head)
        ax.axhline(uniform[head], color="#1b1f24", linewidth=0.8)
        measured_ticks(ax, of_head["x"])
        ax.set(title=head, yscale="log", xlabel="columns", ylim=(0.02, 5))
    axes[0].set_ylabel("relative error of the output")
    legend_below(fig, axes[0])
    return fig
