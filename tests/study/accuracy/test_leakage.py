"""Nothing of a test customer reaches training, and labels without information are not learned."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from test_references import garbled

from lib.data.batches import stratified_folds
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import predict, train
from study.accuracy import references
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


def test_the_folds_share_no_customer_and_follow_from_labels_alone(histories):
    folds = stratified_folds(histories, 3, 0)
    assert all(not set(learners) & set(test) for learners, test in folds)
    events = dataclasses.replace(histories, numbers=-histories.numbers, categories=histories.categories[::-1])
    for one, other in zip(folds, stratified_folds(events, 3, 0), strict=True):
        np.testing.assert_array_equal(one[1], other[1])


def null_error(labels):
    """Standard deviation of the ROC-AUC of scores that know nothing of the labels (Mann and Whitney 1947)."""
    positive, negative = (labels == 1).sum(), (labels == 0).sum()
    return np.sqrt((positive + negative + 1) / (12 * positive * negative))


@pytest.mark.parametrize("model", [*MECHANISMS, "bigram_regression"])
def test_shuffled_labels_give_chance(model, histories):
    """Whole customers at random: each fold's ROC-AUC has mean one half, so the folds' mean does, four errors around."""
    generator, scores, errors = np.random.default_rng(0), [], []
    for repeat in range(3):
        labels = histories.labels.copy()
        labels[histories.labelled] = generator.permutation(labels[histories.labelled])
        shuffled = dataclasses.replace(histories, labels=labels)
        for learners, test in stratified_folds(shuffled, 3, repeat):
            if model in MECHANISMS:
                config = dataclasses.replace(MODEL, attention=model)
                trained, _ = train(shuffled, learners, config, SHORT, repeat, "shuffled")
                score = predict(trained, shuffled, test, 64)[:, 1]
            else:
                score = references.predictions(shuffled, [(learners, test)], repeat, [model])["class_1"]
            scores.append(roc_auc_score(labels[test], score))
            errors.append(null_error(labels[test]))
    # Folds of one shuffle depend on each other: at worst they agree, so that only the three shuffles count.
    assert abs(np.mean(scores) - 0.5) < 4 * np.mean(errors) / np.sqrt(3)
