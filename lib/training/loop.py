"""The one training loop, for every mechanism, supervised or not."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.data.batches import Batch, collate, length_batches, random_slices
from lib.data.histories import Histories
from lib.training.checkpoint import NOT_KEPT, Checkpoint, Progress
from lib.training.processes import ALONE, Processes


class Outcome(NamedTuple):
    """Of a batch: mean loss, regulariser and share of right answers, and over how many things these are means.

    `answers` counts for the loss and the share, `regularised` counts events for the regulariser.
    """

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
    at the full rate a few customers' rare codes are memorised. Sums over codes and soft counts of groups have rates and
    weight decays of their own. `pretraining_epochs` go before, over all customers and without labels, at
    `pretraining_rate`.
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
    """What to train on, by which recipe, how long and from which seed; the title stands beside the progress bar."""

    histories: Histories
    customers: np.ndarray
    config: TrainConfig
    epochs: int
    seed: int
    title: str


def fit(
    model: nn.Module,
    objective: Objective,
    groups: list[dict],
    plan: Plan,
    checkpoint: Checkpoint = NOT_KEPT,
    processes: Processes = ALONE,
) -> list[dict]:
    """Train a model in place; its loss, accuracy and seconds per epoch.

    `groups` are the optimizer's parameter groups. Goes on from the checkpoint, which every epoch replaces. The model is
    on the device of the processes, whose number changes nothing but rounding and what is drawn inside a batch. Raises
    FloatingPointError when the loss is not finite.
    """
    config, title = plan.config, plan.title
    generator, draws = np.random.default_rng(plan.seed), torch.Generator().manual_seed(plan.seed + 1)
    optimizer = torch.optim.AdamW(groups)
    steps = plan.epochs * -(-len(plan.customers) // config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(warm_up_and_decay, steps=steps, warmup=config.warmup)
    )
    progress = Progress(model, optimizer, schedule, generator, draws, [], processes)
    step = processes.parallel(model, objective)
    with processes.seeded(plan.seed):
        checkpoint.load(progress)
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
            checkpoint.save(progress)
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
        progress.optimizer.zero_grad(set_to_none=True)
        (outcome.loss + config.kl_weight * outcome.regulariser).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        progress.optimizer.step()
        progress.schedule.step()
        losses += outcome.loss.item() * len(group)
        hits += outcome.right.item() * len(group)
    return losses / len(plan.customers), hits / len(plan.customers)


def warm_up_and_decay(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: a linear rise over a share of the steps, then half a cosine to zero."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2
