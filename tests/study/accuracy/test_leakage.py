"""Nothing of a test customer reaches training."""

import dataclasses

import pytest
import torch
from test_references import garbled

from lib.data.batches import stratified_folds
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.mechanisms import MECHANISMS

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16, dropout=0.1)
SHORT = TrainConfig(epochs=2, batch_size=4, max_events=32)


@pytest.mark.parametrize("attention", MECHANISMS)
def test_events_and_labels_of_test_customers_leave_the_training_as_it_is(attention, histories):
    (learners, test), *_ = stratified_folds(histories, 3, 0)
    config = dataclasses.replace(MODEL, attention=attention)
    first, second = (
        train(each, learners, config, SHORT, 0, "leakage") for each in (histories, garbled(histories, test))
    )
    weights, others = (model.state_dict() for model, _ in (first, second))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert first[1].drop(columns="seconds").equals(second[1].drop(columns="seconds"))
