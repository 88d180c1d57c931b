"""Transactions: fetch, verify, encode, split and batch.

One door for three sources (`prepare`): the generator's synthetic set, the public Sberbank set, or a folder in the
bank's format (`transactions.csv[.gz]` and `gender_train.csv`). Encoded histories are cached as Parquet under the
checksum of their source files.
"""

import argparse
import hashlib
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from lib import bank, paths, synthetic
from lib.bank import DataError
from lib.dependencies import code_hash, modules
from lib.storage import intact, whole_folder, write_whole

CATEGORIES = {"mcc_code": "mcc_codes.csv", "tr_type": "tr_types.csv"}
UNKNOWN_HOUR = 24
FEWEST_TO_TRAIN = 5
"""Customers of each class in every training part: the references choose their penalty in five folds of it."""
ROUBLE = 22.459157
"""Units of the file's amounts in one rouble."""
DAY_ZERO_WEEKDAY = 4
"""Day 0 is Friday 1 August 2014; Monday is 0."""


@dataclass(frozen=True)
class Histories:
    """Encoded events of many customers, end to end; customer i owns events offsets[i] to offsets[i + 1]."""

    customers: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    categories: np.ndarray
    numbers: np.ndarray
    days: np.ndarray
    checksum: str
    found: dict

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
        """Number of label values."""
        return int(self.labels.max()) + 1


def cardinalities() -> tuple[int, ...]:
    """Sizes of the category vocabularies: MCC and type (each with 0 for unknown codes), hour, weekday."""
    return (*(len(vocabulary(column)) + 1 for column in CATEGORIES), 25, 7)


def vocabulary(column: str) -> np.ndarray:
    """Known codes of a column in increasing order: fixed by the bank's published tables, never by the data at hand."""
    return np.sort(pd.read_csv(paths.FACTS / CATEGORIES[column])[column].to_numpy())


def descriptions(column: str) -> pd.DataFrame:
    """What each known code of a column stands for, in English where there is a translation; indexed by code."""
    table = pd.read_csv(paths.FACTS / CATEGORIES[column]).set_index(column)
    return pd.DataFrame({"description": table["english"].fillna(table["description"])})


def encode(events: pd.DataFrame, labels: pd.DataFrame, checksum: str, found: dict) -> Histories:
    """Arrays of verified events: customers in increasing id, events in time; no statistic of the data enters.

    Categories: MCC, type, hour (24 where the time is the unknown 00:00:00) and weekday. Numbers: the amount in roubles
    as sign(a) log(1 + |a|) and the gap to the customer's previous event as log(1 + days).
    """
    events = events.sort_values(["customer_id", "day", "second"], kind="stable")
    customers, starts = np.unique(events["customer_id"].to_numpy(), return_index=True)
    day, second = events["day"].to_numpy(), events["second"].to_numpy()
    time = day + second / 86400
    gap = np.diff(time, prepend=time[:1])
    gap[starts] = 0
    amount = events["amount"].to_numpy() / ROUBLE
    hour = np.where(second == 0, UNKNOWN_HOUR, second // 3600 % 24)
    codes = [_positions(events[column].to_numpy(), vocabulary(column)) for column in CATEGORIES]
    unknown = {
        f"events_with_unknown_{column}": int((code == 0).sum()) for column, code in zip(CATEGORIES, codes, strict=True)
    }
    label_of = labels.set_index("customer_id")["gender"]
    return Histories(
        customers=customers,
        labels=label_of.reindex(customers).fillna(-1).to_numpy().astype(np.int8),
        offsets=np.append(starts, len(events)).astype(np.int64),
        categories=np.stack([*codes, hour, (day + DAY_ZERO_WEEKDAY) % 7], axis=1).astype(np.uint8),
        numbers=np.stack([np.sign(amount) * np.log1p(np.abs(amount)), np.log1p(gap)], axis=1).astype(np.float32),
        days=time,
        checksum=checksum,
        found={**found, **unknown},
    )


def _positions(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """1-based position of each code among the known ones, 0 where it is not one of them."""
    position = np.searchsorted(known, codes).clip(max=len(known) - 1)
    return np.where(known[position] == codes, position + 1, 0)


def save(histories: Histories, folder: Path) -> None:
    """Write the arrays as two Parquet tables and a JSON note; the folder appears complete or not at all."""
    columns = {f"category_{i}": column for i, column in enumerate(histories.categories.T)}
    columns |= {f"number_{i}": column for i, column in enumerate(histories.numbers.T)}
    customers = {"customer_id": histories.customers, "label": histories.labels, "events": histories.lengths}
    note = {"checksum": histories.checksum, "found": histories.found}
    with whole_folder(folder) as partial:
        pq.write_table(pa.table({**columns, "day": histories.days}), partial / "events.parquet")
        pq.write_table(pa.table(customers), partial / "customers.parquet")
        (partial / "note.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Histories:
    """The histories that `save` wrote."""
    events = pq.read_table(folder / "events.parquet", memory_map=True)
    customers = pq.read_table(folder / "customers.parquet", memory_map=True)
    note = json.loads((folder / "note.json").read_text(encoding="utf-8"))
    families = {
        name: np.stack([events[c].to_numpy() for c in events.column_names if c.startswith(name)], axis=1)
        for name in ("category", "number")
    }
    return Histories(
        customers=customers["customer_id"].to_numpy(),
        labels=customers["label"].to_numpy(),
        offsets=np.append(0, np.cumsum(customers["events"].to_numpy())),
        categories=families["category"],
        numbers=families["number"],
        days=events["day"].to_numpy(),
        **note,
    )


def locate(source: str, customers: int, seed: int) -> Path:
    """Folder with the source's files, generated or downloaded when missing.

    Raises DataError when the source is neither `synthetic`, `sberbank` nor a folder.
    """
    if source == "synthetic":
        if customers < 1:
            raise DataError(f"--customers {customers}: give at least one")
        module = Path(synthetic.__file__)
        version = code_hash([module, *modules(module)])[:6] + _checksum(sorted(paths.FACTS.glob("*.csv")))[:6]
        folder = paths.RAW / f"synthetic-{customers}-{seed}-{version}"
        if not intact(folder):
            with whole_folder(folder) as partial:
                synthetic.generate(partial, customers=customers, seed=seed)
        return folder
    if source == "sberbank":
        return bank.download(paths.RAW / "sberbank")
    if not Path(source).is_dir():
        raise DataError(
            f"--data {source}: no such folder; give synthetic, sberbank or a folder with {bank.EVENTS}[.gz]"
        )
    return Path(source)


def prepare(source: str, customers: int = 500, seed: int = 0, fresh: bool = False) -> Histories:
    """Encoded histories of a source, from the cache when its files have not changed.

    `customers` and `seed` shape the synthetic set only. Raises DataError naming file, line, column and remedy.
    """
    folder = locate(source, customers, seed)
    code = [Path(__file__), Path(bank.__file__), *(paths.FACTS / name for name in CATEGORIES.values())]
    checksum = _checksum([bank.events_file(folder), folder / bank.LABELS])
    name = folder.name if source != str(folder) else folder.resolve().name
    cache = paths.PROCESSED / f"{name}-{checksum[:12]}-{_checksum(code)[:6]}"
    if fresh or not intact(cache):
        events, labels, found = bank.read(folder)
        if source == "sberbank":
            bank.verify_public(events, labels)
        save(encode(events, labels, checksum, found), cache)
    return load(cache)


def _checksum(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def folds(histories: Histories, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test positions of the labelled customers, stratified by label; the test parts cover each once.

    Raises DataError when a class has too few customers for the folds, or for choosing a penalty within one.
    """
    labelled = histories.labelled
    smallest = np.bincount(histories.labels[labelled]).min()
    needed = max(count, math.ceil(FEWEST_TO_TRAIN * count / (count - 1)))
    if smallest < needed:
        raise DataError(
            f"the rarest label has {smallest} customers, {count} folds need {needed}; label more customers of it"
        )
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return [(labelled[train], labelled[test]) for train, test in splitter.split(labelled, histories.labels[labelled])]


@dataclass(frozen=True)
class Batch:
    """Some customers' events, padded on the right to the longest; `key_mask` is true on real events."""

    customers: np.ndarray
    categories: Tensor
    numbers: Tensor
    days: Tensor
    key_mask: Tensor
    labels: Tensor


def collate(histories: Histories, customers: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Batch:
    """Padded tensors of one slice of events per customer; days count back from each slice's last event."""
    index = starts[:, None] + np.arange(max(1, lengths.max()))
    mask = np.arange(index.shape[1]) < lengths[:, None]
    index = np.where(mask, index, starts[:, None])
    last = histories.days[starts + lengths - 1]
    return Batch(
        customers=customers,
        categories=torch.from_numpy(histories.categories[index].astype(np.int64) * mask[..., None]),
        numbers=torch.from_numpy(histories.numbers[index] * mask[..., None]),
        days=torch.from_numpy(((last[:, None] - histories.days[index]) * mask).astype(np.float32)),
        key_mask=torch.from_numpy(mask),
        labels=torch.from_numpy(histories.labels[customers].astype(np.int64)),
    )


def last_events(histories: Histories, customers: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """First event and number of events of each customer's last `limit` events."""
    lengths = np.minimum(histories.lengths[customers], limit)
    return histories.offsets[customers + 1] - lengths, lengths


def random_slices(
    histories: Histories, customers: np.ndarray, limit: int, shortest: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random contiguous part of each history: at most `limit` events, at least the share `shortest` of that."""
    whole = histories.lengths[customers]
    longest = np.minimum(whole, limit)
    lengths = np.ceil(longest * generator.uniform(shortest, 1, len(customers))).astype(np.int64)
    return histories.offsets[customers] + generator.integers(0, whole - lengths + 1), lengths


def batches(lengths: np.ndarray, size: int, generator: np.random.Generator | None = None) -> list[np.ndarray]:
    """Positions grouped by similar length, so that little padding is computed; in random order given a generator."""
    key = lengths if generator is None else lengths * generator.uniform(0.95, 1.05, len(lengths))
    groups = np.split(np.argsort(key, kind="stable"), np.arange(size, len(lengths), size))
    return groups if generator is None else [groups[i] for i in generator.permutation(len(groups))]


def main() -> int:
    """Prepare a source from the command line and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m lib.data", description=main.__doc__)
    parser.add_argument("source", help="synthetic, sberbank or a folder in the bank's format")
    parser.add_argument("--customers", type=int, default=500, help="size of the synthetic set")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic set")
    parser.add_argument("--folds", type=int, default=5, help="refuse data that cannot be split so often")
    parser.add_argument("--fresh", action="store_true", help="ignore the cache")
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    options = parser.parse_args()
    try:
        histories = prepare(options.source, options.customers, options.seed, options.fresh)
        folds(histories, options.folds, 0)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    note = {"source": options.source, "checksum": histories.checksum, **histories.found}
    if options.out:
        write_whole(options.out, json.dumps(note, indent=1) + "\n")
    print(f"{note['customers']} customers, {note['labelled']} labelled, {note['events']} events")
    return 0


if __name__ == "__main__":
    sys.exit(main())
