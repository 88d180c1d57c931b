import json
import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_evaluate import predictions_of, two

from lib.data import batches
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import build_classifier, predict
from study import report
from study.accuracy import mechanism

SMALL = {"model_dim": 16, "heads": 2, "feedforward_dim": 16}


@pytest.mark.parametrize(("shift", "holds", "verb"), [(0.4, True, "beats"), (0.0, False, "does not visibly beat")])
def test_the_claim_is_that_of_the_predictions(tmp_path, shift, holds, verb):
    page, labels = report.begin("05_train_performer", "tiny", reports=tmp_path), np.arange(20) // 10
    scores = np.random.default_rng(0).uniform(0.3, 0.5, (2, 20)) + shift * labels
    values = mechanism.show_accuracy(page, predictions_of(two(scores), labels, "performer"), 0)
    mechanism.claim_learning(page, "The Performer", values)
    (claim,) = json.loads((page.directory / "claims" / "05_train_performer.json").read_text())
    assert (claim["name"], claim["holds"]) == ("performer_learns", holds)
    assert claim["sentence"].startswith(f"The Performer {verb} guessing: ")


def test_a_fold_is_trained_and_its_others_are_scored_before_and_after(histories, capsys):
    config, recipe = ModelConfig(**SMALL), TrainConfig(epochs=2)
    mechanism.try_out(histories, config, recipe, 3, 0, most=10)
    found = re.findall(r"(\w+) training on 10 customers: ROC-AUC (\d\.\d{3}) on 8 others\n", capsys.readouterr().out)
    _, others = batches.stratified_folds(histories, 3, 0)[0]
    score = predict(build_classifier(histories, config, 0), histories, others, recipe.evaluation_events)[:, 1]
    assert found[0] == ("before", f"{roc_auc_score(histories.labels[others], score):.3f}")
    assert found[1][0] == "after"
