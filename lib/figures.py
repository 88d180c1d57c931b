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


def code_odds(events: pd.DataFrame, least_customers: int) -> pd.DataFrame:
    """Log odds ratio of using a code at all, men to women, with its standard error, for codes with enough customers.

    `events` has customer, label (0 woman, 1 man) and code; half a customer is added to each cell (Haldane).
    """
    users = events.drop_duplicates(["customer", "code"]).groupby(["code", "label"]).size().unstack(fill_value=0)
    totals = events.drop_duplicates("customer")["label"].value_counts()
    users = users[users.sum(axis=1) >= least_customers]
    women, men = users[0] + 0.5, users[1] + 0.5
    women_not, men_not = totals[0] - users[0] + 0.5, totals[1] - users[1] + 0.5
    odds = np.log(men * women_not / (women * men_not))
    error = np.sqrt(1 / men + 1 / women + 1 / men_not + 1 / women_not)
    return pd.DataFrame({"log_odds": odds, "error": error, "customers": users.sum(axis=1)}).sort_values("log_odds")
