import numpy as np
import pytest

from lib import paths
from lib.data.batches import stratified_folds
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import cross_validate
from study.accuracy import curves, references
from study.accuracy.evaluate import out_of_fold

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16)
SHORT = TrainConfig(epochs=1, batch_size=8, max_events=32)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")


def test_the_latest_events_are_the_last_ones_of_each_customer(histories):
    seen = curves.latest(histories, 7)
    assert seen.lengths.tolist() == np.minimum(histories.lengths, 7).tolist()
    for customer in (0, 2, 27):
        whole = histories.days[histories.offsets[customer] : histories.offsets[customer + 1]]
        part = seen.days[seen.offsets[customer] : seen.offsets[customer + 1]]
        assert part.tolist() == whole[-7:].tolist()
    assert curves.latest(histories, 10**6).days.tolist() == histories.days.tolist()


def test_the_curve_over_events_ends_at_the_whole_histories(histories):
    runs = {"softmax": cross_validate(histories, MODEL, SHORT, 3, [0])}
    rows = curves.by_events(histories, runs, 3, [1, 1024], 0).set_index(["model", "x"])
    predictions = out_of_fold(histories, "softmax", runs["softmax"], 3)
    whole = curves.evaluate.score_rows(predictions, ["roc_auc"])["value"].item()
    assert rows.loc[("softmax", 1024), "value"] == pytest.approx(whole, abs=1e-9)
    assert set(rows.index.get_level_values("model")) == {"softmax", "logistic_regression"}


def test_fewer_customers_are_a_part_of_the_fold_in_shares_of_the_labels(histories):
    splits = stratified_folds(histories, 3, 0)
    for (learners, test), (part, same) in zip(splits, curves.fewer(histories, splits, 10), strict=True):
        assert set(part) < set(learners)
        assert np.bincount(histories.labels[part]).tolist() == [5, 5]
        assert same.tolist() == test.tolist()


def test_sizes_that_the_folds_do_not_have_are_left_out(histories):
    splits = stratified_folds(histories, 3, 0)
    assert [size for size in range(30) if curves.fewer(histories, splits, size)] == [10, 11, 12, 13, 14]
    whole = references.predictions(histories, splits, 0)
    rows = curves.by_customers(histories, splits, [9, 12, 100], whole, 0)
    assert set(rows["x"]) == {12, 16}
    assert set(rows["model"]) == set(references.RIVALS)
