import pandas as pd

from study.accuracy import search


def test_the_best_for_all_is_best_by_the_mean_and_may_lack_something_to_a_mechanisms_own():
    scores, lacks = [1.0, 0.5, 0.75, 0.875, 0.875, 0.6875], [0.0, 0.5, 0.125, 0.0, 0.0, 0.1875]
    table = pd.DataFrame({"roc_auc": scores, "behind_best": lacks, "behind_best_error": 0.1, "trial": [0, 1] * 3})
    table["mechanism"] = [name for name in ("softmax", "performer", "mean") for _ in range(2)]
    assert search.best_for_all(table)["behind_best"].to_dict() == {"softmax": 0, "performer": 0.125}


def test_data_on_which_settings_were_tried_are_known_by_their_checksum():
    tables = search.saved_tables()
    (checksum,) = tables["tuned_on"]["checksum"]
    scores = search.tried_on(checksum, tables)
    assert len(scores) > 20
    assert scores.between(0.7, 0.9).all()
    assert search.tried_on("another", tables).empty
