"""The training recipe, and the one loop that follows it for every mechanism."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from tqdm.auto import tqdm

from lib.data.batches import collate, length_batches, random_slices
from lib.data.histories import Histories
from lib.training.checkpoint import Progress, seeded
from lib.training.classifier import Classifier


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe, the same for every mechanism.

    `table_rate` multiplies the learning rate of the category tables: Adam's steps ignore how rarely a code is seen, so
    at the full rate a few customers' rare codes are memorised. The two parts of the counting path have rates and weight
    decays of their own.
    """

    epochs: int = 12
    batch_size: int = 16
    learning_rate: float = 2e-4
    table_rate: float = 0.05
    counting_rate: float = 0.02
    counting_decay: float = 0.5
    group_rate: float = 0.05
    group_decay: float = 0.0
    weight_decay: float = 0.1
    warmup: float = 0.1
    clip: float = 1.0
    max_events: int = 512
    shortest_slice: float = 0.5
    evaluation_events: int = 2048
    kl_weight: float = 1e-3
    redraw_epochs: int = 1


def fit(
    model: Classifier,
    histories: Histories,
    customers: np.ndarray,
    config: TrainConfig,
    seed: int,
    title: str,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train a model in place, on its device; its loss, accuracy and seconds per epoch.

    Goes on from the checkpoint where there is one; every epoch replaces it. Raises FloatingPointError when the loss is
    not finite.
    """
    device, order, draws = model.head.weight.device, np.random.default_rng(seed), torch.Generator()
    draws.manual_seed(seed + 1)
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    steps = config.epochs * math.ceil(len(customers) / config.batch_size)
    schedule = LambdaLR(optimizer, lambda done: warm_up_and_decay(done, steps, config.warmup))
    progress = Progress(model, optimizer, schedule, order, draws, [], device, checkpoint)
    with seeded(seed, device):
        progress.load()
        remaining = range(len(progress.history), config.epochs)
        for epoch in tqdm(remaining, title, unit="epoch", leave=False, disable="TQDM_DISABLE" in os.environ or None):
            started = time.perf_counter()
            if config.redraw_epochs and epoch % config.redraw_epochs == 0:
                model.redraw(draws)
            loss, accuracy = one_epoch(progress, histories, customers, config)
            if not np.isfinite(loss):
                raise FloatingPointError(f"{title}: the loss is {loss} in epoch {epoch + 1}; lower the learning rate")
            progress.history.append(
                {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy, "seconds": time.perf_counter() - started}
            )
            progress.save()
    return progress.history


def one_epoch(
    progress: Progress, histories: Histories, customers: np.ndarray, config: TrainConfig
) -> tuple[float, float]:
    """One pass over a new random part of each customer's history; mean cross-entropy and share of correct answers."""
    model, order = progress.model.train(), progress.order
    starts, lengths = random_slices(histories, customers, config.max_events, config.shortest_slice, order)
    losses, hits = 0.0, 0.0
    for group in length_batches(lengths, config.batch_size, order):
        batch = collate(histories, customers[group], starts[group], lengths[group], progress.device)
        scores, regulariser = model(batch.categories, batch.numbers, batch.days, batch.key_mask)
        loss = F.cross_entropy(scores, batch.labels)
        descend(model, loss + config.kl_weight * regulariser, config.clip, progress.optimizer, progress.schedule)
        losses += loss.item() * len(group)
        hits += (scores.argmax(1) == batch.labels).float().mean().item() * len(group)
    return losses / len(customers), hits / len(customers)


def descend(
    model: nn.Module, loss: Float[Tensor, ""], clip: float, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> None:
    """One step of the optimizer, whose gradient has at most the norm `clip`, and of its schedule."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    schedule.step()


def warm_up_and_decay(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: a linear rise over a share of the steps, then half a cosine to zero."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2


def parameter_groups(model: Classifier, config: TrainConfig) -> list[dict]:
    """Tables, sums and groups of codes at rates and decays of their own; other matrices with decay, vectors without."""
    rate, decay = config.learning_rate, config.weight_decay
    tables, sums, groups = [*model.embedding.tables.parameters()], [], []
    if model.sums is not None:
        sums = [*model.sums.parameters()]
        groups = [*model.groups.tables.parameters(), *model.groups.head.parameters()]
    apart = {id(parameter) for parameter in (*tables, *sums, *groups)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in apart]
    return [
        {"params": tables, "lr": rate * config.table_rate, "weight_decay": decay},
        {"params": sums, "lr": config.counting_rate, "weight_decay": config.counting_decay},
        {"params": groups, "lr": config.group_rate, "weight_decay": config.group_decay},
        {"params": [p for p in others if p.ndim > 1], "lr": rate, "weight_decay": decay},
        {"params": [p for p in others if p.ndim < 2], "lr": rate, "weight_decay": 0.0},
    ]
