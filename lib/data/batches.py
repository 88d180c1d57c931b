"""Event histories: fetch, prepare, split and batch.

One door for three sources (`prepare`): the generator's synthetic set, the public Sberbank set, or a folder, which is in
the bank's format or says in `dataset.yaml` what it holds. Encoded histories are cached under the checksum of their
source files.
"""

import argparse
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from lib import paths
from lib.data import histories as encoded
from lib.data.clock import DAY
from lib.data.description import EVENTS, FILE, VOCABULARIES, DataError, bank, describe, verify_public
from lib.data.histories import UNKNOWN_HOUR, Histories, load, read, save
from lib.dependencies import code_hash, modules
from lib.storage import checksum, intact, whole_folder, write_whole
from study.download import download
from study.tasks import synthetic

__all__ = ["UNKNOWN_HOUR", "DataError", "Histories"]
ODD = re.compile("^(events|duplicated|customers_without|labels_without)_")
FEWEST_TO_TRAIN = 5
"""Customers of each class in every training part: the references choose their penalty in five folds of it."""


def locate(source: str, customers: int, seed: int) -> Path:
    """Folder with the source's files, generated or downloaded when missing.

    Raises DataError when the source is neither `synthetic`, `sberbank` nor a folder.
    """
    if source == "synthetic":
        if customers < 1:
            raise DataError(f"--customers {customers}: give at least one")
        module = Path(synthetic.__file__)
        version = code_hash([module, *modules(module)])[:6] + checksum(sorted(paths.FACTS.glob("*.csv")))[:6]
        folder = paths.RAW / f"synthetic-{customers}-{seed}-{version}"
        if not intact(folder):
            with whole_folder(folder) as partial:
                synthetic.generate(partial, customers=customers, seed=seed)
        return folder
    if source == "sberbank":
        return download(paths.RAW / "sberbank")
    if not Path(source).is_dir():
        raise DataError(
            f"--data {source}: no such folder; give synthetic, sberbank or a folder with {EVENTS}[.gz] or {FILE}"
        )
    return Path(source)


def prepare(source: str, customers: int = 500, seed: int = 0, fresh: bool = False) -> Histories:
    """Encoded histories of a source, from the cache when its files have not changed.

    `customers` and `seed` shape the synthetic set only. Raises DataError naming file, line, column and remedy.
    """
    folder = locate(source, customers, seed)
    digest = checksum(describe(folder).files(folder))
    module = Path(encoded.__file__)
    code = code_hash([module, *modules(module)])[:6]
    vocabularies = checksum([paths.FACTS / name for name in VOCABULARIES.values()])[:6]
    name = folder.name if source != str(folder) else folder.resolve().name
    cache = paths.PROCESSED / f"{name}-{digest[:12]}-{code}{vocabularies}"
    if not fresh and intact(cache):
        return load(cache)
    histories = read(folder, digest)
    if source == "sberbank":
        verify_public(histories.found)
    save(histories, cache)
    return load(cache)


def stratified_folds(histories: Histories, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test positions of the labelled customers, stratified by label; the test parts cover each once.

    Raises DataError when a class has too few customers for the folds, or for choosing a penalty within one.
    """
    labelled = histories.labelled
    smallest = np.bincount(histories.labels[labelled], minlength=histories.classes).min()
    needed = max(count, math.ceil(FEWEST_TO_TRAIN * count / (count - 1)))
    if smallest < needed:
        raise DataError(
            f"the rarest label has {smallest} customers, {count} folds need {needed}; label more customers of it "
            f"({label_counts(histories)})"
        )
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return [(labelled[train], labelled[test]) for train, test in splitter.split(labelled, histories.labels[labelled])]


def label_counts(histories: Histories) -> str:
    """Every label, quoted so that spaces are seen, with its customers."""
    counts = np.bincount(histories.labels[histories.labelled], minlength=histories.classes)
    return ", ".join(f"{name!r} {count:,}" for name, count in zip(histories.class_names, counts, strict=True))


def findings(histories: Histories) -> str:
    """What a folder holds, in lines: customers, events, labels, the span of time, and what was odd and handled."""
    found, spellings = histories.found, {}
    for name in histories.class_names:
        spellings.setdefault(name.strip().casefold(), []).append(name)
    odd = [f"{key.replace('_', ' ')} {found[key]:,}" for key in found if found[key] and ODD.search(key)]
    odd += [f"labels {' and '.join(map(repr, names))} look alike" for names in spellings.values() if len(names) > 1]
    first, last = (format_day(day, histories) for day in (histories.days.min(), histories.days.max()))
    lines = {
        "customers": f"{found['customers']:,}, {found['labelled']:,} of them labelled",
        "labels": label_counts(histories),
        "events": f"{found['events']:,}, {found['shortest_history']:,} to {found['longest_history']:,} of a customer",
        "time": f"{first} to {last}",
        "odd": ", ".join(odd) or "nothing",
    }
    return "\n".join(f"{name}: {line}" for name, line in lines.items())


def format_day(day: float, histories: Histories) -> str:
    """A time as a date, where days are counted from 1970 as own data's dates are, else as the number of its day."""
    if "weekday" in histories.kinds and histories.vocabularies != bank().vocabularies:
        return str(np.datetime64(round(day * DAY), "s")).replace("T", " ")
    return f"day {day:.5g}"


@dataclass(frozen=True)
class Batch:
    """Some customers' events, padded on the right to the longest; `key_mask` is true on real events."""

    customers: np.ndarray
    categories: Tensor
    numbers: Tensor
    days: Tensor
    key_mask: Tensor
    labels: Tensor


def collate(
    histories: Histories,
    customers: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    device: torch.device | None = None,
) -> Batch:
    """Padded tensors of one slice of events per customer; days count back from each slice's last event."""
    index = starts[:, None] + np.arange(max(1, lengths.max()))
    mask = np.arange(index.shape[1]) < lengths[:, None]
    index = np.where(mask, index, starts[:, None])
    last = histories.days[starts + lengths - 1]
    return Batch(
        customers=customers,
        categories=torch.from_numpy(histories.categories[index].astype(np.int64) * mask[..., None]).to(device),
        numbers=torch.from_numpy(histories.numbers[index] * mask[..., None]).to(device),
        days=torch.from_numpy(((last[:, None] - histories.days[index]) * mask).astype(np.float32)).to(device),
        key_mask=torch.from_numpy(mask).to(device),
        labels=torch.from_numpy(histories.labels[customers].astype(np.int64)).to(device),
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


def length_batches(lengths: np.ndarray, size: int, generator: np.random.Generator | None = None) -> list[np.ndarray]:
    """Positions grouped by similar length, so that little padding is computed; in random order given a generator."""
    key = lengths if generator is None else lengths * generator.uniform(0.95, 1.05, len(lengths))
    groups = np.split(np.argsort(key, kind="stable"), np.arange(size, len(lengths), size))
    return groups if generator is None else [groups[i] for i in generator.permutation(len(groups))]


def real_share(lengths: np.ndarray, groups: list[np.ndarray]) -> float:
    """Share of the positions computed for the batches that hold real events; the others are padding."""
    return float(lengths.sum() / sum(len(group) * lengths[group].max() for group in groups))


def main() -> int:
    """Prepare a source from the command line and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m study.sources", description=main.__doc__)
    parser.add_argument("source", help="synthetic, sberbank or a folder of events")
    parser.add_argument("--customers", type=int, default=500, help="size of the synthetic set")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic set")
    parser.add_argument("--folds", type=int, default=5, help="refuse data that cannot be split so often")
    parser.add_argument("--fresh", action="store_true", help="ignore the cache")
    parser.add_argument("--check", action="store_true", help="print all that was found, and what was odd")
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    options = parser.parse_args()
    try:
        histories = prepare(options.source, options.customers, options.seed, options.fresh)
        stratified_folds(histories, options.folds, 0)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    note = {"source": options.source, "checksum": histories.checksum, **histories.found}
    if options.out:
        write_whole(options.out, json.dumps(note, indent=1) + "\n")
    short = f"{note['customers']:,} customers, {note['labelled']:,} labelled, {note['events']:,} events"
    print(findings(histories) if options.check else short)
    return 0


if __name__ == "__main__":
    sys.exit(main())
