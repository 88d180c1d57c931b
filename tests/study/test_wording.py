"""Names become words and numbers are printed in one way."""

from study.wording import WORDS, typeset, words

EXAMPLES = {"roc_auc_low": "ROC-AUC low", "features_for_10": "features for an error of 10 %", 64: "64"}


def test_names_become_words_and_numbers_are_printed_in_one_way():
    assert {name: words(name) for name in EXAMPLES} == EXAMPLES
    assert not [said for said in WORDS.values() if "_" in said]
    typed = "86.4% (-0.010 to +0.013), 95 %, -0.000, 2014-08-01"
    assert typeset(typed) == "86.4\u00a0% (−0.010 to +0.013), 95 %, 0.000, 2014-08-01"
