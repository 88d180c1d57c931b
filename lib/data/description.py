"""What a folder of labelled event sequences holds: its files, its columns, its classes.

A `dataset.yaml` in the folder says so; the bank's format is the same description, built in: `transactions.csv[.gz]`
with customer_id, tr_datetime ("DAY HH:MM:SS"), mcc_code, tr_type, amount, term_id, and `gender_train.csv` with
customer_id, gender (0 woman, 1 man).
"""

import csv
import dataclasses
import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from lib import paths

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
LISTS = ("categories", "numbers", "classes")
CHOICES = {
    "delimiter": (",", ";", "|", "\t", ":", " "),
    "decimal": (".", ","),
    "time_unit": ("days", "s", "ms", "us", "ns"),
}

EVENTS, LABELS = "transactions.csv", "gender_train.csv"
VOCABULARIES = {"mcc_code": "mcc_codes.csv", "tr_type": "tr_types.csv"}
BANK_TIMES = "DAY HH:MM:SS"
ROUBLE = 22.459157
"""Units of the file's amounts in one rouble."""


class DataError(ValueError):
    """Data that cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Description:
    """Files, columns and classes. Without `classes`, the label's values that occur are the classes.

    The last four are properties of built-in formats: names for the classes; the known codes, all integers like the
    customers (without them all are text, and known are the codes that occur); by what to divide the numbers; and a text
    column that is only counted and compared.
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
    noted: str | None = None

    def files(self, folder: Path) -> list[Path]:
        """What in the folder decides the result. Raises DataError for a file that is not there."""
        for key, name in (("events", self.events), ("labels", self.labels)):
            if not (folder / name).is_file():
                where = f"{folder / FILE}, key {key}" if (folder / FILE).exists() else str(folder)
                raise DataError(f"{where}: no file {name}; it should hold {', '.join(self.columns(key))}")
        written = [folder / FILE] if (folder / FILE).exists() else []
        return [*written, folder / self.events, folder / self.labels]

    def columns(self, key: str) -> list[str]:
        """Columns that are read of the file of `events` or of `labels`."""
        if key == "labels":
            return [self.customer, self.label, *([self.group] if self.group else [])]
        noted = [self.noted] if self.noted else []
        return [self.customer, self.time, *self.categories, *self.numbers, *noted]


def describe(folder: Path) -> Description:
    """The folder's own description where it has one, else the bank's. Raises DataError when it fits neither."""
    if (folder / FILE).exists():
        return read(folder / FILE)
    for name in (f"{EVENTS}.gz", EVENTS):
        if (folder / name).is_file():
            return dataclasses.replace(bank(), events=name)
    raise DataError(
        f"{folder}: no {EVENTS} or {EVENTS}.gz; put the transactions there, or name your own files in {FILE}"
    )


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
    description = Description(**{key: _value(path, key, content[key]) for key in content})
    _distinct(path, description)
    return description


def _value(path: Path, key: str, value: object) -> str | tuple[str, ...]:
    if key in CHOICES and value not in CHOICES[key]:
        raise DataError(f"{path}, key {key}: {value!r}; give {MEANING[key]}")
    if key not in LISTS:
        return _text(path, key, value)
    least = {"categories": 1, "classes": 2}.get(key, 0)
    if not isinstance(value, list) or len(value) < least:
        raise DataError(f"{path}, key {key}: {value!r}; give {MEANING[key]}")
    values = tuple(_text(path, key, part) for part in value)
    twice = [part for part in values if values.count(part) > 1]
    if twice:
        raise DataError(f"{path}, key {key}: {twice[0]!r} is named twice; name it once")
    return values


def _text(path: Path, key: str, value: object) -> str:
    """YAML reads `no` and `2024-01-01` as something else than text; whole numbers are meant as they are written."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{path}, key {key}: {value!r} is not text; write a name, in quotes where YAML reads another")
    return str(value)


def _distinct(path: Path, description: Description) -> None:
    for keys in (("customer", "time", "categories", "numbers"), ("customer", "label", "group")):
        used: dict[str, str] = {}
        for key in keys:
            value = getattr(description, key) or ()
            for column in (value,) if isinstance(value, str) else value:
                if column in used:
                    raise DataError(f"{path}, key {key}: {column!r} is also under {used[column]}; use a column once")
                used[column] = key


def bank() -> Description:
    """The bank's format."""
    return Description(
        events=EVENTS,
        labels=LABELS,
        customer="customer_id",
        time="tr_datetime",
        label="gender",
        categories=tuple(VOCABULARIES),
        numbers=("amount",),
        classes=("0", "1"),
        time_unit=BANK_TIMES,
        class_names=("woman", "man"),
        vocabularies=tuple(vocabulary(column) for column in VOCABULARIES),
        units=(ROUBLE,),
        noted="term_id",
    )


def vocabulary(column: str) -> tuple[int, ...]:
    """Known codes of a column in increasing order: fixed by the bank's published tables, never by the data at hand."""
    return tuple(sorted(_published(column)))


def code_names(column: str) -> dict[int, str]:
    """What the codes of a column stand for, in English where there is a translation; a few have no description."""
    return {code: name for code, name in _published(column).items() if name}


@cache
def _published(column: str) -> dict[int, str]:
    with open(paths.FACTS / VOCABULARIES[column], encoding="utf-8", newline="") as stream:
        return {int(row[column]): row["english"] or row["description"] for row in csv.DictReader(stream)}
