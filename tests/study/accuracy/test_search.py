import numpy as np
import pandas as pd
import pytest

from study.accuracy import evaluate, search

LABELS = np.array([0, 0, 1, 1])
SETTINGS = {"learning_rate": search.RECIPE["learning_rate"], "dropout": search.RECIPE["dropout"]}
TRIED = [SETTINGS, {"learning_rate": 0.001, "dropout": 0.1}]


def scored(*second_class: float) -> dict:
    return {"probabilities": [[1 - each, each] for each in second_class], "diverged": 1, "cpu_seconds": 2.0}


@pytest.fixture
def rows():
    """Softmax: all pairs rightly ranked by the recipe, half by the other; the Performer: three quarters and all."""
    softmax = [scored(0.1, 0.2, 0.8, 0.9), scored(0.1, 0.9, 0.8, 0.2)]
    performer = [scored(0.1, 0.7, 0.6, 0.9), scored(0.1, 0.2, 0.8, 0.9)]
    return search.table({"softmax": softmax, "performer": performer}, LABELS, TRIED, 0)


def test_scores_and_what_is_behind_the_best_by_hand(rows):
    assert rows["mechanism"].tolist() == ["softmax"] * 2 + ["performer"] * 2 + ["mean"] * 2
    assert rows["roc_auc"].tolist() == [1, 0.5, 0.75, 1, 0.875, 0.75]
    assert rows["behind_best"].tolist() == [0, 0.5, 0.25, 0, 0, 0.125]
    assert rows.loc[[0, 3, 4], "behind_best_error"].tolist() == [0, 0, 0]
    assert rows["cpu_seconds"].tolist() == [2] * 6
    assert rows["diverged"].tolist() == [1] * 4 + [2] * 2


def test_the_error_is_that_of_the_paired_difference(rows):
    best, other = (np.array([[[1 - p, p] for p in of]]) for of in ([0.1, 0.2, 0.8, 0.9], [0.1, 0.9, 0.8, 0.2]))
    _, low, high = evaluate.interval(best, LABELS, "roc_auc", minus=other, seed=0)
    assert rows.loc[1, "behind_best_error"] == pytest.approx((high - low) / 3.919928)


def test_of_one_mechanism_there_is_no_mean():
    rows = search.table({"softmax": [scored(0.1, 0.2, 0.8, 0.9)] * 2}, LABELS, TRIED, 0)
    assert set(rows["mechanism"]) == {"softmax"}
    assert search.best(rows)["softmax"].tolist() == [1, 1]


def test_readers_see_the_best_by_the_mean_and_the_studys_recipe(rows):
    assert search.best(rows, 1).index.tolist() == ["0, the study's"]
    other = rows.assign(roc_auc=1 - rows["roc_auc"])
    shown = search.best(other, 1)
    assert shown.index.tolist() == ["1", "0, the study's"]
    assert shown[["softmax", "performer", "mean"]].loc["1"].tolist() == [0.5, 0, 0.25]


def test_each_mechanism_has_its_own_best_and_what_the_recipe_lacks_to_it(rows):
    own = search.own_best(rows)
    assert own["candidate"].to_dict() == {"softmax": 0, "performer": 1, "mean": 0}
    assert own["behind_best"].to_dict() == {"softmax": 0, "performer": 0.25, "mean": 0}
    assert own["shared_behind_best"].to_dict() == {"softmax": 0, "performer": 0.25, "mean": 0}
    other = rows.assign(roc_auc=1 - rows["roc_auc"])  # by the mean the second is best now
    assert search.own_best(other)["shared_behind_best"].to_dict() == {"softmax": 0.5, "performer": 0, "mean": 0.125}


def test_the_best_of_many_has_to_be_better_by_more():
    gain, error = pd.Series({"a": 2.2, "b": 3.5}), pd.Series({"a": 1.0, "b": 1.0})
    assert search.visible(gain, error, 1).tolist() == [True, True]
    assert search.visible(gain, error, 32).tolist() == [False, True]  # the threshold is 3.16


def test_a_recipe_that_changed_after_the_search_is_not_there(rows, monkeypatch):
    monkeypatch.setitem(search.RECIPE, "dropout", 0.25)
    assert not search.is_recipe(rows).any()
    assert search.own_best(rows)["behind_best"].isna().all()
    assert search.best(rows).index.tolist() == ["0", "1"]
