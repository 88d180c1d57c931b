import numpy as np
import pytest

from lib.data.histories import read
from study.bank import describe
from study.tasks import realism, synthetic


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    synthetic.generate(folder, 120, 0)
    return read(folder, describe(folder))


def test_recent_counts_are_of_the_last_events(histories):
    customers = np.array([3, 0, 9])
    for limit in (1, 7, 1000):
        table = realism.recent_counts(histories, customers, limit)
        for row, customer in zip(table, customers, strict=True):
            start, end = histories.offsets[customer], histories.offsets[customer + 1]
            recent = histories.categories[max(start, end - limit) : end]
            counts = [np.bincount(recent[:, kind], minlength=histories.cardinalities[kind]) for kind in range(2)]
            np.testing.assert_allclose(row, np.log1p(np.concatenate(counts)))


def test_groups_are_disjoint_of_one_size_and_drawn_by_the_seed(generated, monkeypatch):
    seen = []
    counted = realism.recent_counts
    monkeypatch.setattr(realism, "recent_counts", lambda h, c, limit: seen.append(c) or counted(h, c, limit))
    rows = realism.recent_scores(generated, "synthetic", [32], 30, 2, 0)
    assert rows["split"].tolist() == ["group 1", "group 2"]
    assert rows["value"].between(0, 1).all()
    assert len(np.unique(np.concatenate(seen))) == 60
    assert (generated.labels[np.concatenate(seen)] >= 0).all()
    assert len(realism.recent_scores(generated, "synthetic", [32], 50, 4, 0)) == len(generated.labelled) // 50


def test_a_code_that_only_one_class_uses_is_found(histories):
    counts, labels = np.zeros((40, 3)), np.arange(40) % 2
    counts[:, 0] = labels
    assert realism.bag_of_codes_score(counts, labels, 0) == 1
    assert realism.bag_of_codes_score(np.zeros((40, 3)), labels, 0) == pytest.approx(0.5)
