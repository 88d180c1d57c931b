"""What notebooks 04, 05 and 06 say alike of their mechanism."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from lib.data import batches
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import build_classifier, predict
from study import insight, report
from study.accuracy import evaluate, mechanism

SMALL = {"model_dim": 16, "heads": 2, "feedforward_dim": 16}


@pytest.fixture
def page(tmp_path):
    return report.begin("05_train_performer", "tiny", reports=tmp_path)


def predictions(shift: float) -> pd.DataFrame:
    """Two repeats of twenty customers, the second half of class 1; a shift of one separates them."""
    places, generator = np.arange(20), np.random.default_rng(0)
    label = (places >= 10).astype(int)
    frames = []
    for seed in range(2):
        score = np.clip(generator.uniform(0.3, 0.5, 20) + 0.4 * shift * label, 0, 1)
        keys = {"model": "performer", "seed": seed, "fold": places % 2, "position": places, "label": label}
        frames.append(pd.DataFrame(keys | {"class_0": 1 - score, "class_1": score}))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(("shift", "holds"), [(1.0, True), (0.0, False)])
def test_accuracy_and_claim_are_those_of_the_predictions(page, shift, holds):
    made = predictions(shift)
    values = mechanism.show_accuracy(page, made, 0)
    mechanism.claim_learning(page, "The Performer", values)
    scores, labels = evaluate.score_table(made, "performer")
    expected = {metric: evaluate.interval(scores, labels, metric, seed=0) for metric in evaluate.METRICS}
    found = values.set_index("metric")[["value", "low", "high"]]
    assert {metric: tuple(row) for metric, row in zip(found.index, found.to_numpy(), strict=True)} == expected
    (claim,) = json.loads((page.directory / "claims" / "05_train_performer.json").read_text())
    assert (claim["name"], claim["holds"]) == ("performer_learns", holds)
    assert claim["sentence"].startswith(
        "The Performer beats guessing: " if holds else "The Performer does not visibly beat guessing: "
    )


def test_a_fold_is_trained_and_its_others_are_scored_before_and_after(histories, capsys):
    config, recipe = ModelConfig(**SMALL), TrainConfig(epochs=2)
    mechanism.try_out(histories, config, recipe, 3, 0, most=10)
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"(\w+) training on 10 customers: ROC-AUC (\d\.\d{3}) on 8 others", line) for line in lines]
    assert [line[1] for line in found] == ["before", "after"]
    untrained = build_classifier(histories, config, 0)
    _, others = batches.stratified_folds(histories, 3, 0)[0]
    score = predict(untrained, histories, others, recipe.evaluation_events)[:, 1]
    labels = histories.labels[others]
    gaps = score[labels == 1][:, None] - score[labels == 0]
    assert found[0][2] == f"{(0.5 + np.sign(gaps) / 2).mean():.3f}"


def test_the_kernel_error_is_that_of_the_models_own_kernel(histories):
    """Fixed norms are biased: more of them do not help beyond the bias, and other kernels give other errors."""
    errors = {}
    for kernel, projection in (("positive", "orthogonal"), ("hyperbolic", "orthogonal"), ("positive", "fixed_norm")):
        config = ModelConfig(attention="performer", kernel=kernel, projection=projection, **SMALL)
        model = build_classifier(histories, config, 0).eval()
        rows = insight.kernel_error(model, histories, np.arange(4), [16], 0)
        errors[kernel, projection] = rows["value"].tolist()
    assert len({tuple(each) for each in errors.values()}) == 3
