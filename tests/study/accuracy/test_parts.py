import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lib.data.batches import stratified_folds
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import Run, predict, train
from study.accuracy import parts


def test_the_parts_add_up_to_the_prediction_and_are_scored_alone(histories):
    (learners, test), *_ = stratified_folds(histories, 3, 0)
    config = ModelConfig(model_dim=16, heads=2, feedforward_dim=16)
    model, _ = train(histories, learners, config, TrainConfig(epochs=2), 0, "parts")
    scores = parts.part_scores(model, histories, test)
    logit = {name: each[:, 1] - each[:, 0] for name, each in scores.items()}
    probability = predict(model, histories, test, TrainConfig.evaluation_events)[:, 1]
    np.testing.assert_allclose(sum(logit.values()), np.log(probability / (1 - probability)), atol=1e-4)
    run = Run(model, pd.DataFrame(), pd.DataFrame({"position": test}))
    table = parts.logit_parts(histories, {"softmax": [run]}, 1, 0).set_index("split")
    assert table.loc["log-count sums", "deviation"] == pytest.approx(logit["sums"].std())
    path = logit["sums"] + logit["groups"]
    assert table.loc["counting path", "roc_auc"] == roc_auc_score(histories.labels[test], path)


def test_more_classes_are_each_set_against_the_mean_of_the_others():
    scores = np.array([[1.0, 2.0, 6.0]])
    np.testing.assert_allclose(parts.against_the_others(scores), [[1 - 4, 2 - 3.5, 6 - 1.5]])
    np.testing.assert_allclose(parts.against_the_others(scores[:, :2]), [[-1.0, 1.0]])
