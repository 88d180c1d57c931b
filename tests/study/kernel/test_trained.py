"""A trained model is looked into head by head, over real events alone."""

import math

import pytest
import torch

from lib.attention.performer import favor_attention
from lib.attention.random_features import draw_projection
from lib.attention.softmax import attention_weights
from lib.training.classifier import ModelConfig
from lib.training.runs import build_classifier
from study.insight import batch_of
from study.kernel.trained import features_needed, head_errors, needed_rows

ESTIMATORS = ["positive orthogonal", "trigonometric orthogonal", "hyperbolic orthogonal"]


def inputs(scale, length=16):
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(2, 1, length, 4, generator=generator).double() * scale for _ in range(2)]
    return pair, torch.ones(2, length, dtype=torch.bool)


@pytest.mark.parametrize("estimator", ESTIMATORS)
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


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_padding_needs_no_features(estimator):
    """But for the bins in which pairs are counted, whose width depends on the longest vectors."""
    pair, mask = inputs(0.5, length=32)  # with as much padding, all of them are examined
    padded = [torch.cat([tensor, torch.full_like(tensor, 9.0)], 2) for tensor in pair]
    longer = torch.cat([mask, torch.zeros_like(mask)], 1)
    one, other = (features_needed(*each, estimator, real)[0.1] for each, real in ((pair, mask), (padded, longer)))
    assert other == pytest.approx(one, rel=0.1)


def test_rows_cover_heads_and_estimators(histories):
    model = build_classifier(histories, ModelConfig(attention="softmax"), 0).eval()
    batch, heads = batch_of(histories, histories.labelled[:3], 40), {"layer 1 head 1", "layer 1 head 2"}
    needed = needed_rows(model, batch, ESTIMATORS)
    errors = head_errors(model, batch, ESTIMATORS, [8, 256], torch.Generator().manual_seed(0))
    for model_rows in (needed, errors):
        assert all(heads <= set(of_model["split"]) for _, of_model in model_rows.groupby("model"))
    medians = errors[errors["model"] == "positive orthogonal"].groupby("x")["value"].median()
    assert medians[256] < medians[8]
    assert set(errors["model"]) == {"uniform", *ESTIMATORS}
