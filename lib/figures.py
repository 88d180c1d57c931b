"""Figures that more than one notebook draws, from rows or runs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from lib.report import MODEL_STYLE


def training_rows(notebook: str, model: str, runs: Sequence, fold_count: int) -> pd.DataFrame:
    """Loss and accuracy on the training customers per epoch of every run, as result rows."""
    frames = [
        run.history.melt("epoch", ["loss", "accuracy"], "metric").assign(
            seed=position // fold_count, split=f"fold {position % fold_count + 1}"
        )
        for position, run in enumerate(runs)
    ]
    rows = pd.concat(frames, ignore_index=True).rename(columns={"epoch": "x"})
    rows["metric"] = "training_" + rows["metric"]
    return rows.assign(experiment=notebook, task="gender", model=model, axis="epoch")


def training_curves(rows: pd.DataFrame, model: str) -> Figure:
    """Loss and accuracy per epoch: every run thin, their mean thick."""
    fig, panels = plt.subplots(1, 2)
    labels = {"training_loss": "cross-entropy, nats", "training_accuracy": "accuracy"}
    for ax, (metric, label) in zip(panels, labels.items(), strict=True):
        chosen = rows[rows["metric"] == metric]
        for _, run in chosen.groupby(["seed", "split"]):
            ax.plot(run["x"], run["value"], color=MODEL_STYLE[model]["color"], alpha=0.25, linewidth=0.8)
        mean = chosen.groupby("x")["value"].mean()
        ax.plot(mean.index, mean, color=MODEL_STYLE[model]["color"])
        ax.set(xlabel="epoch", ylabel=f"{label} on training customers")
    return fig


def roc_curves(predictions: pd.DataFrame) -> Figure:
    """Out-of-fold ROC curve of every model, one thin line per repeat."""
    fig, ax = plt.subplots(figsize=(4.6, 4.4))
    ax.plot([0, 1], [0, 1], color="#9a9a9a", linewidth=0.8, linestyle=":")
    for model, of_model in predictions.groupby("model", sort=False):
        for number, (_, repeat) in enumerate(of_model.groupby("seed")):
            false_rate, true_rate, _ = roc_curve(repeat["label"], repeat["probability"])
            label = MODEL_STYLE[model]["label"] if number == 0 else None
            ax.plot(false_rate, true_rate, color=MODEL_STYLE[model]["color"], linewidth=1, alpha=0.8, label=label)
    ax.set(xlabel="women taken for men, share", ylabel="men recognised, share", aspect="equal")
    ax.legend()
    return fig


def interval_plot(ax: Axes, table: pd.DataFrame, names: Sequence[str], label: str) -> None:
    """One row per entry of a table with columns value, low, high: point, interval, and the figures beside it."""
    for place, name in enumerate(names):
        row, style = table.loc[name], MODEL_STYLE[name.split(" − ")[0]]
        error = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        ax.errorbar(row["value"], place, xerr=error, color=style["color"], marker=style["marker"])
    labels = [" − ".join(MODEL_STYLE[part]["label"] for part in name.split(" − ")) for name in names]
    ax.set(yticks=range(len(names)), yticklabels=labels, xlabel=label, ylim=(len(names) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)


def kernel_error(rows: pd.DataFrame, trained_with: int) -> Figure:
    """Error against the number of features by head: median and middle half over draws; a line at the model's own."""
    fig, ax = plt.subplots()
    style = MODEL_STYLE["performer"]
    for head, of_head in rows.groupby("split"):
        spread = of_head.groupby("x")["value"].quantile([0.25, 0.5, 0.75]).unstack()
        ax.fill_between(spread.index, spread[0.25], spread[0.75], color=style["color"], alpha=0.12, linewidth=0)
        ax.plot(spread.index, spread[0.5], color=style["color"], marker=style["marker"], alpha=0.8)
        end = (spread.index[-1], spread[0.5].iloc[-1])
        ax.annotate(head, end, xytext=(5, 0), textcoords="offset points", fontsize=8)
    ax.axvline(trained_with, color="#9a9a9a", linestyle=":", linewidth=0.8)
    ax.set(xscale="log", yscale="log", xlabel="random features (logarithmic)")
    ax.set_ylabel("relative error of the output (logarithmic)")
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
