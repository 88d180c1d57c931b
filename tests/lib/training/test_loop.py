import dataclasses

import pytest
import torch

from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig, fit, warm_up_and_decay
from lib.training.runs import build_classifier

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16, dropout=0.0)
SHORT = TrainConfig(epochs=1, batch_size=64, max_events=16)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [warm_up_and_decay(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == max(rates) == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001


def test_a_loss_that_is_not_finite_is_an_error(histories):
    model = build_classifier(histories, MODEL, 0)
    torch.nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="a title: the loss is nan in epoch 1"):
        fit(model, histories, histories.labelled, SHORT, 0, "a title")


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_regulariser_enters_with_its_weight(weight, histories):
    model = build_classifier(histories, MODEL, 0)
    model.forward = lambda categories, *_: (torch.zeros(len(categories), 2), model.head.bias.sum())
    fit(model, histories, histories.labelled, dataclasses.replace(SHORT, kl_weight=weight), 0, "a title")
    assert (model.head.bias == 0).all() if weight == 0 else (model.head.bias < 0).all()
