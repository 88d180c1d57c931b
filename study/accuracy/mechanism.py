"""How one mechanism learns, shown alike for all: its training, its accuracy out of fold, one fold to try out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.data.batches import stratified_folds
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import Run, build_classifier, predict, train
from study.accuracy import evaluate
from study.report import MODEL_STYLE, Page
from study.wording import words


def try_out(
    histories: Histories, config: ModelConfig, recipe: TrainConfig, fold_count: int, seed: int, most: int = 300
) -> None:
    """Train one fold on at most so many customers; print the ROC-AUC of those left out, before and after."""
    learners, others = stratified_folds(histories, fold_count, seed)[0]
    learners = np.random.default_rng(seed).permutation(learners)[:most]
    trained, _ = train(histories, learners, config, recipe, seed, config.attention)
    for when, model in {"before": build_classifier(histories, config, seed), "after": trained}.items():
        probabilities = predict(model, histories, others, recipe.evaluation_events)
        (auc,) = evaluate.value("roc_auc", probabilities[None].astype(float), histories.labels[others])
        print(f"{when} training on {len(learners)} customers: ROC-AUC {auc:.3f} on {len(others)} others")


def show_training(page: Page, model: str, runs: list[Run], fold_count: int) -> pd.DataFrame:
    """Loss and accuracy on the training customers per epoch: a figure, and result rows without their task."""
    names = {"loss": "training_loss", "accuracy": "training_accuracy", "epoch": "x"}
    frames = [
        run.history.rename(columns=names)
        .melt("x", ["training_loss", "training_accuracy"], "metric")
        .assign(seed=place // fold_count, split=f"fold {place % fold_count + 1}")
        for place, run in enumerate(runs)
    ]
    rows = pd.concat(frames, ignore_index=True).assign(experiment=page.notebook, model=model, axis="epoch")
    fig, panels = plt.subplots(1, 2)
    colour, labels = MODEL_STYLE[model]["color"], ("cross-entropy, nats", "accuracy")
    for ax, label, (_, chosen) in zip(panels, labels, rows.groupby("metric", sort=False), strict=True):
        for _, run in chosen.groupby(["seed", "split"]):
            ax.plot(run["x"], run["value"], color=colour, alpha=0.25, linewidth=0.8)
        ax.plot(chosen.groupby("x")["value"].mean(), color=colour)
        ax.set(xlabel="epoch", ylabel=f"{label} on training customers")
    page.save_figure(
        fig,
        "training",
        caption="Training of every fold and repeat (thin) and their mean (thick).",
        alt="Training loss falling and training accuracy rising with the epochs, all runs and their mean",
    )
    return rows


def show_accuracy(page: Page, predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A table of the metrics; every metric with its interval."""
    values = evaluate.score_rows(predictions, seed=seed)
    page.show_table(
        values.set_index("metric")[["value", "low", "high"]].rename(index=words),
        caption="Out-of-fold metrics, mean over repeats, with 95 % intervals",
    )
    return values


def claim_learning(page: Page, subject: str, values: pd.DataFrame) -> None:
    """Whether the interval of ROC-AUC lies above guessing."""
    auc = values.set_index("metric").loc["roc_auc"]
    interval = "out-of-fold ROC-AUC {value:.3f} (95 % interval {low:.3f} to {high:.3f})"
    page.claim(
        f"{auc['model']}_learns",
        holds=f"{subject} beats guessing: {interval}.",
        fails=f"{subject} does not visibly beat guessing: {interval}.",
        when=auc["low"] > 0.5,
        **auc[["value", "low", "high"]],
    )
