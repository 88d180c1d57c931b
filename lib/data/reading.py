"""From files of rows to verified events and labels.

Events are kept as small integers from here on, so that the memory needed is a small multiple of the result.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lib.data.clock import Clock, clock_of
from lib.data.description import DataError, Description
from lib.data.tables import table

MOST_CLASSES = 100
MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: spreads the bits of small numbers."""


@dataclass
class Events:
    """Columns of all events in the file's order; customers and codes as places in their dictionary of what was seen.

    Columns are taken out as they are encoded, so that memory is freed on the way.
    """

    customer: np.ndarray
    seconds: np.ndarray
    later: np.ndarray
    digest: np.ndarray
    codes: list[np.ndarray]
    numbers: list[np.ndarray]
    customers_seen: dict
    codes_seen: list[dict]
    clock: Clock
    odd: dict[str, int]

    def instants(self) -> tuple[np.ndarray, int]:
        """When the events were, in parts of a second, and the parts; the seconds themselves where no time says more."""
        if not self.later.any():
            return self.seconds, 1
        return self.seconds * self.clock.parts + self.later, self.clock.parts


def read_events(folder: Path, description: Description) -> Events:
    """The described columns of the file. Raises DataError naming file, line, column, value and remedy."""
    file = table(folder, description, "events")
    clock = clock_of(file, description.time, description.time_unit)
    types, optional = column_types(description, clock)
    seen: list[dict] = [{} for _ in (description.customer, *description.categories)]
    units = description.units or (1.0,) * len(description.numbers)
    columns: list[np.ndarray] = []
    rows, sixty, unnoted = 0, 0, 0
    for rows, batch in file.batches(types, optional):
        seconds, later, leap, valid = clock.read(batch[description.time])
        file.check(description.time, batch[description.time], ~valid, rows, clock.remedy)
        customer, *codes = (
            _numbered(batch[name], known)
            for name, known in zip((description.customer, *description.categories), seen, strict=True)
        )
        numbers = [batch[name].to_numpy(False) for name in description.numbers]
        for name, values in zip(description.numbers, numbers, strict=True):
            wrong = ~np.isfinite(values) & batch[name].is_valid().to_numpy(False)
            file.check(name, batch[name], wrong, rows, "give a finite number, or none where it is missing")
        compared = [customer, seconds, later, leap, *codes, *(values.view(np.int64) for values in numbers)]
        if description.noted:
            compared.append(_hashed(batch[description.noted]))
            unnoted += batch[description.noted].null_count
        sixty += int(leap.sum())
        logs = [signed_log(values / unit) for values, unit in zip(numbers, units, strict=True)]
        later = later.astype(np.min_scalar_type(-1 - np.abs(later).max(initial=0)))
        read = [customer, seconds, later, row_digest(compared), *map(_small, codes), *logs]
        columns = columns or [values[:0] for values in read]
        columns = [_extended(column, rows, values) for column, values in zip(columns, read, strict=True)]
        rows += batch.num_rows
    if not rows:
        raise DataError(f"{file.path}: no rows; one event a row is expected")
    pa.default_memory_pool().release_unused()
    customer, seconds, later, digest, *others = (column[:rows] for column in columns)
    codes, numbers = others[: len(seen) - 1], others[len(seen) - 1 :]
    odd = {"events_at_second_60": sixty, f"events_without_{description.noted}": unnoted} if description.noted else {}
    return Events(customer, seconds, later, digest, codes, numbers, seen[0], seen[1:], clock, odd)


def column_types(description: Description, clock: Clock) -> tuple[dict[str, pa.DataType], tuple[str, ...]]:
    """Types of the columns to read, and those in which a cell may be empty."""
    code = pa.string() if description.vocabularies is None else pa.int64()
    types = {description.customer: code, description.time: clock.kind} | dict.fromkeys(description.categories, code)
    types |= dict.fromkeys(description.numbers, pa.float64())
    noted = (description.noted,) if description.noted else ()
    types |= dict.fromkeys(noted, pa.string())
    return types, noted if description.vocabularies else (*description.categories, *description.numbers)


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|): spreads amounts of any magnitude, in either direction; NaN stays for a missing one."""
    return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def row_digest(columns: list[np.ndarray]) -> np.ndarray:
    """64 bits that are the same in equal rows; in others with a probability of 2^-64, so practically never."""
    digest = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        digest ^= column.astype(np.uint64)
        digest *= MIXER
        digest ^= digest >> np.uint64(29)
    return digest


def read_labels(folder: Path, description: Description, events: Events) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """Class of every labelled customer, and the classes' values: those described, else those that occur, sorted.

    Labels of customers without events are counted and left out. Raises DataError where none is left, or where most of
    them belong to customers whose events are under another spelling.
    """
    kind = pa.string() if description.vocabularies is None else pa.int64()
    file = table(folder, description, "labels")
    path = file.path
    rows = [
        (batch[0][place].as_py(), str(batch[1][place]))
        for _, batch in file.batches({description.customer: kind, description.label: kind})
        for place in range(batch.num_rows)
    ]
    if not rows:
        raise DataError(f"{path}: no labelled customer; at least one per class and fold is needed")
    _same_customers(path, [customer for customer, _ in rows], events, description)
    occurring = {value for customer, value in rows if customer in events.customers_seen}
    classes = description.classes or tuple(sorted(occurring, key=by_number(occurring)))
    where = f"column {description.label}"
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{path}, {where}: {len(classes)} different labels; give at most {MOST_CLASSES} classes")
    place = {value: number for number, value in enumerate(classes)}
    labels: dict[int | str, int] = {}
    for row, (customer, value) in enumerate(rows):
        fault = None
        if customer not in events.customers_seen:
            continue
        if value not in place:
            fault = f"{value}; use {_choices(classes, description.class_names)}"
        elif labels.setdefault(customer, place[value]) != place[value]:
            fault = f"customer {customer} has two labels; keep one"
        if fault:
            raise DataError(f"{path}, {file.where(row)}, {where}: {fault}")
    if len(occurring) < max(2, len(classes)):
        there = ", ".join(sorted(occurring))
        raise DataError(f"{path}, {where}: only {there} occurs; two classes are needed, and every one of the described")
    return labels, classes


def _same_customers(path: Path, labelled: list[int | str], events: Events, description: Description) -> None:
    """Count the labels of customers without events, and refuse them where it is their spelling that differs."""
    lost = [customer for customer in labelled if customer not in events.customers_seen]
    if not lost:
        return
    events.odd["labels_without_events"] = len(lost)
    spelled = {_plain(customer): customer for customer in events.customers_seen}
    pairs = [(customer, spelled[_plain(customer)]) for customer in lost if _plain(customer) in spelled]
    if len(lost) == len(labelled) or len(pairs) > len(labelled) - len(lost):
        one, other = pairs[0] if pairs else (lost[0], next(iter(events.customers_seen)))
        raise DataError(
            f"{path}, column {description.customer}: {len(lost)} of {len(labelled)} labels have no events: "
            f"{one!r} here is not {other!r} in {description.events}; write customers alike in both files"
        )


def _plain(customer: int | str) -> str:
    """A customer's name without what programs lose or add: leading zeros, ".0", spaces, capitals."""
    return str(customer).strip().casefold().removesuffix(".0").lstrip("0")


def by_number(values: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    """Key that sorts whole numbers by their size, and anything else as text."""
    whole = all(re.fullmatch("-?[0-9]{1,18}", value) for value in values)
    return lambda value: (int(value) if whole else 0, value)


def _choices(classes: tuple[str, ...], names: tuple[str, ...]) -> str:
    return (
        " or ".join(f"{value} ({name})" for value, name in zip(classes, names, strict=True))
        if names
        else (" or ".join(classes))
    )


def _numbered(column: pa.Array, seen: dict) -> np.ndarray:
    """Places of the values among those seen so far, to which new ones are added."""
    encoded = column.dictionary_encode(null_encoding="encode")
    places = [seen.setdefault(value, len(seen)) for value in encoded.dictionary.to_pylist()]
    return np.array(places, np.int32)[encoded.indices.to_numpy()]


def _hashed(column: pa.Array) -> np.ndarray:
    encoded = column.dictionary_encode(null_encoding="encode")
    return np.array([hash(value) for value in encoded.dictionary.to_pylist()])[encoded.indices.to_numpy()]


def _small(places: np.ndarray) -> np.ndarray:
    return places.astype(np.min_scalar_type(places.max(initial=0)))


def _extended(column: np.ndarray, used: int, values: np.ndarray) -> np.ndarray:
    """The column with the values after its used part; it doubles when it is full, and widens when they need it."""
    rows, kind = used + len(values), np.promote_types(column.dtype, values.dtype)
    if rows > len(column) or kind != column.dtype:
        column, old = np.empty(max(rows, 2 * len(column)), kind), column
        column[:used] = old[:used]
    column[used:rows] = values
    return column
