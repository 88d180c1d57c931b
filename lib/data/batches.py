"""From encoded histories to folds and padded batches."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.data.description import DataError
from lib.data.histories import FEWEST_TO_TRAIN, Histories, check_folds, label_counts


def stratified_folds(histories: Histories, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test positions of the labelled customers, stratified by label; test parts cover each once, no group is
    in both. Raises DataError where there are too few customers or groups.
    """
    check_folds(histories, count)
    # Imported here: most of a training's imports, and not needed where a finished one is loaded.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labelled, labels = histories.labelled, histories.labels[histories.labelled]
    groups = None if histories.groups is None else histories.groups[labelled]
    folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    parts = list(folds.split(labelled, labels, groups))
    for part, fewest in [(train, FEWEST_TO_TRAIN) for train, _ in parts] + [(test, 1) for _, test in parts]:
        if np.bincount(labels[part], minlength=histories.classes).min() < fewest:
            raise DataError(
                f"the groups cannot be parted into {count} folds with enough customers of every label; take fewer "
                f"folds or label more groups ({label_counts(histories)})"
            )
    return [(labelled[train], labelled[test]) for train, test in parts]


@dataclass(frozen=True)
class Batch:
    """Some customers' events, padded on the right to the longest; `key_mask` is true on real events."""

    categories: Tensor
    numbers: Tensor
    days: Tensor
    key_mask: Tensor
    labels: Tensor


def collate(
    histories: Histories,
    customers: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    device: torch.device | None = None,
) -> Batch:
    """Padded tensors of one slice of events per customer; days count back from each slice's last event."""
    index = starts[:, None] + np.arange(max(1, lengths.max()))
    mask = np.arange(index.shape[1]) < lengths[:, None]
    index = np.where(mask, index, starts[:, None])
    last = histories.days[starts + lengths - 1]
    return Batch(
        categories=torch.from_numpy(histories.categories[index].astype(np.int64) * mask[..., None]).to(device),
        numbers=torch.from_numpy(histories.numbers[index] * mask[..., None]).to(device),
        days=torch.from_numpy(((last[:, None] - histories.days[index]) * mask).astype(np.float32)).to(device),
        key_mask=torch.from_numpy(mask).to(device),
        labels=torch.from_numpy(histories.labels[customers].astype(np.int64)).to(device),
    )


def last_events(histories: Histories, customers: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """First event and number of events of each customer's last `limit` events."""
    lengths = np.minimum(histories.lengths[customers], limit)
    return histories.offsets[customers + 1] - lengths, lengths


def random_slices(
    histories: Histories, customers: np.ndarray, limit: int, shortest: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random contiguous part of each history: at most `limit` events, at least the share `shortest` of that."""
    whole = histories.lengths[customers]
    longest = np.minimum(whole, limit)
    lengths = np.ceil(longest * generator.uniform(shortest, 1, len(customers))).astype(np.int64)
    return histories.offsets[customers] + generator.integers(0, whole - lengths + 1), lengths


def length_batches(lengths: np.ndarray, size: int, generator: np.random.Generator | None = None) -> list[np.ndarray]:
    """Positions grouped by similar length, so that little padding is computed; in random order given a generator."""
    key = lengths if generator is None else lengths * generator.uniform(0.95, 1.05, len(lengths))
    groups = np.split(np.argsort(key, kind="stable"), np.arange(size, len(lengths), size))
    return groups if generator is None else [groups[i] for i in generator.permutation(len(groups))]
