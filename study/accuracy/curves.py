"""ROC-AUC against how much is known: events of a customer, labelled customers to learn from."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from lib.data.batches import FEWEST_TO_TRAIN, last_events, stratified_folds
from lib.data.histories import Histories
from lib.training.runs import Run, predict
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

    Networks are not retrained. The logistic regression is fitted to each window: what counting can know from it.
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


def fewer(histories: Histories, splits: Sequence[Split], size: int) -> list[Split] | None:
    """The splits with only `size` customers to learn from, the labels in their shares; none where that is impossible.

    There have to be some customers more, and of the rarest label enough to learn from.
    """
    chosen = []
    for learners, test in splits:
        labels = histories.labels[learners]
        rarest = np.bincount(labels).min() / len(labels)
        if size > len(learners) - histories.classes or int(rarest * size) < FEWEST_TO_TRAIN:
            return None
        part, _ = train_test_split(learners, train_size=size, stratify=labels, random_state=0)
        chosen.append((np.sort(part), test))
    return chosen


def by_customers(
    histories: Histories, splits: Sequence[Split], sizes: Sequence[int], whole: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Out-of-fold ROC-AUC of the classical models after learning from few customers, x: their number.

    `whole` are their predictions from all customers of these folds of the first repeat. Sizes that the folds do not
    have are left out.
    """
    tables = {min(len(learners) for learners, _ in splits): whole[whole["seed"] == 0]}
    for size in sizes:
        if few := fewer(histories, splits, size):
            tables[size] = references.predictions(histories, few, 0)
    frames = [evaluate.score_rows(table, ["roc_auc"], seed).assign(x=size) for size, table in sorted(tables.items())]
    return pd.concat(frames, ignore_index=True)
