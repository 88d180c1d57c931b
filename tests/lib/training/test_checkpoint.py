"""A killed training goes on after its last whole epoch and ends with the very same weights."""

import dataclasses

import pytest
import torch

from lib import storage
from lib.data import batches
from lib.training import loop
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import run_or_load, train

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16, dropout=0.2)
CONFIG = TrainConfig(epochs=3, batch_size=8, max_events=32)


class Killed(BaseException):
    """What ends a training here."""


def kill_at_step(monkeypatch, number):
    """End the training at its `number`-th step of the optimizer."""
    step, left = torch.optim.AdamW.step, [number]

    def counted(self, *arguments):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("attention", "epochs_done"), [("softmax", 0), ("performer", 1), ("performer", 2), ("infinite_former", 1)]
)
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    attention, epochs_done, histories, tmp_path, monkeypatch
):
    arguments = (histories, histories.labelled, dataclasses.replace(MODEL, attention=attention), CONFIG, 7, "kill")
    whole, whole_history = train(*arguments)
    checkpoint = tmp_path / "state"
    steps = -(-len(histories.labelled) // CONFIG.batch_size)
    with monkeypatch.context() as patched:
        kill_at_step(patched, epochs_done * steps + 2)
        with pytest.raises(Killed):
            train(*arguments, checkpoint)
    assert checkpoint.exists() == (epochs_done > 0)
    torch.manual_seed(99)  # another state than the first process had
    taken = []
    monkeypatch.setattr(loop, "one_epoch", lambda *all, epoch=loop.one_epoch: taken.append(1) or epoch(*all))
    resumed, history = train(*arguments, checkpoint)
    assert len(taken) == CONFIG.epochs - epochs_done  # at most one epoch is lost
    assert same(whole.state_dict(), resumed.state_dict())
    assert history.drop(columns="seconds").equals(whole_history.drop(columns="seconds"))


def test_a_damaged_checkpoint_is_named_and_the_training_starts_again(histories, tmp_path, capsys, monkeypatch):
    checkpoint = tmp_path / "state"
    whole, _ = train(histories, histories.labelled, MODEL, CONFIG, 0, "whole", checkpoint)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    again, history = train(histories, histories.labelled, MODEL, CONFIG, 0, "again", checkpoint)
    assert str(checkpoint) in capsys.readouterr().err
    assert len(history) == CONFIG.epochs
    assert same(whole.state_dict(), again.state_dict())


def test_a_finished_run_leaves_no_checkpoint_and_damaged_weights_are_named_and_trained_again(
    histories, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(storage, "RUNS", tmp_path)
    arguments = (histories, 0, 3, MODEL, CONFIG, 0)
    first = run_or_load(*arguments).model.state_dict()
    (folder,) = tmp_path.glob("[!.]*")
    weights = folder / "weights.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    again = run_or_load(*arguments).model.state_dict()
    assert str(weights) in capsys.readouterr().err
    assert same(first, again)
    assert [path.name for path in tmp_path.glob("[!.]*")] == [folder.name]
    assert same(first, run_or_load(*arguments).model.state_dict())
    assert capsys.readouterr().err == ""


def test_fresh_ignores_a_checkpoint(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "RUNS", tmp_path)
    steps = -(-len(batches.stratified_folds(histories, 3, 0)[0][0]) // CONFIG.batch_size)
    with monkeypatch.context() as patched:
        kill_at_step(patched, steps + 1)
        with pytest.raises(Killed):
            run_or_load(histories, 0, 3, MODEL, CONFIG, 0)
    assert [path.suffix for path in tmp_path.glob("[!.]*")] == [".checkpoint"]
    taken = []
    monkeypatch.setattr(loop, "one_epoch", lambda *all, epoch=loop.one_epoch: taken.append(1) or epoch(*all))
    run_or_load(histories, 0, 3, MODEL, CONFIG, 0, fresh=True)
    assert len(taken) == CONFIG.epochs
