"""ROC-AUC against how much is known: events of a customer, labelled customers to learn from."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from lib.data.batches import FEWEST_TO_TRAIN, last_events, stratified_folds
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import Run, predict, train
from study.accuracy import evaluate, references
from study.accuracy.evaluate import out_of_fold
from study.accuracy.references import Split


def latest(histories: Histories, limit: int) -> Histories:
    """Every customer's last `limit` events; the gap of the first of them stays."""
    starts, lengths = last_events(histories, np.arange(len(histories.customers)), limit)
    offsets = np.append(0, np.cumsum(lengths))
    index = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    parts = {name: getattr(histories, name)[index] for name in ("categories", "numbers", "days")}
    return replace(histories, offsets=offsets, **parts)


def by_events(
    histories: Histories, runs: dict[str, list[Run]], fold_count: int, limits: Sequence[int], seed: int
) -> pd.DataFrame:
    """Out-of-fold ROC-AUC of the first repeat's models from each customer's last events, x: their number.

    Networks are not retrained. The logistic regression is fitted anew to each window: what counting can know from it.
    """
    splits, frames = stratified_folds(histories, fold_count, 0), []
    for limit in limits:
        seen, predicted = latest(histories, limit), partial(predict, limit=limit)
        tables = [
            out_of_fold(seen, name, of_model[:fold_count], fold_count, predicted) for name, of_model in runs.items()
        ]
        tables.append(references.predictions(seen, splits, 0, ["logistic_regression"]))
        frames.append(evaluate.score_rows(pd.concat(tables), ["roc_auc"], seed).assign(x=limit))
    return pd.concat(frames, ignore_index=True)


def possible(histories: Histories, splits: Sequence[Split], size: int) -> bool:
    """Whether each split has that many customers and some more, and the rarest label enough of them to learn from."""
    counts = [np.bincount(histories.labels[learners]) for learners, _ in splits]
    rarest = min(count.min() / count.sum() for count in counts)
    fewest = min(count.sum() for count in counts)
    return bool(size <= fewest - histories.classes and int(rarest * size) >= FEWEST_TO_TRAIN)


def fewer(histories: Histories, splits: Sequence[Split], size: int, seed: int) -> list[Split]:
    """The splits with only `size` customers left to learn from, the labels in their shares."""
    chosen = []
    for learners, test in splits:
        labels = histories.labels[learners]
        part, _ = train_test_split(learners, train_size=size, stratify=labels, random_state=seed)
        chosen.append((np.sort(part), test))
    return chosen


def network_predictions(
    histories: Histories, name: str, model: ModelConfig, config: TrainConfig, splits: Sequence[Split], seed: int = 0
) -> pd.DataFrame:
    """Predictions of a network trained on the training part of every split, for its test part."""
    frames = []
    for fold, (learners, test) in enumerate(splits):
        title = f"{name}, {len(learners)} customers, fold {fold + 1}/{len(splits)}"
        trained, _ = train(histories, learners, model, config, 1000 * seed + fold, title)
        found = predict(trained, histories, test, config.evaluation_events)
        frames.append(evaluate.prediction_frame(histories, name, seed, fold, test, found))
    return pd.concat(frames, ignore_index=True)


def by_customers(
    histories: Histories,
    networks: dict[str, ModelConfig],
    config: TrainConfig,
    fold_count: int,
    repeats: int,
    sizes: Sequence[int],
    network_sizes: Sequence[int],
    seed: int,
) -> pd.DataFrame:
    """Out-of-fold ROC-AUC after learning from few customers, x: their number.

    The references in every repeat; the networks at `network_sizes` and in the first repeat only. Sizes that the folds
    do not have are left out.
    """
    folds, frames = [stratified_folds(histories, fold_count, repeat) for repeat in range(repeats)], []
    every = [split for splits in folds for split in splits]
    for size in [each for each in sorted({*sizes, *network_sizes}) if possible(histories, every, each)]:
        tables = []
        for repeat in range(repeats):
            splits = fewer(histories, folds[repeat], size, repeat)
            tables.append(references.predictions(histories, splits, repeat))
            if repeat == 0 and size in network_sizes:
                tables += [network_predictions(histories, *network, config, splits) for network in networks.items()]
        frames.append(evaluate.score_rows(pd.concat(tables), ["roc_auc"], seed).assign(x=size))
    columns = ["model", "metric", "value", "low", "high", "x"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
