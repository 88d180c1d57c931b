"""Inside trained models, on customers they did not see: attention maps, memory densities."""

from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.attention.softmax import attention_weights
from lib.data.batches import Batch, collate, last_events
from lib.data.histories import Histories
from lib.training import runs
from lib.training.classifier import Classifier
from lib.training.loop import TrainConfig
from lib.training.runs import Run


def batch_of(histories: Histories, customers: np.ndarray, limit: int) -> Batch:
    """The customers' last `limit` events as one batch."""
    starts, lengths = last_events(histories, customers, limit)
    return collate(histories, customers, starts, lengths)


def some_customers(run: Run, most: int = 64) -> np.ndarray:
    """At most so many test customers of a run, evenly spread: enough to look inside, however large the set."""
    customers = run.predictions["position"].to_numpy()
    return customers[np.linspace(0, len(customers) - 1, min(most, len(customers))).astype(int)]


def projected(
    model: Classifier, histories: Histories, customers: np.ndarray, limit: int
) -> tuple[torch.nn.Module, tuple[Tensor, Tensor, Tensor], Tensor]:
    """First attention; queries, keys and values of the customers' last events; which of these are real."""
    batch = batch_of(histories, customers, limit)
    attention, events = model.attention_inputs(batch.categories, batch.numbers, batch.days, batch.key_mask)[0]
    return attention, attention.project(events), batch.key_mask


def typical_customer(histories: Histories, run: Run, longer_than: int = 0) -> int:
    """The test customer of median history length among those with more events, or among all where none has more."""
    customers = run.predictions["position"].to_numpy()
    longer = customers[histories.lengths[customers] > longer_than]
    customers = longer if len(longer) else customers
    return int(customers[np.argsort(histories.lengths[customers], kind="stable")[len(customers) // 2]])


@torch.no_grad()
def attention_entropy(runs: list[Run], histories: Histories, limit: int) -> pd.DataFrame:
    """Share of the keys that a head effectively uses, exp(entropy) / keys, mean over test customers of each run."""
    frames = []
    for place, run in enumerate(runs):
        _, (queries, keys, _), key_mask = projected(run.model, histories, some_customers(run), limit)
        weights = attention_weights(queries, keys, key_mask)
        used = torch.special.entr(weights).sum(-1).exp() / key_mask.sum(1)[:, None, None]
        real = key_mask[:, None].expand_as(used)
        heads = [float(used[:, head][real[:, head]].mean()) for head in range(used.shape[1])]
        frames.append(pd.DataFrame({"x": range(1, len(heads) + 1), "value": heads, "split": f"run {place + 1}"}))
    return pd.concat(frames, ignore_index=True).assign(seed=None, axis="head", metric="share_of_keys_used")


@torch.no_grad()
def memory_densities(run: Run, histories: Histories, customers: np.ndarray | None = None) -> pd.DataFrame:
    """Mean and deviation of the reads of the customers' (or some test customers') last 1,024 events, by head."""
    batch = batch_of(histories, some_customers(run) if customers is None else customers, 1024)
    attention, events = run.model.attention_inputs(batch.categories, batch.numbers, batch.days, batch.key_mask)[0]
    memory, frames = None, []
    for start in range(0, events.shape[1], attention.segment):
        piece = slice(start, start + attention.segment)
        queries, _, _ = attention.project(events[:, piece])
        if memory is not None:
            density = attention.density(queries, memory.coefficients)
            real = batch.key_mask[:, piece]
            for head in range(attention.heads):
                mean, variance = (part[:, head][real].numpy() for part in density)
                frames.append(pd.DataFrame({"head": head + 1, "mean": mean, "width": np.sqrt(variance)}))
        _, memory = attention.step(events[:, piece], batch.key_mask[:, piece], memory)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["head", "mean", "width"])


def predict_without_memory(model: Classifier, histories: Histories, customers: np.ndarray) -> np.ndarray:
    """Class probabilities when what is read from the memory is dropped from the output (Z = Z_T)."""
    forgetful = deepcopy(model)
    for layer in forgetful.encoder.layers:
        for parameter in layer.attention.memory_projection.parameters():
            torch.nn.init.zeros_(parameter)
    return runs.predict(forgetful, histories, customers, TrainConfig.evaluation_events)
