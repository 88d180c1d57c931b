"""What a folder of labelled event sequences holds, as its `dataset.yaml` says: files, columns, classes."""

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
LEAST = {"categories": 1, "numbers": 0, "classes": 2}  # the keys that are lists, and how much they hold at least
CHOICES = {"delimiter": [*",;|\t: "], "decimal": [".", ","], "time_unit": ["days", "s", "ms", "us", "ns"]}
DAY = 86_400  # seconds

Remedy = str | Callable[[object], str]
Times = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Times as written, instants (they differ by the zone's offset) and which are valid; since day 0, or 1970."""


class DataError(ValueError):
    """Data that cannot be used; the message says where and what to do."""


class Clock(NamedTuple):
    """How times are written: the column's type; how it is read, in `parts` of a second; a remedy for a wrong one."""

    kind: pa.DataType
    read: Callable[[pa.Array], Times]
    remedy: Remedy = ""
    weekday: int | None = 3  # of day 0, if it has one; Monday is 0
    parts: int = 10**9


@dataclass(frozen=True)
class Description:
    """Files, columns and classes, by default the label's values that occur. The last four are for formats in Python.

    They are names for the classes; the known codes, all integers like the customers (by default all are text, and known
    are the codes that occur); by what to divide the numbers; and how times are written.
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
        """Columns that are read of the `events` or of the `labels`."""
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
            raise DataError(f"{path}, key {key}: unknown key; known are {', '.join(MEANING)}")
    for key in MEANING:
        if key not in content and key not in OPTIONAL:
            raise DataError(f"{path}: no key {key}; add {MEANING[key]}")
    for key, value in content.items():
        texts = value if key in LEAST else [value]
        if not isinstance(texts, list) or len(texts) < LEAST.get(key, 1) or value not in CHOICES.get(key, [value]):
            raise DataError(f"{path}, key {key}: {value!r}; give {MEANING[key]}")
        for text in texts:
            # YAML reads `no` and `2024-01-01` as something else; whole numbers are meant as they are written.
            if isinstance(text, bool) or not isinstance(text, str | int) or text == "":
                remedy = "write a name, in quotes where YAML reads another"
                raise DataError(f"{path}, key {key}: {text!r} is not text; {remedy}")
        content[key] = tuple(map(str, value)) if key in LEAST else str(value)
    description = Description(**content)
    for columns in (description.columns("events"), description.columns("labels")):
        twice = [column for column in columns if columns.count(column) > 1]
        if twice:
            raise DataError(f"{path}: column {twice[0]!r} is named twice; use a column once")
    return description
