"""From rows to encoded histories, and the files from which they are mapped into memory.

No statistic of the data enters but the set of codes that occur. What reading saw is what encoding needs, so both are
here and the module is longer than others.
"""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lib.data.description import DAY, SECOND, Clock, DataError, Description
from lib.data.reading import clock_of, table
from lib.storage import atomic_folder

CONTEXT = {"hour": 25, "weekday": 7}  # sizes of the categories that are made of an event's time, in their order
UNKNOWN_HOUR = 24
MOST_CLASSES = 100
FEWEST_TO_TRAIN = 5  # of each class in a training part: the references choose their penalty in five folds of it


@dataclass(frozen=True)
class Histories:
    """Encoded events of many customers, end to end; customer i owns events offsets[i] to offsets[i + 1].

    `kinds` name the columns of `categories`: codes of the data, 0 for unknown and p for the p-th of their vocabulary,
    then context; `quantities` those of `numbers`. Labels, places among `class_names`, tell the `task`; `groups` are
    None where each customer stands alone; of both -1 is none. Checksums are of the files and of the code.
    """

    customers: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    categories: np.ndarray
    numbers: np.ndarray
    days: np.ndarray
    checksum: str
    found: dict[str, int]
    task: str
    class_names: tuple[str, ...]
    kinds: tuple[str, ...]
    quantities: tuple[str, ...]
    vocabularies: tuple[tuple[int | str, ...], ...]
    groups: np.ndarray | None = None
    encoded_by: str = ""

    @property
    def lengths(self) -> np.ndarray:
        """Events per customer."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> np.ndarray:
        """Which customer each event belongs to."""
        return np.repeat(np.arange(len(self.customers)), self.lengths)

    @property
    def labelled(self) -> np.ndarray:
        """Positions of the customers with a label."""
        return np.flatnonzero(self.labels >= 0)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def code_kinds(self) -> int:
        """How many of the categories are codes of the data; the others are context."""
        return len(self.vocabularies)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of every category, unknown included."""
        codes = [len(vocabulary) + 1 for vocabulary in self.vocabularies]
        return (*codes, *(CONTEXT[name] for name in self.kinds[len(codes) :]))


class Events(NamedTuple):
    """Columns of all events in the file's order; customers and codes as places in the dictionary of what was seen."""

    customer: np.ndarray
    seconds: np.ndarray
    instants: np.ndarray
    codes: list[np.ndarray]
    numbers: list[np.ndarray]
    customers_seen: dict[int | str, int]
    codes_seen: list[dict[int | str | None, int]]
    clock: Clock


class Labels(NamedTuple):
    """The classes' values, the place among them and the group of every labelled customer, how many had no events."""

    classes: tuple[str, ...]
    places: dict[int | str, int]
    groups: dict[int | str, str]
    without_events: int


def read(folder: Path, description: Description, checksum: str = "") -> Histories:
    """Verified, encoded histories of a folder. Raises DataError naming file, line, column, value and remedy."""
    events = read_events(folder, description)
    return encode(events, read_labels(folder, description, events.customers_seen), description, checksum)


def read_events(folder: Path, description: Description) -> Events:
    """The described columns of the file of events."""
    file = table(folder, description, "events")
    clock = description.clock or clock_of(file, description.time, description.time_unit)
    code = pa.string() if description.vocabularies is None else pa.int64()
    types = {description.customer: code, description.time: clock.kind} | dict.fromkeys(description.categories, code)
    types |= dict.fromkeys(description.numbers, pa.float64())
    optional = () if description.vocabularies else (*description.categories, *description.numbers)
    coded = (description.customer, *description.categories)
    seen: list[dict] = [{} for _ in coded]
    units = description.units or (1.0,) * len(description.numbers)
    buffers = [bytearray() for _ in range(1 + len(types))]  # they grow in place, and are given back whole
    for row, batch in file.batches(types, optional):
        local, instants, valid = clock.read(batch[description.time])
        file.check(description.time, batch[description.time], valid, row, clock.remedy)
        customer, *codes = (_numbered(batch[name], known) for name, known in zip(coded, seen, strict=True))
        numbers = [batch[name].to_numpy(False) for name in description.numbers]
        for name, values in zip(description.numbers, numbers, strict=True):
            right = np.isfinite(values) | batch[name].is_null().to_numpy(False)
            file.check(name, batch[name], right, row, "give a finite number, or none where it is missing")
        logs = [signed_log(values / unit) for values, unit in zip(numbers, units, strict=True)]
        columns = [customer, local // SECOND, instants, *codes, *logs]
        for buffer, column in zip(buffers, columns, strict=True):
            buffer += column.tobytes()
    pa.default_memory_pool().release_unused()
    customer, seconds, instants, *others = map(np.frombuffer, buffers, [column.dtype for column in columns])
    codes, numbers = others[: len(description.categories)], others[len(description.categories) :]
    return Events(customer, seconds, instants, codes, numbers, seen[0], seen[1:], clock)


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|): spreads amounts of any magnitude, in either direction; NaN stays for a missing one."""
    return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def read_labels(folder: Path, description: Description, customers: Collection[int | str]) -> Labels:
    """Class and group of every labelled customer with events; the classes are by default the labels that occur."""
    file = table(folder, description, "labels")
    types = dict.fromkeys(description.columns("labels"), pa.string())
    types |= {description.customer: pa.string() if description.vocabularies is None else pa.int64()}
    rows = []
    for _, batch in file.batches(types):
        rows += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    known = [(number, *row) for number, row in enumerate(rows) if row[0] in customers]
    if not known:
        raise DataError(
            f"{file.path}, column {description.customer}: no customer here has events: {rows[0][0]!r} is not "
            f"{next(iter(customers))!r} in {description.events}; write customers alike in both files"
        )
    occurring = {label for _, _, label, *_ in known}
    classes = description.classes or tuple(sorted(occurring))
    at = f"{file.path}, column {description.label}"
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{at}: {len(classes)} different labels; give at most {MOST_CLASSES} classes")
    place, labels, groups = {label: number for number, label in enumerate(classes)}, {}, {}
    for number, customer, label, *group in known:
        fault = None
        if label not in place:
            fault = f"column {description.label}: {label}; use {' or '.join(classes)}"
        elif labels.setdefault(customer, place[label]) != place[label]:
            fault = f"column {description.label}: customer {customer} has two labels; keep one"
        elif group and groups.setdefault(customer, group[0]) != group[0]:
            fault = f"column {description.group}: customer {customer} is in two groups; keep one"
        if fault:
            raise DataError(f"{file.path}, {file.where(number)}, {fault}")
    if len(occurring) < max(2, len(classes)):
        there = ", ".join(sorted(occurring))
        raise DataError(f"{at}: only {there} occurs; two classes are needed, and every one of the described")
    return Labels(classes, labels, groups, len(rows) - len(known))


def encode(events: Events, labels: Labels, description: Description, checksum: str) -> Histories:
    """Arrays of verified events: customers in increasing id, events in time, in the file's order where it is the same.

    Categories: the codes; where days have dates the hour, when any event has one (24 at 00:00:00, an unknown time), and
    the weekday, both as written. Numbers: sign(x) log(1 + |x|) of the described ones, and log(1 + days) since the
    customer's previous event; a missing one is 0, and 1 in a column that says so.
    """
    found = summary(events, labels, description)
    customers = sorted(events.customers_seen)
    rank = np.empty(len(customers), np.int64)
    rank[[events.customers_seen[customer] for customer in customers]] = np.arange(len(customers))
    offsets = np.append(0, np.cumsum(np.bincount(rank[events.customer])))
    order = time_order(rank[events.customer], events.instants)
    seconds = events.instants[order] // SECOND
    known = description.vocabularies or (None,) * len(description.categories)
    vocabularies, tables = zip(*map(known_codes, events.codes_seen, known), strict=True)
    kind = np.min_scalar_type(max(UNKNOWN_HOUR, *map(len, vocabularies)))
    codes = [places.astype(kind)[column[order]] for places, column in zip(tables, events.codes, strict=True)]
    context = time_context(events.seconds[order], events.clock.weekday)
    categories = np.stack([*codes, *context.values()], axis=1, dtype=kind)
    values = [column[order] for column in events.numbers]
    missing = {name: np.isnan(column) for name, column in zip(description.numbers, values, strict=True)}
    missing = {name: column for name, column in missing.items() if column.any()}
    gap = np.diff(seconds, prepend=seconds[:1]).astype(np.float32)
    gap[offsets[:-1]] = 0
    numbers = [*map(np.nan_to_num, values), np.log1p(gap / DAY), *missing.values()]
    numbers = np.stack(numbers, axis=1, dtype=np.float32, casting="unsafe")
    for name, column in zip(description.categories, codes, strict=True):
        found[f"events_with_unknown_{name}"] = int((column == 0).sum())
    found |= {f"events_without_{name}": int(column.sum()) for name, column in missing.items()}
    group_of = {name: number for number, name in enumerate(sorted(set(labels.groups.values())))}
    groups = np.array([group_of.get(labels.groups.get(customer), -1) for customer in customers])
    return Histories(
        customers=np.array(customers),
        labels=np.array([labels.places.get(customer, -1) for customer in customers], np.int8),
        offsets=offsets,
        categories=categories,
        numbers=numbers,
        days=seconds / DAY,
        checksum=checksum,
        found=found,
        task=description.label,
        class_names=description.class_names or labels.classes,
        kinds=(*description.categories, *context),
        quantities=(*description.numbers, "gap", *(f"no {name}" for name in missing)),
        vocabularies=vocabularies,
        groups=groups if group_of else None,
    )


def time_order(rank: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The events' places when sorted by their customer's rank, then by time; equal ones stay in the file's order."""
    times = times - times.min()
    times //= max(1, np.gcd.reduce(times))  # small numbers where times are whole seconds
    span = int(times.max()) + 1
    if span * (int(rank.max()) + 1) >= 2**62:
        return np.lexsort((times, rank))
    return np.argsort(rank * span + times, kind="stable")  # twice as fast


def time_context(seconds: np.ndarray, weekday: int | None) -> dict[str, np.ndarray]:
    """Hour and weekday of times whose day 0 is the given weekday; nothing where days have none."""
    if weekday is None:
        return {}
    days = {"weekday": ((seconds // DAY + weekday) % 7).astype(np.uint8)}
    second = (seconds % DAY).astype(np.int32)
    if not second.any():
        return days
    return {"hour": np.where(second == 0, UNKNOWN_HOUR, second // 3600).astype(np.uint8)} | days


def known_codes(seen: dict, vocabulary: tuple[int, ...] | None) -> tuple[tuple[int | str, ...], np.ndarray]:
    """A column's vocabulary, by default the sorted values seen, and for each value seen its place in it, 0 for none.

    No label enters, so nothing leaks; training never moves the embedding of a code that only test customers have.
    """
    if vocabulary is None:
        vocabulary = tuple(sorted(seen.keys() - {None}))
    place = {value: number for number, value in enumerate(vocabulary, 1)}
    return vocabulary, np.array([place.get(value, 0) for value in seen])


def summary(events: Events, labels: Labels, description: Description) -> dict[str, int]:
    """What a reader should know about the files: sizes, and everything odd that was handled."""
    sizes = np.bincount(events.customer)
    back = (np.diff(events.customer) == 0) & (np.diff(events.instants) < 0)
    found = {
        "events": len(events.customer),
        "customers": len(sizes),
        "labelled": len(labels.places),
        "last_day": int(events.seconds.max() // DAY),
        "longest_history": int(sizes.max()),
        "shortest_history": int(sizes.min()),
        "events_out_of_order": int(back.sum()),
        "customers_without_label": len(sizes) - len(labels.places),
    }
    for name, seen in zip(description.categories, events.codes_seen, strict=True):
        found[f"distinct_{name}"] = len(seen.keys() - {None})
    if events.clock.weekday is not None:
        found["events_at_unknown_midnight"] = int((events.seconds % DAY == 0).sum())
    if labels.without_events:
        found["labels_without_events"] = labels.without_events
    return found


def check_folds(histories: Histories, count: int) -> None:
    """Raise DataError when a class has too few customers for the folds, or for choosing a penalty within one."""
    smallest = np.bincount(histories.labels[histories.labelled], minlength=histories.classes).min()
    needed = max(count, math.ceil(FEWEST_TO_TRAIN * count / (count - 1)))
    if smallest < needed:
        raise DataError(
            f"the rarest label has {smallest} customers, {count} folds need {needed}; label more customers of it "
            f"({label_counts(histories)})"
        )


def label_counts(histories: Histories) -> str:
    """Every label, quoted so that spaces are seen, with its customers."""
    counts = np.bincount(histories.labels[histories.labelled], minlength=histories.classes)
    return ", ".join(f"{name!r} {count:,}" for name, count in zip(histories.class_names, counts, strict=True))


def save(histories: Histories, folder: Path) -> None:
    """Every array as a file, the rest as a note; the folder appears complete, with checksums, or not at all."""
    with atomic_folder(folder) as partial:
        note = {}
        for name, value in vars(histories).items():
            if isinstance(value, np.ndarray):
                np.save(partial / f"{name}.npy", value)
            else:
                note[name] = value
        (partial / "note.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Histories:
    """The histories that `save` wrote, mapped, not copied: their arrays are read-only."""
    note = json.loads((folder / "note.json").read_text(encoding="utf-8"))
    note |= {name: tuple(note[name]) for name in ("class_names", "kinds", "quantities")}
    note["vocabularies"] = tuple(map(tuple, note["vocabularies"]))
    arrays = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in sorted(folder.glob("*.npy"))}
    return Histories(**(note | arrays))


def _numbered(column: pa.Array, seen: dict) -> np.ndarray:
    """Places of the values among those seen so far, to which new ones are added."""
    encoded = column.dictionary_encode(null_encoding="encode")
    places = [seen.setdefault(value, len(seen)) for value in encoded.dictionary.to_pylist()]
    return np.array(places, np.int32)[encoded.indices.to_numpy()]
