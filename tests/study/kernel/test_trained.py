"""A trained model is looked into head by head, over real events alone."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from lib.attention.performer import favor_attention
from lib.attention.random_features import draw_projection
from lib.attention.softmax import attention_weights
from lib.training.classifier import ModelConfig
from lib.training.runs import Run, build_classifier
from study.kernel.trained import (
    features_needed,
    head_errors,
    head_sizes,
    heads_of,
    longest_batch,
    needed_rows,
)

ESTIMATORS = ["positive orthogonal", "hyperbolic fixed_norm"]


@pytest.fixture
def run(histories):
    model = build_classifier(histories, ModelConfig(attention="softmax"), 0).eval()
    return Run(model, pd.DataFrame(), pd.DataFrame({"position": range(8)}))


@pytest.fixture
def batch(run, histories):
    return longest_batch(run, histories, 3, 40)


def inputs(scale, length=16):
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(2, 1, length, 4, generator=generator).double() * scale for _ in range(2)]
    return pair, torch.ones(2, length, dtype=torch.bool)


def test_the_longest_histories_are_chosen(batch, histories):
    lengths = batch.key_mask.sum(1)
    assert len(lengths) == 3
    assert int(lengths.max()) == min(40, int(histories.lengths[:8].max()))


def test_padding_changes_no_size(run, batch):
    sizes = head_sizes(run.model, batch).set_index(["split", "metric"])["value"]
    hidden = dataclasses.replace(batch, numbers=batch.numbers.masked_fill(~batch.key_mask[..., None], 5.0))
    assert sizes.tolist() == pytest.approx(head_sizes(run.model, hidden)["value"].tolist(), rel=1e-5)
    assert (sizes > 0).all()


@pytest.mark.parametrize("estimator", ["positive orthogonal", "trigonometric orthogonal", "hyperbolic orthogonal"])
def test_with_the_features_needed_weights_are_as_close_as_asked(estimator):
    """The prediction leaves out that errors of one row are correlated: over draws, within a factor of two."""
    (queries, keys), mask = inputs(0.5)
    kernel, projection = estimator.split(" ")
    count = math.ceil(features_needed(queries, keys, estimator, mask)[0.1])
    truth, each_key = attention_weights(queries, keys), torch.eye(16).double().expand(2, 1, 16, 16)
    squares = []
    for seed in range(20):
        rows = draw_projection(projection, count, 4, torch.Generator().manual_seed(seed)).double()
        weights = favor_attention(queries, keys, each_key, rows, kernel)
        squares.append(float(((weights - truth).norm() / truth.norm()) ** 2))
    assert 0.05 < (sum(squares) / len(squares)) ** 0.5 < 0.2


def test_features_go_by_the_square_of_the_target_and_a_bias_is_out_of_reach():
    (queries, keys), mask = inputs(0.5)
    needed = features_needed(queries, keys, "positive orthogonal", mask)
    assert needed[0.05] == pytest.approx(4 * needed[0.1])
    (queries, keys), mask = inputs(3.0)
    assert math.isinf(features_needed(queries, keys, "hyperbolic fixed_norm", mask)[0.1])


def test_padding_needs_no_features():
    pair, mask = inputs(0.5, length=32)  # with as much padding, all of them are examined
    padded = [torch.cat([tensor, torch.full_like(tensor, 9.0)], 2) for tensor in pair]
    longer = torch.cat([mask, torch.zeros_like(mask)], 1)
    for estimator in (*ESTIMATORS, "trigonometric orthogonal"):
        one, other = (
            features_needed(*each, estimator, masked)[0.1] for each, masked in ((pair, mask), (padded, longer))
        )
        # The pairs are counted in bins, whose width depends on the longest vectors.
        assert other == pytest.approx(one, rel=0.1)


def test_rows_cover_heads_and_estimators(run, batch):
    generator, layers = torch.Generator().manual_seed(0), run.model.encoder.layers
    heads = len(layers) * layers[0].attention.heads
    assert list(heads_of(run.model, batch))[:2] == ["layer 1 head 1", "layer 1 head 2"]
    needed = needed_rows(run.model, batch, ESTIMATORS)
    errors = head_errors(run.model, batch, ESTIMATORS, [8, 256], generator)
    assert needed.groupby("model")["split"].nunique().tolist() == [heads, heads]
    medians = errors[errors["model"] == "positive orthogonal"].groupby("x")["value"].median()
    assert medians[256] < medians[8]
    assert errors[errors["model"] == "uniform"]["split"].nunique() == heads
