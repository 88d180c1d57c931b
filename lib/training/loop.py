"""The one training loop, for every mechanism, and what it minimises: with labels, or predicting hidden events."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from lib.data.batches import Batch, collate, length_batches, random_slices
from lib.data.histories import Histories
from lib.training.checkpoint import Progress
from lib.training.classifier import Classifier
from lib.training.processes import ALONE, Processes

HIDDEN_SHARE = 0.15


class Outcome(NamedTuple):
    """Of a batch: mean loss and share of right answers over `answers`, mean regulariser over `regularised` events."""

    loss: Float[Tensor, ""]
    regulariser: Float[Tensor, ""]
    right: Float[Tensor, ""]
    answers: int
    regularised: int


Objective = Callable[[nn.Module, Batch], Outcome]


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe, the same for every mechanism.

    `table_rate` multiplies the learning rate of the category tables: Adam's steps ignore how rarely a code is seen, so
    at the full rate a few customers' rare codes are memorised. The two parts of the counting path have rates and weight
    decays of their own. `pretraining_epochs` go before, over all customers and without labels.
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
    pretraining_epochs: int = 0
    pretraining_rate: float = 2e-3


@dataclass(frozen=True)
class Plan:
    """What to train on, by which recipe, how long and from which seed; the title stands beside the progress bar.

    Training goes on from the checkpoint, where there is one, and every epoch replaces it.
    """

    histories: Histories
    customers: np.ndarray
    config: TrainConfig
    epochs: int
    seed: int
    title: str
    checkpoint: Path | None = None


def fit(
    model: nn.Module, objective: Objective, groups: list[dict], plan: Plan, processes: Processes = ALONE
) -> list[dict]:
    """Train a model in place; its loss, accuracy and seconds per epoch.

    `groups` are the optimizer's parameter groups. The model is on the device of the processes, whose number changes
    nothing but rounding and what is drawn inside a batch. Raises FloatingPointError when the loss is not finite.
    """
    config, title = plan.config, plan.title
    order, draws = np.random.default_rng(plan.seed), torch.Generator().manual_seed(plan.seed + 1)
    optimizer = torch.optim.AdamW(groups)
    steps = plan.epochs * -(-len(plan.customers) // config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: warm_up_and_decay(done, steps, config.warmup))
    progress = Progress(model, optimizer, schedule, order, draws, [], plan.checkpoint, processes)
    step = processes.parallel(model, objective)
    with processes.seeded(plan.seed):
        progress.load()
        remaining = range(len(progress.history), plan.epochs)
        silent = "TQDM_DISABLE" in os.environ or not processes.first
        for epoch in tqdm(remaining, desc=title, unit="epoch", disable=silent or None, leave=False):
            started = time.perf_counter()
            if config.redraw_epochs and epoch % config.redraw_epochs == 0:
                model.redraw(draws)
            loss, accuracy = processes.mean(one_epoch(plan, progress, step))
            if not np.isfinite(loss):
                raise FloatingPointError(f"{title}: the loss is {loss} in epoch {epoch + 1}; lower the learning rate")
            progress.history.append(
                {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy, "seconds": time.perf_counter() - started}
            )
            progress.save()
    return progress.history


def one_epoch(plan: Plan, progress: Progress, step: Callable[..., Outcome]) -> tuple[float, float]:
    """One pass over a new random part of each customer's history; mean loss and share of right answers."""
    model, config = progress.model.train(), plan.config
    starts, lengths = random_slices(
        plan.histories, plan.customers, config.max_events, config.shortest_slice, progress.order
    )

    def batch_of(chosen: np.ndarray) -> Batch:
        places = (plan.customers[chosen], starts[chosen], lengths[chosen])
        return collate(plan.histories, *places, progress.processes.device)

    losses, hits = 0.0, 0.0
    for group in length_batches(lengths, config.batch_size, progress.order):
        outcome = step(group, batch_of)
        loss = outcome.loss + config.kl_weight * outcome.regulariser
        descend(model, loss, config.clip, progress.optimizer, progress.schedule)
        losses += outcome.loss.item() * len(group)
        hits += outcome.right.item() * len(group)
    return losses / len(plan.customers), hits / len(plan.customers)


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


def classification(model: Classifier, batch: Batch) -> Outcome:
    """Cross-entropy, regulariser and accuracy."""
    scores, regulariser = model(batch.categories, batch.numbers, batch.days, batch.key_mask)
    accuracy = (scores.argmax(1) == batch.labels).float().mean()
    loss = F.cross_entropy(scores, batch.labels)
    return Outcome(loss, regulariser, accuracy, len(scores), model.regularised_events(batch.key_mask))


class MaskedEvents(nn.Module):
    """A classifier's encoder with a linear head for every code and one for the numbers of hidden events.

    A hidden event keeps its time and loses its codes (0, the unknown code) and numbers (0). The embeddings and the
    encoder are those of the classifier, which is thereby trained (masked prediction as in Devlin et al. 2019).
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        tables, width = classifier.embedding.tables[: classifier.code_kinds], classifier.norm.normalized_shape[0]
        self.codes = nn.ModuleList(nn.Linear(width, table.num_embeddings) for table in tables)
        self.numbers = nn.Linear(width, classifier.embedding.numbers[0].in_features)

    def forward(self, batch: Batch, hidden: Bool[Tensor, "batch length"]) -> Outcome:
        """Loss over hidden events (cross-entropy of codes, squared error of numbers), regulariser, hits on codes."""
        kept = ~hidden[..., None]
        categories = batch.categories.clone()
        categories[..., : len(self.codes)] *= kept
        encoded, regulariser = self.classifier.encode(categories, batch.numbers * kept, batch.days, batch.key_mask)
        seen, truth = encoded[hidden], batch.categories[hidden]
        loss = F.mse_loss(self.numbers(seen), batch.numbers[hidden])
        hits = []
        for kind, head in enumerate(self.codes):
            scores = head(seen)
            loss = loss + F.cross_entropy(scores, truth[:, kind])
            hits.append((scores.argmax(1) == truth[:, kind]).float().mean())
        regularised = self.classifier.regularised_events(batch.key_mask)
        return Outcome(loss, regulariser, torch.stack(hits).mean(), len(seen), regularised)

    def redraw(self, generator: torch.Generator) -> None:
        """Fresh random features for the encoder's attentions."""
        self.classifier.redraw(generator)


def hide(key_mask: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    """Real events chosen at random from the global generator, at least one of the whole batch."""
    hidden = key_mask & (torch.rand(key_mask.shape, device=key_mask.device) < HIDDEN_SHARE)
    if not hidden.any():
        hidden[0, 0] = True
    return hidden


def masked_prediction(model: MaskedEvents, batch: Batch) -> Outcome:
    """The objective of pre-training: loss, regulariser and share of hidden codes that are named rightly."""
    return model(batch, hide(batch.key_mask))
