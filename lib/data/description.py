"""What a folder of labelled event sequences holds, as its `dataset.yaml` says: files, columns, classes."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import yaml

FILE = "dataset.yaml"
MEANING = {
    "events": "the file of events, for example events.csv, events.csv.gz or events.parquet",
    "labels": "the file of labels, for example labels.csv",
    "customer": "the column, in both files, that says whose event or label a row is",
    "time": "the column of an event's time",
    "label": "the column of the label",
    "categories": "a list of the columns that hold codes, at least one",
    "numbers": "a list of the columns that hold numbers",
    "classes": "a list of the label's values, at least two",
    "delimiter": "the character between columns: ',', ';', '|', or \"\\t\" in double quotes",
    "decimal": "the mark before a number's fraction, '.' or ','",
    "time_unit": "days, or s, ms, us or ns since 1970",
    "group": "the column of the labels' file that says which customers belong together",
}
OPTIONAL = ("numbers", "classes", "delimiter", "decimal", "time_unit", "group")
LEAST = {"categories": 1, "numbers": 0, "classes": 2}
"""The keys that are lists, and how much they hold at least."""
CHOICES = {
    "delimiter": (",", ";", "|", "\t", ":", " "),
    "decimal": (".", ","),
    "time_unit": ("days", "s", "ms", "us", "ns"),
}
DAY = 86_400
"""Seconds."""
LAST_DAY = 1_000_000
"""A column of seconds or milliseconds, where days are meant, lies beyond."""

Times = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Times as written, instants, and which are valid; numbers since day 0, or 1970. They differ by the zone's offset."""


class DataError(ValueError):
    """Data that cannot be used; the message says where and what to do."""


class Clock(NamedTuple):
    """How times are written: the column's type; how it is read, in `parts` of a second; what to do about a wrong one.

    `weekday` is that of day 0, if it has one (Monday is 0).
    """

    kind: pa.DataType
    parsed: Callable[[pa.Array], Times]
    remedy: str | Callable[[object], str]
    weekday: int | None = 3
    parts: int = 10**6

    def read(self, column: pa.Array) -> Times:
        """Times as written in whole seconds, instants in parts of a second, and which are valid."""
        local, instants, valid = self.parsed(column)
        seconds = local // self.parts
        return seconds, instants, valid & (np.abs(seconds) < LAST_DAY * DAY)


@dataclass(frozen=True)
class Description:
    """Files, columns and classes. Without `classes`, the label's values that occur are the classes.

    The last four are for formats that are described in Python: names for the classes; the known codes, all integers
    like the customers (without them all are text, and known are the codes that occur); by what to divide the numbers;
    and how times are written.
    """

    events: str
    labels: str
    customer: str
    time: str
    label: str
    categories: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    delimiter: str = ","
    decimal: str = "."
    time_unit: str | None = None
    group: str | None = None
    class_names: tuple[str, ...] = ()
    vocabularies: tuple[tuple[int, ...], ...] | None = None
    units: tuple[float, ...] = ()
    clock: Clock | None = None

    def files(self, folder: Path) -> list[Path]:
        """What in the folder decides the result. Raises DataError for a file that is not there."""
        written = [folder / FILE] if (folder / FILE).exists() else []
        for key, name in (("events", self.events), ("labels", self.labels)):
            if not (folder / name).is_file():
                where = f"{folder / FILE}, key {key}" if written else str(folder)
                raise DataError(f"{where}: no file {name}; it should hold {', '.join(self.columns(key))}")
        return [*written, folder / self.events, folder / self.labels]

    def columns(self, key: str) -> list[str]:
        """Columns that are read of the file of `events` or of `labels`."""
        if key == "labels":
            return [self.customer, self.label, *([self.group] if self.group else [])]
        return [self.customer, self.time, *self.categories, *self.numbers]


def read(path: Path) -> Description:
    """The description that a `dataset.yaml` holds. Raises DataError naming the key, the value and the remedy."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise DataError(f"{path}{line}: not YAML; write `key: value` lines in UTF-8") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no keys; it must name {', '.join(MEANING)}")
    for key in content:
        if key not in MEANING:
            close = difflib.get_close_matches(str(key), MEANING, 1) or [", ".join(MEANING)]
            raise DataError(f"{path}, key {key}: unknown key; known is {close[0]}")
    for key in MEANING:
        if key not in content and key not in OPTIONAL:
            raise DataError(f"{path}: no key {key}; add {MEANING[key]}")
    for key, value in content.items():
        try:
            content[key] = _value(key, value)
        except ValueError as error:
            raise DataError(f"{path}, key {key}: {error}") from error
    for keys in (("customer", "time", "categories", "numbers"), ("customer", "label", "group")):
        used: dict[str, str] = {}
        for key in keys:
            value = content.get(key, ())
            for column in (value,) if isinstance(value, str) else value:
                if used.setdefault(column, key) != key:
                    raise DataError(f"{path}, key {key}: {column!r} is also under {used[column]}; use a column once")
    return Description(**content)


def _value(key: str, value: object) -> str | tuple[str, ...]:
    """The value as text or texts. Raises ValueError saying what is wrong and what to write."""
    if key in LEAST:
        if not isinstance(value, list) or len(value) < LEAST[key]:
            raise ValueError(f"{value!r}; give {MEANING[key]}")
        texts = tuple(map(_text, value))
        twice = [text for text in texts if texts.count(text) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice; name it once")
        return texts
    if key in CHOICES and value not in CHOICES[key]:
        raise ValueError(f"{value!r}; give {MEANING[key]}")
    return _text(value)


def _text(value: object) -> str:
    """YAML reads `no` and `2024-01-01` as something else than text; whole numbers are meant as they are written."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{value!r} is not text; write a name, in quotes where YAML reads another")
    return str(value)
