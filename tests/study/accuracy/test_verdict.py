"""The comparison's answer from saved rows."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from study import report
from study.accuracy import verdict
from study.accuracy.comparison import column_rows

MECHANISMS = ["softmax", "performer", "infinite_former"]


def rows_of(scores: dict[str, float], reach: float = 0.03) -> pd.DataFrame:
    """Rows of a comparison with these ROC-AUC and intervals of this reach about every value and difference."""
    pairs = [("performer", "softmax"), ("infinite_former", "softmax"), ("infinite_former", "performer")]
    pairs += [(name, rival) for rival in scores if rival not in MECHANISMS for name in MECHANISMS]
    auc, gaps = pd.Series(scores), pd.Series({f"{a} − {b}": scores[a] - scores[b] for a, b in pairs})
    final = pd.DataFrame({"roc_auc": auc, "roc_auc_low": auc - reach, "roc_auc_high": auc + reach})
    differences = pd.DataFrame(
        {"difference": gaps, "low": gaps - reach, "high": gaps + reach, "detectable": 1.5 * reach}
    )
    tables = {"final": final, "difference": differences}
    return pd.concat([column_rows(table, axis, "08_comparison") for axis, table in tables.items()])


ALIKE = dict(zip(MECHANISMS, (0.864, 0.864, 0.861), strict=True)) | {"mean_pooling": 0.862, "count_regression": 0.87}
CASES = {
    "a tie": (
        ALIKE,
        [
            "All three reach ROC-AUC 0.86.",
            "So do the same network with attention removed (0.86) and a logistic regression on event counts (0.87).",
            "No difference between mechanisms is visible; one of 0.04 would be found in 80 % of cases.",
        ],
    ),
    "one is better, but not than counting": (
        ALIKE | {"performer": 0.92, "count_regression": 0.95},
        [
            "ROC-AUC is 0.86 with softmax, 0.92 with Performer and 0.86 with ∞-former.",
            "The same network with attention removed reaches 0.86, visibly less than Performer.",
            "A logistic regression on event counts reaches 0.95, visibly more than softmax and ∞-former.",
            "Performer beats ∞-former and Performer beats softmax, by more than chance explains.",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_sentences_say_what_the_rows_do(case):
    scores, sentences = CASES[case]
    rows = rows_of(scores)
    assert verdict.accuracy_sentences(verdict.verdict(rows)) == sentences
    assert verdict.verdict(rows[rows["axis"] == "final"]) is None


def test_the_published_rows_have_a_verdict_and_a_panel():
    rows = report.load_rows("quick")
    found = verdict.verdict(rows)
    assert found.mechanisms == MECHANISMS
    assert found.scores.notna().all().all()
    assert len(found.among) == 3
    fig, ax = plt.subplots()
    verdict.accuracy_panel(ax, rows)
    drawn = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert drawn[:3] == [report.MODEL_STYLE[name]["label"] for name in MECHANISMS]
    assert len(drawn) <= 6
    plt.close(fig)
