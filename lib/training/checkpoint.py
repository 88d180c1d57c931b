"""Where a training stands after each epoch, on disk: a killed one goes on and ends with the very same weights."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.storage import read_checksummed, write_checksummed


def default_generators(device: torch.device) -> list[torch.Generator]:
    """PyTorch's own, which dropout draws from: the processor's, and the graphics card's where this is one."""
    cards = [torch.cuda.default_generators[device.index]] if device.type == "cuda" else []
    return [torch.default_generator, *cards]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch draws what follows from the seed; after it all is as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for generator in default_generators(device):
            generator.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Progress:
    """Everything that changes while a model is trained, and the file that keeps it; without a file nothing is kept."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    order: np.random.Generator
    draws: torch.Generator
    history: list[dict[str, float]]
    device: torch.device
    file: Path | None = None

    def save(self) -> None:
        """Replace what is stored, in one step."""
        if self.file is None:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": json.dumps(self.order.bit_generator.state),  # integers of 128 bits, which torch.save refuses
            "generators": [each.get_state() for each in (*default_generators(self.device), self.draws)],
            "history": self.history,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_checksummed(self.file, content.getvalue())

    def load(self) -> None:
        """Back to where the last epoch ended; nothing happens where none is stored, or a damaged one."""
        content = self.file and read_checksummed(self.file)
        if content is None:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for name in ("model", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.order.bit_generator.state = json.loads(state["order"])
        generators = (*default_generators(self.device), self.draws)
        for each, values in zip(generators, state["generators"], strict=True):
            each.set_state(values)
        self.history[:] = state["history"]
