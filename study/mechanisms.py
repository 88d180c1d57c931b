"""Which mechanisms the study compares: its own three, and the user's.

The user's are named in the variable STUDY_MECHANISMS, a JSON list of what `lib.attention.mechanism.load_mechanism`
loads; run_all.sh sets it from --mechanism. Nothing here imports torch.
"""

import json
import os
import re
from collections.abc import Sequence

VARIABLE = "STUDY_MECHANISMS"
THREE = ("softmax", "performer", "infinite_former")


def words(name: str) -> list[str]:
    """The words of a class's name: "LinearAttention" has two."""
    return re.findall(r"[A-Z0-9]+(?![a-z])|[A-Z]?[a-z0-9]+|[^\W_]+", name)


def named(listed: str) -> dict[str, str]:
    """The mechanisms of a JSON list by the name that tables give them. Raises ValueError where two have the same."""
    found: dict[str, str] = {}
    for name in json.loads(listed):
        model = "_".join(words(name.rpartition(":")[2])).lower()
        if model in found or model in THREE:
            raise ValueError(f"{name}: there is another mechanism called {model}; rename the class")
        found[model] = name
    return found


OWN = named(os.environ.get(VARIABLE) or "[]")
"""The user's: what tables call them, and how they are loaded."""
MECHANISMS = (*THREE, *OWN)
"""All that are compared, as tables call them."""


def of_each(names: Sequence[str]) -> list[str]:
    """The networks, where "each_plain" stands for the plain networks of all mechanisms."""
    split = [(name, name.removeprefix("each_")) for name in names]
    return [full for name, rest in split for full in ([name] if name == rest else [f"{m}_{rest}" for m in MECHANISMS])]


def label(kind: type) -> str:
    """What tables and figures call a mechanism's class: its own label, or the words of its name."""
    return kind.label or " ".join(word if word.isupper() else word.lower() for word in words(kind.__name__))
