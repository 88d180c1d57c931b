import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import paths
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import cross_validate
from study.accuracy import comparison, evaluate
from study.accuracy.evaluate import out_of_fold

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16)


@pytest.fixture
def trained(histories, tmp_path, monkeypatch):
    """Runs of a mechanism and of a control, two repeats and one, three folds."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    config = TrainConfig(epochs=1, batch_size=8, max_events=32)
    control = dataclasses.replace(MODEL, attention="local_softmax")
    mechanism = dataclasses.replace(MODEL, attention="infinite_former")
    return (
        cross_validate(histories, mechanism, config, 3, range(2)),
        cross_validate(histories, control, config, 3, range(1)),
    )


def test_a_control_is_set_beside_its_mechanism_on_shared_repeats(histories, trained):
    runs, control = trained
    predictions = out_of_fold(histories, "infinite_former", runs, 3)
    table = comparison.control_table(histories, {"infinite_former_forgetful": control}, predictions, 3, 0)
    row = table.loc["infinite_former_forgetful"]
    of_control = out_of_fold(histories, "control", control, 3)
    scores = {
        name: evaluate.score_table(frame, name)
        for name, frame in (("control", of_control), ("infinite_former", predictions))
    }
    aucs = {
        name: evaluate.interval(found[:1], labels, "roc_auc", seed=0)[0] for name, (found, labels) in scores.items()
    }
    assert row["roc_auc"] == pytest.approx(aucs["control"])
    assert row["loss"] == pytest.approx(aucs["infinite_former"] - aucs["control"])
    assert row["loss_low"] <= row["loss"] <= row["loss_high"]


def test_controls_know_their_mechanism_and_have_names():
    assert comparison.against("performer_16") == "performer"
    assert comparison.against("softmax_pretrained") == "softmax"
    assert comparison.against("gru") == "softmax"
    assert comparison.against("binned_memory") == "infinite_former"
    assert comparison.label("performer") == "Performer"
    assert comparison.label("performer_16") == "Performer, 16 features"
    assert comparison.label("something_new") == "something new"


def test_the_optimum_gets_the_generators_probabilities_in_the_same_folds(histories, tmp_path, trained):
    runs, _ = trained
    predictions = out_of_fold(histories, "infinite_former", runs, 3)
    odds = np.linspace(-3, 3, len(histories.customers))
    truth = pd.DataFrame({"customer_id": histories.customers, "log_odds": odds})
    truth.sample(frac=1, random_state=0).to_csv(tmp_path / "truth.csv", index=False)
    optimum = comparison.bayes_predictions(histories, tmp_path, predictions)
    assert optimum[["seed", "fold", "position", "label"]].equals(predictions[["seed", "fold", "position", "label"]])
    np.testing.assert_allclose(optimum["class_1"], 1 / (1 + np.exp(-odds[optimum["position"]])))
    np.testing.assert_allclose(optimum["class_0"] + optimum["class_1"], 1)


def test_tables_become_rows_with_their_bounds():
    table = pd.DataFrame({"model": ["softmax"], "metric": ["accuracy"], "value": [0.7], "low": [0.6], "high": [0.8]})
    rows = comparison.long_rows(table, "final", "08_comparison").set_index("metric")["value"]
    assert rows.to_dict() == {"accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8}
    costs = pd.DataFrame({"parameters": [3.0, None], "epoch_seconds": [1.0, 2.0]}, index=["softmax", "gru"])
    rows = comparison.column_rows(costs, "final", "08_comparison")
    assert len(rows) == 3
    assert rows["value"].notna().all()


def test_saved_searches_are_read_and_may_be_absent(tmp_path):
    assert comparison.saved_tables(tmp_path) == {}
    pd.DataFrame({"tried": [1]}).to_csv(tmp_path / "first.csv", index=False)
    assert list(comparison.saved_tables(tmp_path)) == ["first"]


def test_the_majority_share_is_of_labelled_customers(histories):
    assert comparison.majority_share(histories) == 0.5
