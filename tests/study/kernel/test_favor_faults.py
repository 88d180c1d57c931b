"""The transcribed faults show, and this study's forms do not have them."""

import torch

from lib.attention.performer import favor_attention
from lib.attention.random_features import orthogonal_projection
from study.kernel.favor_faults import (
    attention_faults,
    epsilon_share,
    published_attention,
    relative_change,
    sign_bias,
    uncorrected_projection,
)
from study.kernel.kernel_error import standard_errors


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_first_coordinate_of_an_uncorrected_block_is_never_positive():
    rows = uncorrected_projection(400, 4, seeded())
    assert (rows[::4, 0] < 0).all()
    assert (orthogonal_projection(400, 4, seeded())[::4, 0] > 0).any()


def test_only_the_published_directions_are_biased():
    bias = sign_bias([4], 3000, seeded())
    bias["deviation"] = standard_errors(bias, "mean").abs()
    worst = bias.groupby("model")["deviation"].max()
    assert worst["ours"] < 4
    assert worst["published"] > 10


def test_without_its_faults_the_published_form_is_ours():
    queries, keys, values = torch.randn(3, 1, 2, 20, 4, generator=seeded()).double()
    projection = orthogonal_projection(32, 4, seeded()).double()
    clean = published_attention(queries, keys, values, projection, epsilon=0.0)
    ours = favor_attention(queries, keys, values, projection)
    assert relative_change(clean, ours) < 1000 * torch.finfo(torch.float64).eps


def test_every_fault_shows_in_the_published_form_alone():
    faults = attention_faults([(16, 1.0)], 64, 32, 2, seeded())
    largest = faults.groupby(["metric", "model"])["value"].max().unstack()
    assert (largest["published"] > 0.01).all()
    assert largest.loc["change_by_the_future", "ours"] == 0
    assert largest.loc["change_by_padding", "ours"] < 1e3 * torch.finfo(torch.float32).eps


def test_the_share_of_epsilon_grows_with_the_norm():
    keys, projection = torch.randn(1, 1, 50, 16, generator=seeded()), orthogonal_projection(32, 16, seeded())
    assert epsilon_share(0.1 * keys, projection) < epsilon_share(keys, projection) < epsilon_share(2 * keys, projection)
