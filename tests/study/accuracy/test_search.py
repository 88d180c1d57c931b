import pandas as pd
import pytest

from study.accuracy import search

SETTINGS = {"learning_rate": search.RECIPE["learning_rate"], "dropout": search.RECIPE["dropout"]}
TRIED = [SETTINGS, {"learning_rate": 0.001, "dropout": 0.1}]


@pytest.fixture
def rows():
    """Softmax: ROC-AUC 1 by the recipe, half by the other; the Performer: three quarters and 1."""
    scores, lacks = [1.0, 0.5, 0.75, 1.0, 0.875, 0.75], [0.0, 0.5, 0.25, 0.0, 0.0, 0.125]
    table = pd.DataFrame({"roc_auc": scores, "behind_best": lacks, "behind_best_error": [0, 0.1, 0.1, 0, 0, 0.1]})
    names = [name for name in ("softmax", "performer", "mean") for _ in TRIED]
    return table.join(pd.DataFrame(TRIED * 3)).assign(mechanism=names, trial=[0, 1] * 3)


def test_each_mechanism_has_its_own_best_and_what_the_recipe_lacks_to_it(rows, monkeypatch):
    own = search.own_best(rows)
    assert own["roc_auc"].to_dict() == {"softmax": 1, "performer": 1, "mean": 0.875}
    assert own["behind_best"].to_dict() == {"softmax": 0, "performer": 0.25, "mean": 0}
    assert own["shared_behind_best"].to_dict() == {"softmax": 0, "performer": 0.25, "mean": 0}
    other = rows.assign(roc_auc=1 - rows["roc_auc"])  # by the mean the second is best now
    assert search.own_best(other)["shared_behind_best"].to_dict() == {"softmax": 0.5, "performer": 0, "mean": 0.125}
    monkeypatch.setitem(search.RECIPE, "dropout", 0.25)  # a recipe that changed after the search is not there
    assert search.own_best(rows)["behind_best"].isna().all()


def test_the_best_of_many_has_to_be_better_by_more():
    gain, error = pd.Series({"a": 2.2, "b": 3.5}), pd.Series({"a": 1.0, "b": 1.0})
    assert search.visible(gain, error, 1).tolist() == [True, True]
    assert search.visible(gain, error, 32).tolist() == [False, True]  # the threshold is 3.16


def test_data_on_which_settings_were_tried_are_known_by_their_checksum():
    tables = search.saved_tables()
    (checksum,) = tables["tuned_on"]["checksum"]
    scores = search.tried_on(checksum, tables)
    assert len(scores) > 20
    assert scores.between(0.7, 0.9).all()
    assert search.tried_on("another", tables).empty


def test_searches_count_networks_alone():
    tables = search.saved_tables()
    table = search.searches(tables)
    counted = table[table["searched"] == "what is counted"].set_index("customers")["networks"]
    networks = ~tables["counting"].iloc[:, 0].str.contains("regression|Bayes")
    assert counted["public sample"] == tables["counting"]["roc_auc_public_sample"][networks].notna().sum()
    assert (table["lowest_roc_auc"] <= table["highest_roc_auc"]).all()
