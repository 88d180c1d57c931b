import dataclasses

import numpy as np
import pytest
import torch

from lib import paths
from lib.data.batches import collate, last_events
from lib.storage import intact
from lib.training import loop, runs
from lib.training.classifier import ModelConfig
from lib.training.loop import MaskedEvents, Outcome, Plan, TrainConfig, warm_up_and_decay
from lib.training.runs import build_classifier, classification

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16, dropout=0.0)
PRETRAINING = TrainConfig(epochs=1, batch_size=4, max_events=32, pretraining_epochs=3)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [warm_up_and_decay(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == max(rates) == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001


def test_a_loss_that_is_not_finite_is_an_error(histories):
    def objective(model, batch):
        outcome = classification(model, batch)
        return outcome._replace(loss=outcome.loss * float("nan"))

    model = build_classifier(histories, MODEL, 0)
    groups = [{"params": list(model.parameters()), "lr": 0.0}]
    config = TrainConfig(epochs=1, batch_size=8, max_events=16)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        loop.fit(model, objective, groups, Plan(histories, histories.labelled, config, 1, 0, "a title"))


def test_the_regulariser_enters_with_its_weight(histories):
    def objective(model, batch):
        return Outcome(model.head.bias.sum() * 0, model.head.bias.sum(), torch.ones(()), 1, 1)

    model = build_classifier(histories, MODEL, 0)
    groups = [{"params": [model.head.bias], "lr": 0.1, "weight_decay": 0.0}]
    config = TrainConfig(batch_size=64, max_events=16, kl_weight=0.0)
    off = Plan(histories, histories.labelled, config, 1, 0, "off")
    loop.fit(model, objective, groups, off)
    assert not model.head.bias.any()
    loop.fit(model, objective, groups, dataclasses.replace(off, config=dataclasses.replace(config, kl_weight=1.0)))
    assert (model.head.bias < 0).all()


# Pre-training by hidden events.
@pytest.fixture
def batch(histories):
    customers = np.flatnonzero(histories.lengths >= 20)[:4]
    return collate(histories, customers, *last_events(histories, customers, 16))


def test_what_is_hidden_is_not_seen(histories, batch):
    model = MaskedEvents(runs.build_classifier(histories, MODEL, 0)).eval()
    hidden = loop.hide(batch.key_mask)
    seen = []
    model.codes[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    model(batch, hidden)
    categories = torch.where(hidden[..., None], torch.ones_like(batch.categories), batch.categories)
    categories[..., 2:] = batch.categories[..., 2:]
    numbers = batch.numbers.masked_fill(hidden[..., None], 7.0)
    model(dataclasses.replace(batch, categories=categories, numbers=numbers), hidden)
    assert torch.equal(seen[0], seen[1])


def test_hidden_events_are_real_and_there_is_one(monkeypatch):
    torch.manual_seed(0)
    mask = torch.arange(100) < torch.tensor([[100], [30]])
    hidden = loop.hide(mask)
    assert not (hidden & ~mask).any()
    # 130 draws with probability 0.15: four standard deviations around the mean.
    assert abs(int(hidden.sum()) - 130 * 0.15) < 4 * (130 * 0.15 * 0.85) ** 0.5
    monkeypatch.setattr(loop, "HIDDEN_SHARE", 0.0)
    assert loop.hide(mask).sum() == 1


def test_labels_are_never_looked_at_and_kept_weights_are_loaded(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    first = runs.pretrained_weights(histories, MODEL, PRETRAINING, 0)
    (folder,) = tmp_path.glob("[!.]*")
    assert intact(folder)
    other = dataclasses.replace(histories, labels=1 - histories.labels, checksum="other labels")
    second = runs.pretrained_weights(other, MODEL, PRETRAINING, 0)
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = runs.build_classifier(histories, MODEL, 0).state_dict()
    assert not torch.equal(
        first["encoder.layers.0.attention.in_projection.weight"],
        start["encoder.layers.0.attention.in_projection.weight"],
    )
    monkeypatch.setattr(runs, "fit", None)  # loading must not train
    again = runs.pretrained_weights(histories, MODEL, PRETRAINING, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert runs.pretrained_weights(histories, MODEL, dataclasses.replace(PRETRAINING, pretraining_epochs=0), 0) is None


def test_a_pretrained_run_starts_from_those_weights(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    frozen = dataclasses.replace(PRETRAINING, learning_rate=0.0, counting_rate=0.0, group_rate=0.0)
    run = runs.run_or_load(histories, 0, 3, MODEL, frozen, 0)
    weights = runs.pretrained_weights(histories, MODEL, frozen, 0)
    assert all(torch.equal(run.model.state_dict()[name], weights[name]) for name in weights)


def test_more_epochs_predict_hidden_events_better(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    runs.pretrained_weights(histories, MODEL, dataclasses.replace(PRETRAINING, pretraining_epochs=20), 0)
    (folder,) = tmp_path.glob("[!.]*")
    losses = np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1)[:, 1]
    assert losses[-5:].mean() < losses[:5].mean()
