import numpy as np
import pandas as pd
import pytest

from study.accuracy import kept
from study.tasks import memory_task


@pytest.fixture(scope="module")
def task():
    return memory_task.task([2, 40], 50, seed=3)


def test_the_label_follows_from_the_orders(task):
    histories, distance = task
    early, late = np.divmod(memory_task.orders(histories), 2)
    assert (early ^ late == histories.labels).all()
    # Orders are drawn with one half: four standard errors of 100 customers.
    assert abs(early.mean() - 0.5) < 4 * 0.5 / 10
    assert np.bincount(distance)[[2, 40]].tolist() == [50, 50]


def test_joined_histories_keep_their_customers(task):
    histories, distance = task
    assert len(histories.customers) == 100
    assert histories.offsets[-1] == len(histories.days) == len(histories.categories)
    # Distance, two couples' second events, and at most 16 events before and after.
    lengths = histories.lengths
    assert ((lengths >= distance + 2) & (lengths <= distance + 34)).all()


def test_accuracy_is_counted_on_unseen_customers(tmp_path, monkeypatch):
    def oracle(histories, learners, others, *arguments):
        """Knows the early couple, never the late one."""
        assert not set(learners) & set(others)
        return np.eye(4)[2 * (histories.labels[others] // 2)]

    monkeypatch.setattr(kept, "probabilities", oracle)
    rows = memory_task.accuracy_by_distance({"softmax": memory_task.MODEL}, [2, 40], 50, 1, 0)
    early = rows[rows["metric"] == "early_couple"]
    assert early["value"].tolist() == [1, 1]
    assert (rows.loc[rows["metric"] == "label", "value"] < 1).all()
    assert memory_task.reach(early).to_dict() == {"softmax": 40}


def test_reach_ends_at_the_first_gap():
    rows = pd.DataFrame({"model": "a", "x": [4, 8, 16, 32], "low": [0.6, 0.7, 0.4, 0.9]})
    assert memory_task.reach(rows)["a"] == 8
    assert memory_task.reach(rows.assign(low=0.5))["a"] == 0
