"""Folds, slices and padded batches."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data.batches import collate, last_events, length_batches, random_slices, stratified_folds
from lib.data.description import DataError
from lib.data.histories import Histories

EMPTY = Histories(*[np.zeros(0)] * 6, "", {}, "sex", (), (), (), ())


def labelled(labels, groups=None):
    """Histories of nothing but labels and groups."""
    labels = np.array(labels, np.int8)
    names = tuple("abc"[: labels.max() + 1])
    return dataclasses.replace(EMPTY, class_names=names, labels=labels, groups=groups)


@settings(max_examples=20)
@given(st.integers(2, 6), st.integers(0, 100))
def test_folds_cover_every_labelled_customer_once_and_are_stratified(count, seed):
    histories = labelled([0] * 13 + [1] * 11 + [2] * 10 + [-1] * 5)
    folds = stratified_folds(histories, count, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(34))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(34))
        assert (np.abs(np.bincount(histories.labels[test]) - np.array([13, 11, 10]) / count) < 1).all()


@settings(max_examples=10)
@given(st.lists(st.integers(1, 4), min_size=60, max_size=60), st.integers(2, 5), st.integers(0, 100))
def test_no_group_is_in_two_folds(sizes, count, seed):
    histories = labelled(([0, 1, 1] * 80)[: sum(sizes)], np.repeat(np.arange(60), sizes))
    folds = stratified_folds(histories, count, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(sum(sizes)))
    for train, test in folds:
        assert not set(histories.groups[train]) & set(histories.groups[test])
        assert sorted([*train, *test]) == list(range(sum(sizes)))
        assert np.bincount(histories.labels[test]) / len(test) == pytest.approx([1 / 3, 2 / 3], abs=0.2)


def test_too_few_customers_or_groups_for_the_folds_are_refused(histories):
    with pytest.raises(DataError, match="12 customers, 13 folds need 13"):
        stratified_folds(histories, 13, 0)
    with pytest.raises(DataError, match=r"groups cannot be parted into 3 folds .* fewer folds or label more groups"):
        stratified_folds(labelled([0] * 40 + [1] * 60, np.repeat(range(4), [40, 40, 10, 10])), 3, 0)


@pytest.mark.parametrize(("name", "customers", "labels"), [("histories", [0, 3], [0, 1]), ("visits", [46, 3], [-1, 2])])
def test_a_batch_holds_the_last_events_and_masks_the_rest(name, customers, labels, request):
    histories, customers = request.getfixturevalue(name), np.array(customers)
    starts, lengths = last_events(histories, customers, 40)
    batch = collate(histories, customers, starts, lengths)
    assert batch.key_mask.sum(1).tolist() == lengths.tolist() == [min(n, 40) for n in histories.lengths[customers]]
    end = histories.offsets[4]
    np.testing.assert_array_equal(batch.categories[1], histories.categories[end - 40 : end])
    np.testing.assert_array_equal(batch.numbers[1], histories.numbers[end - 40 : end])
    assert batch.days[1, -1] == 0
    assert not batch.categories[0, lengths[0] :].any()
    assert not batch.numbers[0, lengths[0] :].any()
    assert batch.labels.tolist() == labels


@given(st.integers(0, 1000), st.integers(1, 80), st.floats(0.05, 1))
def test_random_slices_stay_inside_the_history(histories, seed, limit, shortest):
    customers = np.arange(len(histories.customers))
    starts, lengths = random_slices(histories, customers, limit, shortest, np.random.default_rng(seed))
    whole = np.minimum(histories.lengths, limit)
    assert (lengths >= np.maximum(1, np.ceil(whole * shortest) - 1e-9)).all()
    assert (lengths <= whole).all()
    assert (starts >= histories.offsets[:-1]).all()
    assert (starts + lengths <= histories.offsets[1:]).all()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.integers(1, 16), st.booleans())
def test_batches_cover_everyone_once(lengths, size, shuffled):
    lengths = np.array(lengths)
    groups = length_batches(lengths, size, np.random.default_rng(0) if shuffled else None)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert max(map(len, groups)) <= size


def test_batches_of_long_tailed_lengths_are_mostly_real():
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.lognormal(5.5, 1.2, 1000), 512).astype(int) + 1
    computed = sum(len(group) * lengths[group].max() for group in length_batches(lengths, 16, generator))
    assert lengths.sum() / computed > 0.9
