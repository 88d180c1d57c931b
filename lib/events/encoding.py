"""From verified events to encoded histories; no statistic of the data enters but the set of codes that occur."""

from pathlib import Path

import numpy as np

from lib.events.clock import DAY
from lib.events.dataset import Description
from lib.events.histories import UNKNOWN_HOUR, Histories
from lib.events.reading import Events, by_number, read_events, read_labels


def read(folder: Path, description: Description, checksum: str) -> Histories:
    """Verified, encoded histories of a folder. Raises DataError naming file, line, column, value and remedy."""
    events_path = folder / description.events
    events = read_events(events_path, description)
    labels, classes = read_labels(folder / description.labels, description, events.customers_seen, events_path.name)
    return encode(events, labels, description.class_names or classes, description, checksum)


def encode(
    events: Events, labels: dict[int | str, int], class_names: tuple[str, ...], description: Description, checksum: str
) -> Histories:
    """Arrays of verified events: customers in increasing id, events in time, in the file's order within a second.

    Categories: the codes; where days have dates the hour, when any event has one (24 at 00:00:00, which stands for an
    unknown time), and the weekday. Numbers: sign(x) log(1 + |x|) of the described ones, and log(1 + days) since the
    customer's previous event. The columns of `events` are used up.
    """
    found = summary(events, labels, description)
    customers = sorted(events.customers_seen)
    rank = np.empty(len(customers), np.int64)
    rank[[events.customers_seen[customer] for customer in customers]] = np.arange(len(customers))
    offsets = np.append(0, np.cumsum(np.bincount(rank[events.customer], minlength=len(customers))))
    order = time_order(rank[events.customer], events.seconds)
    seconds, events.seconds = events.seconds[order], np.empty(0)
    vocabularies, tables = zip(
        *(
            known_codes(seen, description.vocabularies and description.vocabularies[place])
            for place, seen in enumerate(events.codes_seen)
        ),
        strict=True,
    )
    context = time_context(seconds, events.clock.weekday)
    largest = max(UNKNOWN_HOUR, *map(len, vocabularies))
    categories = np.empty((len(order), len(tables) + len(context)), np.min_scalar_type(largest))
    for place, table in enumerate(tables):
        categories[:, place] = table.astype(categories.dtype)[events.codes.pop(0)][order]
        found[f"events_with_unknown_{description.categories[place]}"] = int((categories[:, place] == 0).sum())
    for place, values in enumerate(context.values(), len(tables)):
        categories[:, place] = values
    names = (*description.categories, *context)
    del context
    numbers = np.empty((len(order), len(description.numbers) + 1), np.float32)
    for place in range(len(description.numbers)):
        numbers[:, place] = events.numbers.pop(0)[order]
    del order
    numbers[:, -1] = np.diff(seconds, prepend=seconds[:1])
    numbers[offsets[:-1], -1] = 0
    numbers[:, -1] = np.log1p(numbers[:, -1] / DAY)
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
        quantities=(*description.numbers, "gap"),
        vocabularies=vocabularies,
    )


def time_order(rank: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The events' places when sorted by their customer's rank, then by time; equal ones stay in the file's order."""
    first = int(seconds.min())
    key = rank * (int(seconds.max()) - first + 1)
    key += seconds
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
    back = same & (events.seconds[1:] < events.seconds[:-1])
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
