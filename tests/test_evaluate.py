import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from lib import evaluate


def predictions_of(scores, labels, model="softmax"):
    repeats, customers = scores.shape
    folds = np.arange(customers) % 5
    frames = [
        pd.DataFrame(
            {
                "model": model,
                "seed": repeat,
                "fold": folds,
                "position": np.arange(customers),
                "label": labels,
                "probability": scores[repeat],
            }
        )
        for repeat in range(repeats)
    ]
    return pd.concat(frames, ignore_index=True)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_roc_auc_equals_the_librarys_ties_included(positive, negative):
    labels = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(labels, positive + negative)
    assert evaluate.roc_auc(np.array(positive), np.array(negative)) == pytest.approx(expected, abs=1e-12)


def test_accuracy_by_hand():
    assert evaluate.accuracy(np.array([0.9, 0.4]), np.array([0.1, 0.2, 0.6])) == 3 / 5


def test_interval_has_the_width_of_the_binormal_standard_error():
    """Scores from two normals: the bootstrap interval agrees with Hanley and McNeil's error within its own noise."""
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 400)
    scores = generator.normal(labels * 1.2)[None]
    value, low, high = evaluate.interval(scores, labels, "roc_auc")
    twice_pairs, twice_negative = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (value * (1 - value) + 399 * (twice_pairs - value**2) + 399 * (twice_negative - value**2)) / 400**2
    # A percentile interval from 2,000 resamples has a relative error of about 1/sqrt(2 * 2000) at each end; the
    # Hanley-McNeil variance assumes exponential scores, good to about a tenth here.
    assert (high - low) / (2 * 1.96) == pytest.approx(np.sqrt(variance), rel=0.15)
    assert low < stats.norm.cdf(1.2 / np.sqrt(2)) < high


def test_a_model_does_not_differ_from_itself_and_a_shift_of_scores_changes_nothing():
    generator = np.random.default_rng(0)
    labels = np.arange(100) % 2
    scores = generator.uniform(size=(2, 100))
    both = pd.concat([predictions_of(scores, labels), predictions_of(scores / 2, labels, "performer")])
    found = evaluate.compare(both, "softmax", "performer", fold_count=5)
    assert found == dict.fromkeys(("difference", "low", "high", "detectable", "fold_difference"), 0) | {"p_value": 1}


def test_corrected_t_test_by_hand():
    differences = np.array([0.02, 0.04, 0.06])
    error, p_value = evaluate.corrected_t_test(differences, test_share=0.25)
    # Variance 0.0004, widened by 1/3 + (1/4)/(3/4) = 2/3.
    assert error == pytest.approx(np.sqrt(0.0004 * 2 / 3))
    assert p_value == pytest.approx(2 * stats.t.sf(0.04 / error, 2))


def test_a_customer_predicted_twice_or_not_at_all_is_refused():
    table = predictions_of(np.full((2, 10), 0.5), np.arange(10) % 2)
    with pytest.raises(ValueError, match="twice"):
        evaluate.score_table(pd.concat([table, table.iloc[:1]]), "softmax")
    with pytest.raises(ValueError, match="missing"):
        evaluate.score_table(table.iloc[1:], "softmax")


def test_counts_and_aggregates_belong_to_their_customer(histories):
    counts, table = evaluate.code_counts(histories), evaluate.aggregates(histories)
    for customer in (0, 5, 27):
        piece = slice(histories.offsets[customer], histories.offsets[customer + 1])
        codes = np.bincount(histories.categories[piece, 0], minlength=histories.cardinalities[0])
        np.testing.assert_allclose(counts[customer, : len(codes)], np.log1p(codes), rtol=1e-6)
    assert np.isfinite(table).all()
    assert table[:, -1] == pytest.approx(np.log(histories.lengths))


def test_references_learn_the_planted_code_and_predict_everyone_once(histories):
    predictions = evaluate.reference_predictions(histories, 3, 0)
    for model in ("logistic_regression", "gradient_boosting"):
        scores, labels = evaluate.score_table(predictions, model)
        assert scores.shape == (1, 24)
        assert labels.tolist() == histories.labels[histories.labelled].tolist()
    scores, labels = evaluate.score_table(predictions, "logistic_regression")
    # With 20 events or more the planted code, bought six times as often by men, leaves no doubt.
    sure = histories.lengths[histories.labelled] >= 20
    assert roc_auc_score(labels[sure], scores[0, sure]) == 1
