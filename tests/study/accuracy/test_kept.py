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


@pytest.fixture
def arguments(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(kept.paths, "MEASUREMENTS", tmp_path)
    (learners, test), *_ = stratified_folds(histories, 3, 0)
    return {
        "histories": histories,
        "learners": learners,
        "others": test,
        "model_config": MODEL,
        "config": SHORT,
        "seed": 0,
        "title": "",
    }


def test_what_is_kept_is_loaded_and_what_matters_makes_others(arguments, monkeypatch):
    first = kept.probabilities(**arguments)
    monkeypatch.setattr(kept, "train", Mock(side_effect=RuntimeError("trains again")))
    assert (kept.probabilities(**arguments) == first).all()
    for change in (
        {"learners": arguments["learners"][1:]},
        {"others": arguments["others"][1:]},
        {"seed": 1},
        {"config": dataclasses.replace(SHORT, epochs=2)},
        {"model_config": dataclasses.replace(MODEL, heads=4)},
    ):
        with pytest.raises(RuntimeError, match="trains again"):
            kept.probabilities(**(arguments | change))


def test_a_damaged_file_is_named_and_made_anew(arguments, tmp_path, capsys):
    first = kept.probabilities(**arguments)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    content = file.read_bytes()
    for damaged in (content[:-1], content[:200] + bytes([content[200] ^ 1]) + content[201:], b""):
        file.write_bytes(damaged)
        assert (kept.probabilities(**arguments) == first).all()
        assert f"{file}: damaged" in capsys.readouterr().err
        assert file.read_bytes() == content
