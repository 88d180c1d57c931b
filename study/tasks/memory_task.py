"""The generator's memory task: can an encoder join two couples of events that lie `distance` events apart?

The label is whether one couple ascends and the other descends, so that no count and no single couple says anything
(`generate_memory_task`). An encoder learns which of the four orders the two couples have, from histories
of all distances mixed; the label follows from its answer, and both are scored at every distance. All mechanisms are
read out from the last events only, so that attention, or the memory, is the only path from the early couple.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Integer
from numpy import ndarray
from scipy import stats

from lib.data.histories import Histories, read
from lib.training.classifier import MECHANISMS, ModelConfig
from lib.training.loop import TrainConfig
from study.accuracy import kept
from study.tasks import synthetic

MODEL = ModelConfig(model_dim=32, layers=2, feedforward_dim=64, dropout=0.0, segment=32, basis=32, samples=64)
NETWORKS = {name: replace(MODEL, attention=name) for name in MECHANISMS}
TRAINING = TrainConfig(
    batch_size=64, learning_rate=4e-3, table_rate=1.0, weight_decay=0.1, max_events=1024, shortest_slice=1.0
)
TESTED_SHARE = 0.2
ORDERS = ("both descend", "only the late ascends", "only the early ascends", "both ascend")


def task(distances: Sequence[int], customers: int, seed: int) -> tuple[Histories, Integer[ndarray, " customers"]]:
    """Histories of so many customers at each distance, one distance after the other, and every customer's distance."""
    parts = []
    for distance in distances:
        with tempfile.TemporaryDirectory() as folder:
            synthetic.generate_memory_task(Path(folder), customers, seed, distance)
            checksum = f"memory-{customers}-{seed}-{distance}"
            parts.append(read(Path(folder), checksum))
    return joined(parts), np.repeat(distances, customers)


def joined(parts: Sequence[Histories]) -> Histories:
    """Histories one after the other, as if of one source."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("customers", "labels", "categories", "numbers", "days")
    }
    offsets = np.append(0, np.cumsum(np.concatenate([part.lengths for part in parts])))
    return replace(parts[0], **arrays, offsets=offsets, checksum="+".join(part.checksum for part in parts), found={})


def orders(histories: Histories) -> Integer[ndarray, " customers"]:
    """Twice whether the early couple ascends plus whether the late one does.

    The couples' codes are the four that every customer has exactly once.
    """
    code = histories.categories[:, 0].astype(np.int64)
    owner = np.repeat(np.arange(len(histories.customers)), histories.lengths)
    carriers = np.bincount(np.unique(owner * 256 + code) % 256, minlength=256)
    once = np.flatnonzero((carriers == len(histories.customers)) & (np.bincount(code, minlength=256) == carriers))
    found = code[np.isin(code, once)].reshape(len(histories.customers), 4)
    early, late = found[:, 0] < found[:, 1], found[:, 2] < found[:, 3]
    return 2 * early + late


def accuracy_by_distance(
    networks: dict[str, ModelConfig], distances: Sequence[int], customers: int, epochs: int, seed: int
) -> pd.DataFrame:
    """Share of unseen customers answered rightly; columns model, metric, x (the distance), value, low, high (Wilson).

    Metrics: `early_couple`, whether the order of the couple that lies far back is known, and `label`, whether the label
    follows from the answer; half is guessing. `customers` at each distance, a fifth of them unseen.
    """
    histories, distance = task(distances, customers, seed)
    asked = replace(histories, labels=orders(histories).astype(np.int8), class_names=ORDERS)
    unseen = np.arange(len(distance)) % customers >= round(customers * (1 - TESTED_SHARE))
    learners, others = np.flatnonzero(~unseen), np.flatnonzero(unseen)
    truth = {"early_couple": asked.labels[others] >= 2, "label": histories.labels[others] == 1}
    config, rows = replace(TRAINING, epochs=epochs), []
    for name, model in networks.items():
        answers = kept.probabilities(asked, learners, others, model, config, seed, f"{name}, memory task")
        said = {"early_couple": answers[:, 2:].sum(1) > 0.5, "label": answers[:, 1:3].sum(1) > 0.5}
        for metric, each in [(metric, each) for metric in truth for each in distances]:
            hits = (said[metric] == truth[metric])[distance[others] == each]
            low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
            rows.append({"model": name, "metric": metric, "x": each, "value": hits.mean(), "low": low, "high": high})
    return pd.DataFrame(rows)


def reach(rows: pd.DataFrame) -> pd.Series:
    """By model: the longest distance up to which its interval lies above guessing at every one; zero if nowhere."""
    found = {}
    for model, line in rows.sort_values("x").groupby("model", sort=False):
        known = line["x"][(line["low"] > 0.5).cummin()]
        found[model] = int(known.max()) if len(known) else 0
    return pd.Series(found)
