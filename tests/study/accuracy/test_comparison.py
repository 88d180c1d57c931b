import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import paths
from lib.data.batches import stratified_folds
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import cross_validate
from study.accuracy import comparison, evaluate, references
from study.accuracy.evaluate import out_of_fold

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16)


@pytest.fixture(scope="module")
def trained(histories, tmp_path_factory):
    """Runs of a mechanism and of a control, two repeats and one, three folds."""
    config = TrainConfig(epochs=1, batch_size=8, max_events=32)
    control = dataclasses.replace(MODEL, attention="local_softmax")
    mechanism = dataclasses.replace(MODEL, attention="infinite_former")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", tmp_path_factory.mktemp("runs"))
        return (
            cross_validate(histories, mechanism, config, 3, range(2)),
            cross_validate(histories, control, config, 3, range(1)),
        )


def test_a_control_is_set_beside_its_network_on_shared_repeats(histories, trained):
    runs, control = trained
    predictions = out_of_fold(histories, "infinite_former", runs, 3)
    table = comparison.control_table(histories, {"infinite_former_forgetful": control}, predictions, 3, 0)
    row = table.loc["infinite_former_forgetful"]
    aucs = [
        evaluate.value("roc_auc", *evaluate.score_table(out_of_fold(histories, "", some, 3), ""))[0]
        for some in (runs[:3], control)
    ]
    assert row["roc_auc"] == pytest.approx(aucs[1])
    assert row["loss"] == pytest.approx(aucs[0] - aucs[1])
    assert row["loss_low"] <= row["loss"] <= row["loss_high"]


def test_true_order_is_compared_with_permuted_order(histories, trained):
    runs, _ = trained
    frames = [out_of_fold(histories, "infinite_former", runs[:3], 3)]
    frames += [references.predictions(histories, stratified_folds(histories, 3, 0), 0, ["bigram_regression"])]
    controls = {"infinite_former_permuted": runs[:3]}
    table = comparison.order_table(histories, controls, pd.concat(frames), 3, 0)
    assert table.index.tolist() == ["bigram_regression", "infinite_former"]
    assert table.loc["infinite_former", "difference"] == 0


def test_differences_are_spelled_with_their_values_in_words():
    assert comparison.label("performer − performer_16") == "Performer − Performer with 16 features"
    table = pd.DataFrame({"difference": 0.1, "low": -0.2, "high": 0.4}, index=["softmax − gru"])
    assert comparison.spelled(table, [("softmax", "gru")]) == "softmax +0.100 (-0.200 to +0.400)"


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


def test_a_difference_is_read_either_way_round():
    found = pd.DataFrame(
        {"difference": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.3, 0.4]},
        index=["gru − softmax", "softmax − performer"],
    )
    table = comparison.against(found, dict.fromkeys(["softmax", "gru", "performer"], "softmax"))
    assert table.to_numpy().tolist() == [[0, 0, 0], [0.1, 0.0, 0.3], [-0.2, -0.4, -0.1]]


def test_tables_become_rows_with_their_bounds():
    table = pd.DataFrame({"model": ["softmax"], "metric": ["accuracy"], "value": [0.7], "low": [0.6], "high": [0.8]})
    rows = comparison.long_rows(table, "final", "08_comparison").set_index("metric")["value"]
    assert rows.to_dict() == {"accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8}
    costs = pd.DataFrame({"parameters": [3.0, None], "epoch_seconds": [1.0, 2.0]}, index=["softmax", "gru"])
    rows = comparison.column_rows(costs, "final", "08_comparison")
    assert len(rows) == 3
    assert rows["value"].notna().all()
