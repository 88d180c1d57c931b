"""Names become words, and no code name is left in a table's header."""

from study.wording import WORDS, words

EXAMPLES = {
    "roc_auc_low": "ROC-AUC low",
    "features_for_10": "features for an error of 10 %",
    "peak_memory_mib": "peak memory, MiB",
    "within 8 MiB": "within 8 MiB",
    64: "64",
}


def test_names_become_words():
    assert {name: words(name) for name in EXAMPLES} == EXAMPLES
    assert not [said for said in WORDS.values() if "_" in said]
