"""What two processes train together, started by `torchrun two_processes.py FOLDER EVENTS`; at last one is killed.

Leaves in FOLDER what every process ended with, for `test_processes.py`, which trains the same in one process.
"""

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lib import paths
from lib.data.batches import stratified_folds
from lib.data.histories import read
from lib.training import loop
from lib.training.classifier import MECHANISMS, ModelConfig
from lib.training.loop import TrainConfig
from lib.training.processes import ALONE, joined
from lib.training.runs import predict, pretrained_weights, run_or_load, train
from study.sources import prepare
from study.variants import VARIANTS

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16, dropout=0.0)
CONFIG = TrainConfig(epochs=2, batch_size=5, max_events=32, learning_rate=1e-3, pretraining_epochs=1)
CUSTOMERS = 21  # one more than fills whole batches: the last batch leaves the second process without any
EPOCHS = 3
FOLDS = 2
WEIGHTS = "{}-{}.pt"


@contextmanager
def double_precision():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def in_double(histories):
    return replace(histories, numbers=histories.numbers.astype(np.float64))


def some_hidden(key_mask):
    """In the place of random draws, which every process makes for its own customers: every fifth event."""
    return key_mask & (torch.arange(key_mask.shape[1]) % 5 == 0)


def trained(histories, attention, processes=ALONE):
    """Weights after training in double precision without dropout, and what is predicted with them."""
    with double_precision():
        histories, config = in_double(histories), replace(MODEL, attention=attention)
        customers = histories.labelled[:CUSTOMERS]
        model, history = train(histories, customers, config, CONFIG, 1, "together", processes=processes)
        predictions = predict(model, histories, histories.labelled, CONFIG.evaluation_events)
    table = torch.tensor(history[["loss", "accuracy"]].to_numpy())
    return {**model.state_dict(), "predictions": torch.from_numpy(predictions), "history": table}


def pretrained(histories, processes=ALONE):
    """Weights after pre-training in double precision, without dropout."""
    with double_precision():
        config = replace(MODEL, attention="infinite_former")
        return pretrained_weights(in_double(histories), config, CONFIG, 1, processes=processes)


def with_dropout(histories, processes, checkpoint):
    """Weights after training with masks that each process draws for itself."""
    config = replace(MODEL, attention="performer", dropout=0.3)
    model, _ = train(histories, histories.labelled, config, CONFIG, 1, "masks", checkpoint, processes=processes)
    return model.state_dict()


def die_in_the_last_epoch(customers, batch_size):
    """Lets this process kill itself at a step of the optimizer, as a full memory would."""
    step, left = torch.optim.AdamW.step, [(EPOCHS - 1) * -(-customers // batch_size) + 1]

    def counted(self, *arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    torch.optim.AdamW.step = counted


def main(folder, events):
    torch.set_num_threads(1)
    loop.hide = some_hidden
    histories = read(events, "checksum")
    with joined() as processes:
        kept = {attention: trained(histories, attention, processes) for attention in MECHANISMS}
        paths.RUNS = folder / "pretrained"
        kept["pretrained"] = pretrained(histories, processes)
        kept["dropout"] = with_dropout(histories, processes, folder / "dropout.checkpoint")
        for name, weights in kept.items():
            torch.save(weights, folder / WEIGHTS.format(name, processes.rank))
        histories = processes.from_first(lambda: prepare(str(events)))
        arguments = (histories, 0, FOLDS, *VARIANTS["performer"].configs(EPOCHS), 0)
        paths.RUNS = folder / "uninterrupted"
        run_or_load(*arguments, processes=processes)
        if processes.rank == 1:
            die_in_the_last_epoch(len(stratified_folds(histories, FOLDS, 0)[0][0]), TrainConfig.batch_size)
        paths.RUNS = folder / "runs"
        run_or_load(*arguments, processes=processes)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
