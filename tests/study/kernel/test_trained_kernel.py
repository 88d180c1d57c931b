"""A trained model is looked into head by head, over real events alone."""

import dataclasses

import pandas as pd
import pytest
import torch

from lib import paths
from lib.training.classifier import ModelConfig
from lib.training.runs import Run, build_classifier
from study.kernel.trained_kernel import finished_run, head_errors, head_reports, head_sizes, heads_of, longest_batch


@pytest.fixture
def run(histories):
    model = build_classifier(histories, ModelConfig(attention="softmax"), 0).eval()
    predictions = pd.DataFrame({"position": range(8), "class_0": 0.5, "class_1": 0.5})
    return Run(model, pd.DataFrame(), predictions)


@pytest.fixture
def batch(run, histories):
    return longest_batch(run, histories, 3, 40)


def test_no_training_is_no_run(histories, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    assert finished_run(histories, 3, 1) is None


def test_the_longest_histories_are_chosen(batch, histories):
    lengths = batch.key_mask.sum(1)
    assert len(lengths) == 3
    assert int(lengths.max()) == min(40, int(histories.lengths[:8].max()))


def test_every_head_of_every_layer_is_named(run, batch):
    names = [name for name, _ in heads_of(run.model, batch)]
    layers, heads = len(run.model.encoder.layers), run.model.encoder.layers[0].attention.heads
    assert names == [f"layer {layer + 1} head {head + 1}" for layer in range(layers) for head in range(heads)]


def test_padding_changes_no_size(run, batch):
    sizes = head_sizes(run.model, batch).set_index(["split", "metric"])["value"]
    again = head_sizes(
        run.model, dataclasses.replace(batch, numbers=batch.numbers.masked_fill(~batch.key_mask[..., None], 5.0))
    )
    assert sizes.tolist() == pytest.approx(again["value"].tolist(), rel=1e-5)
    assert (sizes > 0).all()


def test_reports_and_errors_cover_heads_and_estimators(run, batch):
    generator, estimators = torch.Generator().manual_seed(0), ["positive orthogonal", "hyperbolic fixed_norm"]
    reports = head_reports(run.model, batch, estimators, 16, generator)
    errors = head_errors(run.model, batch, estimators, [8, 256], 3, generator)
    heads = len(heads_of(run.model, batch))
    assert reports.groupby("model")["split"].nunique().tolist() == [heads, heads]
    medians = errors[errors["model"] == "positive orthogonal"].groupby("x")["value"].median()
    assert medians[256] < medians[8]
    assert errors[errors["model"] == "uniform"]["split"].nunique() == heads
