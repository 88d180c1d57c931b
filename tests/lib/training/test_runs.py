import dataclasses
import json
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from lib import storage
from lib.data import batches
from lib.training import runs
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from study import train

MECHANISMS = ["softmax", "performer", "infinite_former"]
MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16, dropout=0.0)
SHORT = TrainConfig(epochs=2, batch_size=4, max_events=32)


@pytest.mark.parametrize("attention", MECHANISMS)
def test_memorises_eight_customers(attention, histories):
    customers = np.flatnonzero((histories.labels >= 0) & (histories.lengths >= 20))[:8]
    config = dataclasses.replace(SHORT, epochs=30, learning_rate=2e-2, weight_decay=0.0, shortest_slice=1.0)
    model_config = dataclasses.replace(MODEL, attention=attention)
    _, history = runs.train(histories, customers, model_config, config, 0, "memorise")
    assert history["accuracy"].iloc[-1] == 1
    assert history["loss"].iloc[-1] < 0.1


def test_learns_three_classes_of_other_columns(visits, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "RUNS", tmp_path)
    config = dataclasses.replace(SHORT, epochs=12, learning_rate=2e-2, shortest_slice=1.0)
    run = runs.run_or_load(visits, 0, 3, MODEL, config, 0)
    assert run.model.head.out_features == 3
    columns = ["class_0", "class_1", "class_2"]
    assert run.predictions.columns.tolist() == ["position", *columns]
    np.testing.assert_allclose(run.predictions[columns].sum(axis=1), 1, rtol=1e-6)
    position = run.predictions["position"].to_numpy()
    sure = visits.lengths[position] >= 10  # each outcome has a ward to itself, where seven visits of ten are made
    assert (run.predictions[columns].to_numpy().argmax(1) == visits.labels[position])[sure].all()


@pytest.mark.parametrize("attention", MECHANISMS)
def test_same_seed_same_training_another_seed_another(attention, histories):
    model_config = dataclasses.replace(MODEL, attention=attention, dropout=0.2)
    trained = [
        runs.train(histories, histories.labelled, model_config, SHORT, seed, "repeat")[0].state_dict()
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert not torch.equal(trained[0]["head.weight"], trained[2]["head.weight"])


def test_training_leaves_the_callers_random_state_alone(histories):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    runs.train(histories, histories.labelled, MODEL, SHORT, 0, "state")
    assert torch.equal(torch.rand(1), expected)


def test_predictions_keep_the_order_of_the_customers(histories):
    model = runs.build_classifier(histories, MODEL, 0)
    customers = np.array([3, 0, 9, 2])
    together = runs.predict(model, histories, customers, 16)
    singly = np.concatenate([runs.predict(model, histories, customers[[i]], 16) for i in range(4)])
    np.testing.assert_allclose(together, singly, rtol=1e-5)


def test_loading_equals_training_and_what_matters_makes_another_run(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "RUNS", tmp_path)
    first = runs.run_or_load(histories, 0, 3, MODEL, SHORT, 0)
    monkeypatch.setattr(runs, "train", Mock(side_effect=RuntimeError("trains again")))
    again = runs.run_or_load(histories, 0, 3, MODEL, SHORT, 0)
    assert first.predictions.equals(again.predictions)
    assert first.history.equals(again.history)
    test_customers = batches.stratified_folds(histories, 3, 0)[0][1]
    assert first.predictions["position"].tolist() == test_customers.tolist()
    fresh = runs.predict(again.model, histories, test_customers, SHORT.evaluation_events)
    np.testing.assert_allclose(fresh[:, 1], again.predictions["class_1"], rtol=1e-5)
    same = {"histories": histories, "fold": 0, "fold_count": 3, "model_config": MODEL, "config": SHORT, "seed": 0}
    for change in (
        {"fold": 1},
        {"seed": 1},
        {"config": dataclasses.replace(SHORT, epochs=3)},
        {"model_config": dataclasses.replace(MODEL, heads=4)},
        {"histories": dataclasses.replace(histories, checksum="other")},
        {"histories": dataclasses.replace(histories, encoded_by="other")},
    ):
        with pytest.raises(RuntimeError, match="trains again"):
            runs.run_or_load(**(same | change))


def test_a_mechanism_does_not_hang_on_the_others_code():
    names = {mechanism: {path.stem for path in runs.sources(mechanism)} for mechanism in MECHANISMS}
    assert not {"performer", "evaluate", "variants", "storage"} & names["softmax"]
    assert "infinite_former" not in names["performer"]
    assert {"performer", "classifier", "batches", "softmax"} <= names["performer"]
    assert "infinite_former" in names["infinite_former"]


def test_the_command_line_lists_its_runs(bank_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(storage, "PROCESSED", tmp_path / "processed")
    out = tmp_path / "softmax-0.json"
    arguments = f"train softmax --source {bank_folder} --folds 2 --epochs 1 --out {out}"
    monkeypatch.setattr("sys.argv", arguments.split())
    assert train.main() == 0
    assert sorted(json.loads(out.read_text())) == sorted(path.name for path in (tmp_path / "runs").glob("[!.]*"))
