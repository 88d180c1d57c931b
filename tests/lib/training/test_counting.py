import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.training.counting import MEMBERSHIP, SIZES, LogCountLogits, SoftGroupCounts, crossed, inverse_occurrence

CODES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12)


@given(CODES, st.integers(0, 3))
def test_inverse_occurrence_is_one_over_the_occurrence_and_sums_to_harmonic_numbers(codes, padding):
    items = torch.tensor([codes + [(0, 0)] * padding])
    key_mask = torch.tensor([[True] * len(codes) + [False] * padding])
    weights = inverse_occurrence(items, key_mask)[0]
    for kind in (0, 1):
        column = [code[kind] for code in codes]
        expected = [1 / (column[:place].count(code) + 1) for place, code in enumerate(column)] + [0] * padding
        assert weights[:, kind].tolist() == pytest.approx(expected)


@given(st.floats(-(2.0**20), 2.0**20, width=32), st.integers(0, 9))
def test_a_code_is_crossed_with_the_factor_e_its_number_lies_in(number, code):
    found = int(crossed(torch.tensor([[[code, 5]]]), torch.tensor([[[number, 7.0]]])))
    assert found // SIZES == code
    assert found % SIZES - SIZES // 2 == min(max(math.floor(number), -SIZES // 2), SIZES // 2 - 1)


def test_log_count_logits_are_a_regression_on_harmonic_counts():
    torch.manual_seed(0)
    items = torch.tensor([[[2, 1], [2, 0], [1, 1], [2, 1]], [[0, 0], [1, 2], [3, 0], [0, 0]]])
    items = torch.cat([items, items[..., :1] * SIZES + 3], dim=-1)
    key_mask = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
    sums = LogCountLogits((4, 3), classes=2)
    counts = inverse_occurrence(items, key_mask)
    assert not sums(items, counts).any()
    for table in sums.tables:
        nn.init.normal_(table.weight)
    expected = torch.zeros(2, 2)
    for row in range(2):
        for kind, table in enumerate(sums.tables):
            for code in items[row, key_mask[row], kind].unique():
                times = int((items[row, key_mask[row], kind] == code).sum())
                expected[row] += sum(1 / place for place in range(1, times + 1)) * table.weight[code].detach()
    # At most 12 terms of order one, each rounded to 2**-24 of the sum.
    torch.testing.assert_close(sums(items, counts), expected, rtol=1e-5, atol=1e-5)


def test_group_counts_are_the_logarithm_of_the_events_that_belong():
    groups = SoftGroupCounts((3,), model_dim=2, groups=2, classes=2)
    certain = 50.0  # softplus(50) is 50 to float precision, softplus(-50) is none
    with torch.no_grad():
        groups.tables[0].weight.copy_(torch.tensor([[certain, -certain], [-certain, certain], [-certain, -certain]]))
        groups.tables[0].weight.sub_(MEMBERSHIP)
        groups.head.weight.copy_(torch.eye(2))
    codes = torch.tensor([[[0], [0], [1], [2], [0]]])
    key_mask = torch.tensor([[True, True, True, True, False]])
    found = groups(torch.zeros(1, 5, 2), codes, key_mask)
    expected = torch.log1p(certain * torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_what_an_event_counts_as_moves_with_its_encoding():
    torch.manual_seed(0)
    groups = SoftGroupCounts((3,), model_dim=2, groups=2, classes=2)
    codes, key_mask = torch.tensor([[[0], [1]]]), torch.ones(1, 2, dtype=torch.bool)
    still, other = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    assert torch.equal(groups(still, codes, key_mask), groups(other, codes, key_mask))
    nn.init.normal_(groups.context.weight)
    assert not torch.allclose(groups(still, codes, key_mask), groups(other, codes, key_mask))
