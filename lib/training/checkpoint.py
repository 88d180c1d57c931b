"""Where a training stands after each epoch, on disk: a killed one goes on and ends with the very same weights."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.storage import read_checksummed, write_checksummed
from lib.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Progress:
    """Everything that changes while a model is trained: parts, generators, and the rows of the history so far.

    PyTorch's own generator, which dropout draws from, belongs to it as well: every process has another state of it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    order: np.random.Generator
    draws: torch.Generator
    history: list[dict[str, float]]
    processes: Processes = ALONE

    def state(self) -> dict[str, object]:
        """All of it as tensors, numbers and text: numpy's state holds integers of 128 bits, which JSON can write."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": json.dumps(self.order.bit_generator.state),
            "generators": self.processes.gathered([each.get_state() for each in self._generators()]),
            "history": self.history,
        }

    def restore(self, state: dict[str, object]) -> None:
        """Put everything back to where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.order.bit_generator.state = json.loads(state["order"])
        for each, values in zip(self._generators(), state["generators"][self.processes.rank], strict=True):
            each.set_state(values)
        self.history[:] = state["history"]

    def _generators(self) -> Iterator[torch.Generator]:
        yield from self.processes.generators
        yield self.draws


@dataclass(frozen=True)
class Checkpoint:
    """The file that holds the progress of one training; without a path nothing is kept."""

    path: Path | None = None

    def load(self, progress: Progress) -> None:
        """Bring the progress to where the last epoch ended; nothing happens where none is stored, or a damaged one."""
        if self.path is None:
            return
        content = progress.processes.from_first(lambda: read_checksummed(self.path))
        if content is not None:
            progress.restore(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))

    def save(self, progress: Progress) -> None:
        """Replace what is stored, in one step, by what the first process writes for all."""
        if self.path is None:
            return
        state = progress.state()
        if progress.processes.first:
            content = io.BytesIO()
            torch.save(state, content)
            write_checksummed(self.path, content.getvalue())

    def remove(self) -> None:
        """Delete what is stored, if anything is."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


NOT_KEPT = Checkpoint()
