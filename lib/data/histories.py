"""From verified events to encoded histories, and the files from which they are mapped into memory.

No statistic of the data enters but the set of codes that occur.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lib.data.clock import DAY
from lib.data.description import Description, describe
from lib.data.reading import Events, by_number, read_events, read_labels
from lib.storage import atomic_folder

CONTEXT = {"hour": 25, "weekday": 7}
"""Sizes of the categories that are made of an event's time, in their order."""
UNKNOWN_HOUR = 24
NOTED = ("checksum", "found", "task", "class_names", "kinds", "quantities", "vocabularies")


@dataclass(frozen=True)
class Histories:
    """Encoded events of many customers, end to end; customer i owns events offsets[i] to offsets[i + 1].

    The columns of `categories` are named by `kinds`: first the codes of the data, 0 for unknown and p for the p-th of
    their vocabulary, then context. Those of `numbers` are named by `quantities`. Labels are positions among
    `class_names`, -1 for none; `task` is what they tell.
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

    @property
    def lengths(self) -> np.ndarray:
        """Events per customer."""
        return np.diff(self.offsets)

    @property
    def labelled(self) -> np.ndarray:
        """Positions of the customers with a label."""
        return np.flatnonzero(self.labels >= 0)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def code_kinds(self) -> int:
        """How many of the categories are codes of the data; the others are context."""
        return len(self.vocabularies)

    @property
    def context(self) -> dict[str, np.ndarray]:
        """The categories that are no codes, by name."""
        return dict(zip(self.kinds[self.code_kinds :], self.categories.T[self.code_kinds :], strict=True))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of every category, unknown included."""
        codes = [len(vocabulary) + 1 for vocabulary in self.vocabularies]
        return (*codes, *(CONTEXT[name] for name in self.kinds[len(codes) :]))


def read(folder: Path, checksum: str = "") -> Histories:
    """Verified, encoded histories of a folder. Raises DataError naming file, line, column, value and remedy."""
    description = describe(folder)
    events = read_events(folder, description)
    labels, classes = read_labels(folder, description, events)
    return encode(events, labels, description.class_names or classes, description, checksum)


def encode(
    events: Events, labels: dict[int | str, int], class_names: tuple[str, ...], description: Description, checksum: str
) -> Histories:
    """Arrays of verified events: customers in increasing id, events in time, in the file's order where it is the same.

    Categories: the codes; where days have dates the hour, when any event has one (24 at 00:00:00, which stands for an
    unknown time), and the weekday. Numbers: sign(x) log(1 + |x|) of the described ones, and log(1 + days) since the
    customer's previous event; a missing one is 0, and 1 in a column that says so, which only numbers with missing ones
    have. Hours and weekdays are those written, all else follows the instant. The columns of `events` are used up.
    """
    found = summary(events, labels, description)
    customers = sorted(events.customers_seen)
    rank = np.empty(len(customers), np.int64)
    rank[[events.customers_seen[customer] for customer in customers]] = np.arange(len(customers))
    offsets = np.append(0, np.cumsum(np.bincount(rank[events.customer], minlength=len(customers))))
    instants, parts = events.instants()
    order = time_order(rank[events.customer], instants)
    written, events.seconds, events.later = events.seconds[order], np.empty(0), np.empty(0)
    seconds = written if parts == 1 else instants[order] // parts
    del instants
    vocabularies, tables = zip(
        *(
            known_codes(seen, description.vocabularies and description.vocabularies[place])
            for place, seen in enumerate(events.codes_seen)
        ),
        strict=True,
    )
    context = time_context(written, events.clock.weekday)
    largest = max(UNKNOWN_HOUR, *map(len, vocabularies))
    categories = np.empty((len(order), len(tables) + len(context)), np.min_scalar_type(largest))
    for place, table in enumerate(tables):
        categories[:, place] = table.astype(categories.dtype)[events.codes.pop(0)][order]
        found[f"events_with_unknown_{description.categories[place]}"] = int((categories[:, place] == 0).sum())
    for place, values in enumerate(context.values(), len(tables)):
        categories[:, place] = values
    names = (*description.categories, *context)
    del context
    gap, gappy = len(description.numbers), [place for place, v in enumerate(events.numbers) if np.isnan(v).any()]
    numbers = np.empty((len(order), gap + 1 + len(gappy)), np.float32)
    for place, name in enumerate(description.numbers):
        numbers[:, place] = events.numbers.pop(0)[order]
        if place in gappy:
            missing = np.isnan(numbers[:, place])
            numbers[missing, place] = 0
            numbers[:, gap + 1 + gappy.index(place)] = missing
            found[f"events_without_{name}"] = int(missing.sum())
    del order
    numbers[:, gap] = np.diff(seconds, prepend=seconds[:1])
    numbers[offsets[:-1], gap] = 0
    numbers[:, gap] = np.log1p(numbers[:, gap] / DAY)
    return Histories(
        customers=np.array(customers),
        labels=np.array([labels.get(customer, -1) for customer in customers], np.int8),
        offsets=offsets,
        categories=categories,
        numbers=numbers,
        days=seconds / DAY,
        checksum=checksum,
        found=found,
        task=description.label,
        class_names=class_names,
        kinds=names,
        quantities=(*description.numbers, "gap", *(f"no {description.numbers[place]}" for place in gappy)),
        vocabularies=vocabularies,
    )


def time_order(rank: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The events' places when sorted by their customer's rank, then by time; equal ones stay in the file's order."""
    span = int(times.max()) - int(times.min()) + 1
    if span * (int(rank.max()) + 1) >= 2**62:
        return np.lexsort((times, rank))
    key = rank * span
    key += times
    return np.argsort(key, kind="stable")


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
    """A column's vocabulary, and for every value seen its place in it from 1, 0 where it is none of it.

    Without one given it is the sorted values seen in all events. Labels do not enter, so nothing of what is to be
    predicted leaks; a code that only test customers have gets a row of its own, which training never moves.
    """
    if vocabulary is None:
        values = [value for value in seen if value is not None]
        vocabulary = tuple(sorted(values, key=by_number(values)))
    place = {value: number for number, value in enumerate(vocabulary, 1)}
    return vocabulary, np.array([place.get(value, 0) for value in seen])


def summary(events: Events, labels: dict[int | str, int], description: Description) -> dict[str, int]:
    """What a reader should know about the file: sizes, and everything odd that was handled."""
    sizes = np.bincount(events.customer)
    same = events.customer[1:] == events.customer[:-1]
    instants, _ = events.instants()
    back = same & (instants[1:] < instants[:-1])
    events.digest.sort()
    codes = {
        f"distinct_{name}": len(seen.keys() - {None})
        for name, seen in zip(description.categories, events.codes_seen, strict=True)
    }
    found = {"events": len(events.customer), "customers": len(sizes), "labelled": len(labels)} | codes
    found |= {
        "first_day": int(events.seconds.min() // DAY),
        "last_day": int(events.seconds.max() // DAY),
        "longest_history": int(sizes.max()),
        "shortest_history": int(sizes.min()),
        "events_out_of_order": int(back.sum()),
        "duplicated_events": int((events.digest[1:] == events.digest[:-1]).sum()),
        "customers_without_label": len(sizes) - len(labels),
    }
    events.digest = np.empty(0)
    if events.clock.weekday is not None:
        found["events_at_unknown_midnight"] = int((events.seconds % DAY == 0).sum())
    return found | events.odd


def save(histories: Histories, folder: Path) -> None:
    """Write the arrays as two Arrow files and a note; the folder appears complete, with checksums, or not at all."""
    with atomic_folder(folder) as partial:
        events = {
            "categories": _rows(histories.categories),
            "numbers": _rows(histories.numbers),
            "day": pa.array(histories.days),
        }
        customers = {"customer": histories.customers, "label": histories.labels, "events": histories.lengths}
        _write(partial / "events.arrow", events)
        _write(partial / "customers.arrow", {name: pa.array(values) for name, values in customers.items()})
        note = {name: getattr(histories, name) for name in NOTED}
        (partial / "note.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Histories:
    """The histories that `save` wrote, mapped, not copied: their events are read-only."""
    note = json.loads((folder / "note.json").read_text(encoding="utf-8"))
    events, customers = _read(folder / "events.arrow"), _read(folder / "customers.arrow")
    ids = customers["customer"].to_numpy(zero_copy_only=False)
    tuples = {name: tuple(note[name]) for name in ("class_names", "kinds", "quantities")}
    return Histories(
        customers=ids if ids.dtype != object else ids.astype(str),
        labels=customers["label"].to_numpy(),
        offsets=np.append(0, np.cumsum(customers["events"].to_numpy())),
        categories=_matrix(events["categories"]),
        numbers=_matrix(events["numbers"]),
        days=events["day"].to_numpy(),
        **(note | tuples | {"vocabularies": tuple(map(tuple, note["vocabularies"]))}),
    )


def _rows(matrix: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _matrix(rows: pa.FixedSizeListArray) -> np.ndarray:
    return rows.flatten().to_numpy().reshape(len(rows), -1)


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    batch = pa.record_batch(columns)
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: Path) -> pa.RecordBatch:
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).get_batch(0)
