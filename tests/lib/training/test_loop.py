import dataclasses

import pytest
import torch

from lib.training import loop
from lib.training.classifier import ModelConfig
from lib.training.loop import Outcome, Plan, TrainConfig, warm_up_and_decay
from lib.training.runs import build_classifier, classification

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16)


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
