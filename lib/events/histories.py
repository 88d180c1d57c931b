"""Encoded histories of many customers, and the file from which they are mapped into memory."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lib.storage import whole_folder

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


def save(histories: Histories, folder: Path) -> None:
    """Write the arrays as two Arrow files and a note; the folder appears complete, with checksums, or not at all."""
    with whole_folder(folder) as partial:
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
