import numpy as np
import pytest

from study.accuracy import reliability


def scored(generator, probability):
    """Two classes, with labels drawn from the probabilities."""
    return np.stack([1 - probability, probability], axis=-1)[None], (
        generator.random(len(probability)) < probability
    ) * 1


def test_calibration_error_by_hand():
    probability = np.array([0.9, 0.1, 0.3, 0.7])
    correct = np.array([[True, False, True, True]])
    # Bins {0.1, 0.3} and {0.7, 0.9}: gaps |0.2 - 0.5| and |0.8 - 1|, half of the customers in each.
    assert reliability.calibration_error(probability, correct, bins=2) == pytest.approx([0.25])


def test_true_probabilities_stay_below_the_limit_and_exaggerated_ones_do_not():
    generator = np.random.default_rng(0)
    below = []
    for _ in range(100):
        scores, labels = scored(generator, generator.uniform(0.1, 0.9, 200))
        found = reliability.calibration(scores, labels, seed=1)
        below.append(found["calibration_error"] <= found["calibration_error_limit"])
    # The limit is a 95 % quantile: four standard errors of 100 trials.
    assert abs(np.mean(below) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100)
    scores, labels = scored(generator, np.full(1000, 0.5))
    surer = np.where(np.arange(1000)[:, None] % 2, [0.1, 0.9], [0.9, 0.1])[None]
    found = reliability.calibration(surer, labels, seed=1)
    assert found["calibration_error"] > 2 * found["calibration_error_limit"]


def test_more_classes_are_judged_by_the_most_probable():
    scores = np.array([[[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]])
    probability, correct = reliability.confidences(scores, np.array([1, 2]))
    assert probability.tolist() == [[0.5, 0.6]]
    assert correct.tolist() == [[True, False]]
