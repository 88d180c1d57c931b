import numpy as np
import pandas as pd
import pytest

from lib.data.batches import stratified_folds
from study.accuracy import comparison, evaluate, references


@pytest.fixture(scope="module")
def predictions(histories):
    """Of a network, of one without its memory, and of one on permuted events that loses nothing by that."""
    counted = ["logistic_regression", comparison.ORDERED]
    made = references.predictions(histories, stratified_folds(histories, 3, 0), 0, counted)
    network, other = (made[made["model"] == name] for name in counted)
    names = {"infinite_former": network, "infinite_former_permuted": network, "infinite_former_forgetful": other}
    return pd.concat([made, *(frame.assign(model=name) for name, frame in names.items())], ignore_index=True)


def test_a_control_is_set_beside_the_network_of_which_it_is_a_change(predictions):
    row = comparison.control_table(predictions, ["infinite_former_forgetful"], 0).loc["infinite_former_forgetful"]
    means = evaluate.spread(predictions)["mean"]
    assert row["loss"] == pytest.approx(means["infinite_former"] - means["infinite_former_forgetful"])
    assert row["loss_low"] < row["loss"] < row["loss_high"]


def test_true_order_is_compared_with_permuted_order(histories, predictions):
    splits = stratified_folds(histories, 3, 0)
    table = comparison.order_table(histories, splits, predictions, ["infinite_former_permuted"], 0)
    assert table.index.tolist() == ["bigram_regression", "infinite_former"]
    assert table["difference"].ne(0).tolist() == [True, False]


def test_the_optimum_gets_the_generators_probabilities_in_the_same_folds(histories, tmp_path, predictions):
    odds = np.linspace(-3, 3, len(histories.customers))
    truth = pd.DataFrame({"customer_id": histories.customers, "log_odds": odds})
    truth.sample(frac=1, random_state=0).to_csv(tmp_path / "truth.csv", index=False)
    optimum = comparison.bayes_predictions(histories, tmp_path, predictions)
    first = predictions[predictions["model"] == "logistic_regression"]
    assert optimum[["seed", "fold", "position", "label"]].equals(first[["seed", "fold", "position", "label"]])
    np.testing.assert_allclose(optimum["class_1"], 1 / (1 + np.exp(-odds[optimum["position"]])))
    np.testing.assert_allclose(optimum["class_0"] + optimum["class_1"], 1)


def test_tables_become_rows_with_their_bounds_and_without_what_is_missing():
    table = pd.DataFrame({"model": ["softmax"], "metric": ["accuracy"], "value": [0.7], "low": [0.6], "high": [0.8]})
    rows = comparison.long_rows(table, "final", "08_comparison").set_index("metric")["value"]
    assert rows.to_dict() == {"accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8}
    costs = pd.DataFrame({"parameters": [3.0, None], "epoch_seconds": [1.0, 2.0]}, index=["softmax", "gru"])
    assert comparison.column_rows(costs, "final", "08_comparison")["value"].tolist() == [3, 1, 2]


def test_the_best_for_all_is_best_by_the_mean_and_may_lack_something_to_a_mechanisms_own():
    scores, lacks = [1.0, 0.5, 0.75, 0.875, 0.875, 0.6875], [0.0, 0.5, 0.125, 0.0, 0.0, 0.1875]
    table = pd.DataFrame({"roc_auc": scores, "behind_best": lacks, "behind_best_error": 0.1, "trial": [0, 1] * 3})
    table["mechanism"] = [name for name in ("softmax", "performer", "mean") for _ in range(2)]
    assert comparison.best_for_all(table)["behind_best"].to_dict() == {"softmax": 0, "performer": 0.125}


def test_data_on_which_settings_were_tried_are_known_by_their_checksum():
    tables = comparison.saved_searches()
    (checksum,) = tables["tuned_on"]["checksum"]
    scores = comparison.tried_on(checksum, tables)
    assert scores.between(0.7, 0.9).all()
    assert comparison.tried_on("another", tables).empty
