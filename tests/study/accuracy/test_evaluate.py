import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as library

from study.accuracy import evaluate


def two(scores):
    """Probabilities of two classes from those of the second."""
    return np.stack([1 - scores, scores], axis=-1)


def predictions_of(scores, labels, model="softmax"):
    """A frame of predictions from scores [repeats, customers, classes] in five folds."""
    repeats, customers, classes = scores.shape
    keys = {"model": model, "fold": np.arange(customers) % 5, "position": np.arange(customers), "label": labels}
    frames = [
        pd.DataFrame(keys | {"seed": repeat} | {f"class_{i}": scores[repeat, :, i] for i in range(classes)})
        for repeat in range(repeats)
    ]
    return pd.concat(frames, ignore_index=True)


def drawn(classes, customers, repeats=1, seed=0):
    """Labels with every class, and noisy probabilities that know something of them, some of them tied."""
    generator = np.random.default_rng(seed)
    labels = np.arange(customers) % classes
    odds = generator.normal(size=(repeats, customers, classes)).round(1) + np.eye(classes)[labels]
    scores = np.exp(odds)
    return scores / scores.sum(-1, keepdims=True), labels


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_roc_auc_equals_the_librarys_ties_included(positive, negative):
    labels = np.array([1] * len(positive) + [0] * len(negative))
    scores = np.array(positive + negative) / 5
    expected = library.roc_auc_score(labels, scores)
    assert evaluate.value("roc_auc", two(scores)[None], labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_metric_equals_the_librarys(classes):
    scores, labels = drawn(classes, 60)
    own = {metric: evaluate.value(metric, scores, labels)[0] for metric in evaluate.METRICS}
    shown = scores[0, :, 1] if classes == 2 else scores[0]
    assert own == pytest.approx(
        {
            "roc_auc": library.roc_auc_score(labels, shown, multi_class="ovr", average="macro"),
            "accuracy": library.accuracy_score(labels, scores[0].argmax(1)),
            "log_loss": library.log_loss(labels, scores[0]),
        },
        abs=1e-12,
    )


@pytest.mark.parametrize("metric", list(evaluate.METRICS))
def test_a_weight_counts_a_customer_as_often(metric):
    scores, labels = drawn(3, 30)
    counts = np.random.default_rng(1).integers(0, 4, (1, 30)).astype(float)
    again = np.repeat(np.arange(30), counts[0].astype(int))
    weighted = evaluate.METRICS[metric](scores[0], labels, counts)
    assert weighted == pytest.approx(evaluate.value(metric, scores[:, again], labels[again]), abs=1e-12)


def test_resamples_draw_every_label_as_often_as_it_is():
    labels = np.repeat([0, 1, 2], [5, 9, 2])
    weights = np.concatenate(list(evaluate.resamples(labels, 0)))
    assert weights.shape == (evaluate.RESAMPLES, 16)
    for label in range(3):
        assert (weights[:, labels == label].sum(1) == (labels == label).sum()).all()
    # The mean of 2,000 draws of a customer out of five: variance 4/5, four standard errors.
    assert np.abs(weights[:, 0].mean() - 1) < 4 * np.sqrt(0.8 / evaluate.RESAMPLES)


def test_interval_has_the_width_of_delongs():
    """Standard error of a ROC-AUC by DeLong, DeLong and Clarke-Pearson (1988), pair by pair."""
    labels = np.repeat([0, 1], 400)
    scores = stats.norm.cdf(np.random.default_rng(1).normal(labels * 1.2))
    wins = scores[400:, None] > scores[:400]
    error = np.sqrt((wins.mean(1).var(ddof=1) + wins.mean(0).var(ddof=1)) / 400)
    _, low, high = evaluate.interval(two(scores)[None], labels, "roc_auc")
    # A quantile at 2.5 % of 2,000 draws has a standard error of sqrt(0.025 * 0.975 / 2000) / density = 0.06 standard
    # deviations, the width 0.08 / 3.92 = 2.1 % of itself: four of them.
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.085)
    assert low < stats.norm.cdf(1.2 / np.sqrt(2)) < high


def test_a_paired_interval_is_that_of_the_differences():
    """Of log-loss the difference is a mean of differences, whose error is known."""
    scores, labels = drawn(2, 400, repeats=2)
    mean, low, high = evaluate.interval(scores[:1], labels, "log_loss", minus=scores[1:])
    own = np.log(scores[:, np.arange(400), labels])
    differences = own[1] - own[0]
    error = np.sqrt(sum(differences[labels == label].var() * 200 for label in range(2))) / 400
    assert mean == pytest.approx(differences.mean())
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.085)


def family(scores, labels):
    """Predictions of one model for each row of scores [models, customers], named by number."""
    frames = [predictions_of(two(row)[None], labels, str(number)) for number, row in enumerate(scores)]
    return pd.concat(frames, ignore_index=True)


def test_a_model_does_not_differ_from_itself_where_both_have_repeats_and_a_scale_changes_nothing():
    scores, labels = drawn(2, 100, repeats=3)
    others = [predictions_of(scores[:1], labels, "gru"), predictions_of(scores / 2, labels, "halved")]
    found = evaluate.comparisons(
        pd.concat([predictions_of(scores, labels), *others]), [("softmax", "gru"), ("softmax", "halved")]
    )
    assert not found.to_numpy().any()


def test_intervals_hold_for_all_pairs_at_once(monkeypatch):
    """Eight models that know the same: no difference is true, and in 95 % of samples no interval shows one.

    Intervals that each hold alone would show one in about a quarter of the samples.
    """
    monkeypatch.setattr(evaluate, "RESAMPLES", evaluate.BATCH)
    generator, labels, pairs = np.random.default_rng(0), np.arange(120) % 2, [("0", str(i)) for i in range(1, 8)]
    kept = []
    for _ in range(40):
        shared = generator.normal(labels, 1, (1, 120))
        table = evaluate.comparisons(family(stats.norm.cdf(shared + generator.normal(size=(8, 120))), labels), pairs)
        kept.append(((table["low"] <= 0) & (table["high"] >= 0)).all())
    # Three standard errors of 40 samples; the bootstrap's own intervals are a little short with 60 of each class.
    assert np.mean(kept) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 40)


def test_a_customer_predicted_twice_or_not_at_all_is_refused():
    table = predictions_of(np.full((2, 10, 2), 0.5), np.arange(10) % 2)
    with pytest.raises(ValueError, match="duplicate"):
        evaluate.score_table(pd.concat([table, table.iloc[:1]]), "softmax")
    with pytest.raises(ValueError, match="missing"):
        evaluate.score_table(table.iloc[1:], "softmax")


def test_calibration_error_by_hand():
    probability = np.array([0.9, 0.1, 0.3, 0.7])
    correct = np.array([[True, False, True, True]])
    # Bins {0.1, 0.3} and {0.7, 0.9}: gaps |0.2 - 0.5| and |0.8 - 1|, half of the customers in each.
    assert evaluate.calibration_error(probability, correct, bins=2) == pytest.approx([0.25])


def test_true_probabilities_stay_below_the_limit_of_calibration_and_exaggerated_ones_do_not():
    generator = np.random.default_rng(0)
    below = []
    for _ in range(100):
        probability = generator.uniform(0.1, 0.9, 200)
        error, limit = evaluate.calibration(two(probability)[None], (generator.random(200) < probability) * 1, seed=1)
        below.append(error <= limit)
    # The limit is a 95 % quantile: four standard errors of 100 trials.
    assert abs(np.mean(below) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100)
    surer = two(np.arange(1000) % 2 * 0.8 + 0.1)[None]
    error, limit = evaluate.calibration(surer, generator.integers(0, 2, 1000), seed=1)
    assert error > 2 * limit


def test_calibration_of_more_classes_is_that_of_the_most_probable():
    scores = np.array([[[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]])
    # The first customer's class is the most probable one, the second's is not: each is a bin of its own.
    assert evaluate.calibration(scores, np.array([1, 2]), seed=0)[0] == pytest.approx((0.5 + 0.6) / 2)
