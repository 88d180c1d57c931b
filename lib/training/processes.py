"""One training across processes: each takes its share of every batch, and PyTorch's DDP averages the gradients.

`torchrun` starts the processes and ends all of them when one fails. Every process draws the same numbers, so that the
order of the data and the random features are the same without a word between them; only what is drawn inside a batch
(dropout, hidden events) is each process's own. The first process alone writes.
"""

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Integer
from numpy import ndarray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
CPU = torch.device("cpu")
APART = 1_000_003
"""Between the seeds of two processes; no two trainings of a study come so far apart."""
PATIENCE = datetime.timedelta(days=1)
"""How long processes wait for one another: as long as the first may encode or predict. A failure ends all at once."""


@dataclass(frozen=True)
class Processes:
    """How many train together, which of them this is, and the device it computes on."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    @property
    def facts(self) -> dict[str, int | str]:
        """What of them decides a training's numbers: the same on every rank."""
        return {"processes": self.world, "device": self.device.type}

    @property
    def generators(self) -> list[torch.Generator]:
        """PyTorch's own, which dropout draws from: the processor's, and the graphics card's where this is one."""
        cards = [torch.cuda.default_generators[self.device.index]] if self.device.type == "cuda" else []
        return [torch.default_generator, *cards]

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Each process draws its own numbers inside a batch, the first those of the seed; after it all is as before."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for generator in self.generators:
                generator.manual_seed(seed + APART * self.rank)
            yield

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.world > 1:
            dist.all_reduce(total)
        return (total / self.world).tolist()

    def parallel(self, model: nn.Module, objective: Callable) -> Callable:
        """The objective as a function of a batch's customers and of what collates them, each process its share.

        What it returns are terms whose mean over the processes is the batch's; the backward pass averages gradients.
        """
        if self.world == 1:
            return lambda group, batch_of: objective(model, batch_of(group))
        # Buffers are drawn alike. A share without a second segment uses no memory, and pre-training no head.
        options = {"forward_sync_buffers": False, "find_unused_parameters": True}
        together = DistributedDataParallel(_Step(model, objective), **options)

        def step(group: Integer[ndarray, " batch"], batch_of: Callable) -> object:
            own = group[self.rank :: self.world]
            # Without a forward pass the others would wait for ever: who has no customer left takes one that counts 0.
            outcome = together(batch_of(own if len(own) else group[:1]))
            counts = [count * bool(len(own)) for count in (outcome.answers, outcome.regularised)]
            pairs = zip(counts, self.mean(counts), strict=True)
            answers, regularised = (count / max(mean, 1 / self.world) for count, mean in pairs)
            return outcome._replace(
                loss=answers * outcome.loss,
                regulariser=regularised * outcome.regulariser,
                right=answers * outcome.right.double(),
            )

        return step

    def from_first(self, call: Callable[[], T]) -> T:
        """What the call returns in the first process, which alone makes it while the others wait."""
        answer = [call() if self.first else None]
        if self.world > 1:
            dist.broadcast_object_list(answer, src=0)
        return answer[0]

    def gathered(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values


ALONE = Processes()


class _Step(nn.Module):
    """A model and its objective as one forward pass, which is what DDP wraps."""

    def __init__(self, model: nn.Module, objective: Callable) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: object) -> object:
        return self.objective(self.model, batch)


@contextmanager
def joined(device: str | None = None) -> Iterator[Processes]:
    """The processes that `torchrun` started, joined by NCCL on graphics cards and by Gloo otherwise; or one alone.

    `device` is cpu or cuda; by default each process of `torchrun` takes a card where there are any, and one alone the
    processor. Raises ValueError when there are too few cards.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    kind = device or ("cuda" if world > 1 and torch.cuda.is_available() else "cpu")
    if kind == "cpu":
        place = CPU
    elif local < torch.cuda.device_count():
        place = torch.device(kind, local)
        torch.cuda.set_device(place)
    else:
        cards = torch.cuda.device_count()
        raise ValueError(f"process {local} needs a graphics card, {cards} are here: give --device cpu or start fewer")
    if world == 1:
        yield Processes(device=place)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    yield Processes(dist.get_rank(), world, place)
    dist.destroy_process_group()  # not after an error, when it would wait for the others
