import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lib.data.batches import stratified_folds
from lib.training.counting import SIZES
from study.accuracy import evaluate, references


def test_counts_and_aggregates_belong_to_their_customer(histories):
    """Sizes are counted by code and factor e."""
    codes, table = histories.cardinalities[0], references.aggregates(histories)
    counts, by_size = references.code_counts(histories), references.size_counts(histories).toarray()
    for customer in (0, 5, 27):
        piece = slice(histories.offsets[customer], histories.offsets[customer + 1])
        expected = np.zeros((codes, SIZES))
        sizes = np.floor(histories.numbers[piece, 0]).astype(int) + SIZES // 2
        np.add.at(expected, (histories.categories[piece, 0], sizes), 1)
        np.testing.assert_allclose(by_size[customer], np.log1p(expected).ravel(), rtol=1e-6)
        np.testing.assert_allclose(counts[customer, :codes], np.log1p(expected.sum(1)), rtol=1e-6)
    assert np.isfinite(table).all()
    assert table[:, -1] == pytest.approx(np.log(histories.lengths))


def test_pairs_of_codes_are_of_neighbours_and_never_of_two_customers(histories):
    kinds, counts = histories.cardinalities[0], references.pair_counts(histories).toarray()
    expected = np.zeros((len(histories.customers), kinds**2))
    for customer, (start, end) in enumerate(itertools.pairwise(histories.offsets)):
        codes = histories.categories[start:end, 0].astype(int)
        np.add.at(expected[customer], codes[:-1] * kinds + codes[1:], 1)
    np.testing.assert_allclose(counts, np.log1p(expected[:, expected.any(0)]))


def test_a_regression_learns_the_planted_code(histories):
    predictions = references.predictions(histories, stratified_folds(histories, 3, 0), 0, ["logistic_regression"])
    scores, labels = evaluate.score_table(predictions, "logistic_regression")
    # With 20 events or more the planted code, bought six times as often by men, leaves no doubt.
    sure = histories.lengths[histories.labelled] >= 20
    assert roc_auc_score(labels[sure], scores[0, sure, 1]) == 1


def garbled(histories, customers):
    """The histories with other events, and other labels, of the given customers."""
    mine = np.repeat(np.isin(np.arange(len(histories.customers)), customers), histories.lengths)
    labels, categories, numbers = (each.copy() for each in (histories.labels, histories.categories, histories.numbers))
    labels[customers] = 1 - labels[customers]
    categories[mine] = np.random.default_rng(9).integers(0, 7, categories[mine].shape)
    numbers[mine] = -100
    return dataclasses.replace(histories, labels=labels, categories=categories, numbers=numbers)


def test_nothing_of_other_customers_reaches_a_prediction(histories):
    """Half of the test customers become garbage: what is said of the other half stays, to the last bit."""
    (learners, test), *_ = stratified_folds(histories, 3, 0)
    spoilt, kept = test[::2], test[1::2]
    tables = [references.predictions(each, [(learners, test)], 0) for each in (histories, garbled(histories, spoilt))]
    columns = ["model", "position", "class_0", "class_1"]
    first, second = (table.loc[table["position"].isin(kept), columns] for table in tables)
    assert len(first) == len(references.RIVALS) * len(kept)
    assert first.equals(second)
    assert not tables[0].equals(tables[1])
