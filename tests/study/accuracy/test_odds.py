import numpy as np
import pytest

from lib.data.histories import Histories
from study.accuracy import odds

NOTHING = np.zeros(0)


def histories_of(codes, labels, class_names, vocabulary):
    """One customer per list of codes."""
    lengths = [len(own) for own in codes]
    categories = np.concatenate(codes)[:, None].astype(np.uint8)
    offsets = np.append(0, np.cumsum(lengths))
    names = ("label", class_names, ("page",), (), (vocabulary,))
    customers = np.arange(len(codes))
    return Histories(customers, np.array(labels), offsets, categories, NOTHING, NOTHING, "", {}, *names)


TWO = histories_of([[1, 1, 2], [1], [2, 2], [2, 0], [1]], [1, 1, 0, 0, -1], ("no", "yes"), ("home", "cart"))


def test_odds_of_two_classes_by_hand():
    table = odds.code_odds(TWO, least_customers=1).set_index("code")
    # home: both of yes, none of no; cart: one of yes, both of no; half a customer is added to each cell.
    assert table.loc["home", "log_odds"] == pytest.approx(np.log(2.5 * 2.5 / (0.5 * 0.5)))
    assert table.loc["cart", "log_odds"] == pytest.approx(np.log(1.5 * 0.5 / (2.5 * 1.5)))
    assert table.loc["home", "error"] == pytest.approx(np.sqrt(1 / 2.5 + 1 / 2.5 + 1 / 0.5 + 1 / 0.5))
    assert set(table["class"]) == {"yes"}
    assert set(table["others"]) == {"no"}
    assert odds.code_odds(TWO, least_customers=3)["code"].tolist() == ["cart"]


def test_each_of_three_classes_has_its_ward(visits):
    table = odds.code_odds(visits, least_customers=12)
    assert sorted(set(table["class"])) == ["ill again", "left", "recovered"]
    most = table.loc[table.groupby("class")["log_odds"].idxmax()]
    assert most.set_index("class")["code"].to_dict() == {"recovered": "1000", "left": "1001", "ill again": "1002"}
    assert set(table["others"]) == {"the rest"}
