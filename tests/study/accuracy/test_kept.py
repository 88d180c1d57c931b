"""Predictions kept on disk: loaded when nothing that decides them changed, made anew when they are damaged."""

import dataclasses
from unittest.mock import Mock

import pytest

from lib.data.batches import stratified_folds
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from study.accuracy import kept

MODEL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16)
SHORT = TrainConfig(epochs=1, batch_size=8, max_events=32)


def test_what_is_kept_is_loaded_unless_damaged_and_what_matters_makes_others(histories, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kept.paths, "MEASUREMENTS", tmp_path)
    (learners, test), *_ = stratified_folds(histories, 3, 0)
    arguments = {"histories": histories, "learners": learners, "others": test, "model_config": MODEL}
    arguments |= {"config": SHORT, "seed": 0, "title": ""}
    first = kept.probabilities(**arguments)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert (kept.probabilities(**arguments) == first).all()
    assert f"{file}: damaged" in capsys.readouterr().err
    assert file.read_bytes() == content
    monkeypatch.setattr(kept, "train", Mock(side_effect=RuntimeError("trains again")))
    assert (kept.probabilities(**arguments) == first).all()
    for change in (
        {"learners": learners[1:]},
        {"others": test[1:]},
        {"seed": 1},
        {"config": dataclasses.replace(SHORT, epochs=2)},
        {"model_config": dataclasses.replace(MODEL, heads=4)},
    ):
        with pytest.raises(RuntimeError, match="trains again"):
            kept.probabilities(**(arguments | change))
