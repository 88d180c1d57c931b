"""Words and signs for readers where the code and its rows have names and formatted numbers."""

import re

WORDS = {
    "behind_best": "behind the best",
    "behind_best_error": "behind the best, standard error",
    "calibration_error_limit": "95 % quantile were they true",
    "detectable": "detectable difference",
    "event_us": "time of a late event, µs",
    "key_square": "squared length of keys",
    "log_loss": "log-loss, nats",
    "memory_gib": "memory, GiB",
    "peak_memory_mib": "peak memory, MiB",
    "query_square": "squared length of queries",
    "resident_rise_mib": "rise of resident memory, MiB",
    "state_kib": "carried on, KiB",
    "std": "standard deviation",
    "time_ms": "time, ms",
}
"""Names that need more than spaces."""
BEGINNINGS = {
    "features_for_": "features for an error of {} %",
    "sum_square_": "|x+y|², {} % quantile",
}


def typeset(sentence: str) -> str:
    """Formatted numbers as they are printed: 86 %, −0.5, and no sign before a zero."""
    sentence = re.sub(r"(?<=\d)%", " %", sentence)
    sentence = re.sub(r"(?<![\w.,–-])-(?=\d)", "−", sentence)
    return re.sub(r"[−+](?=0(\.0+)?(?![\d.]))", "", sentence)


def listed(parts: list[str]) -> str:
    """The parts as a sentence lists them."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def words(name: object) -> str:
    """A name in words: its own, or those of what it begins with, or its parts with spaces between them."""
    text = str(name)
    for start, sentence in BEGINNINGS.items():
        if text.startswith(start):
            return sentence.format(text.removeprefix(start))
    return WORDS.get(text) or text.replace("roc_auc", "ROC-AUC").replace("_", " ")
