"""Words and signs for readers where the code and its rows have names and formatted numbers."""

import re

WORDS = {  # of names that need more than spaces
    "detectable": "detectable difference",
    "event_us": "time of a late event, µs",
    "log_loss": "log-loss, nats",
    "memory_gib": "memory, GiB",
    "resident_rise_mib": "rise of resident memory, MiB",
    "state_kib": "carried on, KiB",
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
    """A name in words: its own, or its parts with spaces between them."""
    text = re.sub(r"^features_for_(.+)", r"features for an error of \1 %", str(name))
    return WORDS.get(text) or text.replace("roc_auc", "ROC-AUC").replace("_", " ")
