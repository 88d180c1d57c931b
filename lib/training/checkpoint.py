"""Where a training stands after each epoch, on disk: a killed one goes on and ends with the very same weights."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.storage import read_checksummed, write_checksummed
from lib.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Progress:
    """Everything that changes while a model is trained, and the file that keeps it; without a file nothing is kept.

    PyTorch's own generator, which dropout draws from, belongs to it as well: every process has another state of it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    order: np.random.Generator
    draws: torch.Generator
    history: list[dict[str, float]]
    file: Path | None = None
    processes: Processes = ALONE

    def save(self) -> None:
        """Replace what is stored, in one step, by what the first process writes for all."""
        if self.file is None:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": json.dumps(self.order.bit_generator.state),  # integers of 128 bits, which torch.save refuses
            "generators": self.processes.gathered([each.get_state() for each in self._generators()]),
            "history": self.history,
        }
        if self.processes.first:
            content = io.BytesIO()
            torch.save(state, content)
            write_checksummed(self.file, content.getvalue())

    def load(self) -> None:
        """Back to where the last epoch ended; nothing happens where none is stored, or a damaged one."""
        if self.file is None:
            return
        content = self.processes.from_first(lambda: read_checksummed(self.file))
        if content is None:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for name in ("model", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.order.bit_generator.state = json.loads(state["order"])
        for each, values in zip(self._generators(), state["generators"][self.processes.rank], strict=True):
            each.set_state(values)
        self.history[:] = state["history"]

    def _generators(self) -> list[torch.Generator]:
        return [*self.processes.generators, self.draws]
