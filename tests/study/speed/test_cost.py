"""What training costs: at least what is known to be held, and what a fit holds exactly."""

import numpy as np
from sklearn.dummy import DummyClassifier

from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from study.speed import cost

SMALL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16)
RECIPE = TrainConfig(batch_size=24, max_events=64)


class HoldsWhileFitting(DummyClassifier):
    """Needs 64 MiB to fit, and keeps nothing."""

    def fit(self, table, labels):
        np.ones(64 * 2**20, np.uint8)
        return super().fit(table, labels)


def test_memory_of_a_fit_is_what_the_fit_needs():
    found = cost.fitting_cost(HoldsWhileFitting(), np.zeros((4, 1)), np.array([0, 1, 0, 1]))
    assert found["epoch_seconds"] > 0
    # Linux counts a process's pages in batches; the reading error is below 1 MiB on up to 64 cores of 4 KiB pages.
    assert abs(found["peak_memory_mib"] - 64) < 1


def test_training_cost_counts_all_that_a_step_holds(histories):
    found = cost.training_cost(histories, histories.labelled, SMALL, RECIPE)
    assert found["epoch_seconds"] > 0
    # At least the embedded events of the one batch, in single precision; all histories of the set have at most 60.
    assert found["peak_memory_mib"] * 2**20 > 24 * histories.lengths.max() / 2 * 16 * 4
