import pandas as pd
import pytest

from study.accuracy import search

SETTINGS = {"learning_rate": search.RECIPE["learning_rate"], "dropout": search.RECIPE["dropout"]}
TRIED = [SETTINGS, {"learning_rate": 0.001, "dropout": 0.1}]


@pytest.fixture
def rows():
    """Softmax: all pairs rightly ranked by the recipe, half by the other; the Performer: three quarters and all."""
    values = [
        (1.0, 0.0, 0.0),
        (0.5, 0.5, 0.1),
        (0.75, 0.25, 0.1),
        (1.0, 0.0, 0.0),
        (0.875, 0.0, 0.0),
        (0.75, 0.125, 0.1),
    ]
    table = pd.DataFrame(values, columns=["roc_auc", "behind_best", "behind_best_error"])
    names = [name for name in ("softmax", "performer", "mean") for _ in TRIED]
    return table.join(pd.DataFrame(TRIED * 3)).assign(mechanism=names, trial=[0, 1] * 3)


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
