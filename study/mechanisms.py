"""Which mechanisms the study compares: its own three, and the user's. Nothing here imports torch.

The user's are named as `lib.attention.mechanism.load_mechanism` loads them: under `mechanisms:` of a profile of
study.yaml, and in the variable STUDY_MECHANISMS, a JSON list that run_all.sh sets from --mechanism.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from lib import paths

THREE = ("softmax", "performer", "infinite_former")


def words(name: str) -> list[str]:
    """The words of a class's name: "LinearAttention" has two."""
    return re.findall(r"[A-Z0-9]+(?![a-z])|[A-Z]?[a-z0-9]+|[^\W_]+", name)


def chosen(profile: str, given: str) -> list[str]:
    """Names of the user's mechanisms: those that the profile lists, their places made absolute, and a JSON list."""
    listed = yaml.safe_load((paths.ROOT / "study.yaml").read_text("utf-8"))[profile].get("mechanisms") or []
    split = [name.rpartition(":") for name in listed]
    absolute = [f"{Path(paths.ROOT, place).resolve()}:{kind}" for place, _, kind in split]
    return list(dict.fromkeys([*absolute, *json.loads(given)]))


def named(names: Sequence[str]) -> dict[str, str]:
    """The mechanisms by the name that tables give them. Raises ValueError where two have the same."""
    found: dict[str, str] = {}
    for name in names:
        model = "_".join(words(name.rpartition(":")[2])).lower()
        if model in found or model in THREE:
            raise ValueError(f"{name}: there is another mechanism called {model}; rename the class")
        found[model] = name
    return found


OWN = named(chosen(os.environ.get("STUDY_PROFILE", "default"), os.environ.get("STUDY_MECHANISMS", "[]")))
"""The user's: what tables call them, and how they are loaded."""
MECHANISMS = (*THREE, *OWN)


def of_each(names: Sequence[str]) -> list[str]:
    """The networks, where "each_plain" stands for the plain networks of all mechanisms."""
    split = [(name, name.removeprefix("each_")) for name in names]
    return [full for name, rest in split for full in ([name] if name == rest else [f"{m}_{rest}" for m in MECHANISMS])]


def label(kind: type) -> str:
    """What tables and figures call a mechanism's class: its own label, or the words of its name."""
    return kind.label or " ".join(word if word.isupper() else word.lower() for word in words(kind.__name__))
