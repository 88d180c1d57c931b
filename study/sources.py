"""Where events come from: generated, downloaded or a folder. Encoded histories are cached under their checksum."""

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib import storage
from lib.data import histories as encoded
from lib.data.description import DAY, DataError
from lib.data.histories import Histories, check_folds, label_counts, load, read, save
from lib.dependencies import code_hash, modules
from lib.storage import atomic_folder, checksum, file_checksum, intact, write_atomic
from study import bank

PUBLIC_SET = "https://huggingface.co/datasets/dllllb/transactions-gender/resolve/main/"
GENERATOR = storage.ROOT / "study" / "tasks" / "synthetic.py"
PUBLIC_FACTS = {
    "events": 6_849_346,
    "customers": 15_000,
    "labelled": 8_400,
    "distinct_mcc_code": 184,
    "distinct_tr_type": 77,
    "last_day": 456,
}
CUSTOMERS = 400  # of the synthetic set, where nothing else is said
ODD = re.compile("^(events|customers_without|labels_without)_")


def locate(source: str, customers: int, seed: int) -> Path:
    """Folder with the source's files, generated or downloaded when missing; raises DataError for what is no source."""
    if source == "synthetic":
        if customers < 1:
            raise DataError(f"--customers {customers}: give at least one")
        version = code_hash([GENERATOR, *modules(GENERATOR)])[:6] + checksum(sorted(storage.FACTS.glob("*.csv")))[:6]
        folder = storage.RAW / f"synthetic-{customers}-{seed}-{version}"
        if not intact(folder):
            from study.tasks import synthetic

            with atomic_folder(folder) as partial:
                synthetic.generate(partial, customers=customers, seed=seed)
        return folder
    if source == "sberbank":
        return download(storage.RAW / "sberbank")
    if not Path(source).is_dir():
        raise DataError(f"--data {source}: no such folder; give synthetic, sberbank or a folder of events")
    return Path(source)


def download(folder: Path, base_url: str = PUBLIC_SET) -> Path:
    """The public set in `folder`; checksums are recorded at the first download, and what differs is fetched again.

    Raises DataError when a file cannot be had, saying what to put where.
    """
    import pooch

    record = folder / "SHA256SUMS"
    known = dict(reversed(line.split("  ")) for line in record.read_text().splitlines()) if record.exists() else {}
    files = {name: known.get(name) for name in (f"{bank.EVENTS}.gz", bank.LABELS)}
    host = pooch.create(path=folder, base_url=base_url, registry=files, retry_if_failed=3)
    downloader = pooch.HTTPDownloader(sys.stderr.isatty(), 2**16, headers={"Accept-Encoding": "identity"})
    for name in files:
        try:
            host.fetch(name, downloader=downloader)
        except (OSError, ValueError) as error:
            remedy = f"put that file into {folder} and run again"
            raise DataError(f"cannot download {base_url}{name} ({type(error).__name__}); {remedy}") from error
        known[name] = file_checksum(folder / name)
        write_atomic(record, "".join(f"{digest}  {name}\n" for name, digest in known.items()))
    return folder


def prepare(source: str, customers: int = CUSTOMERS, seed: int = 0, fresh: bool = False) -> Histories:
    """Encoded histories of a source, from the cache when its files have not changed.

    `customers` and `seed` shape the synthetic set only. Raises DataError naming file, line, column and remedy.
    """
    folder = locate(source, customers, seed)
    description = bank.describe(folder)
    digest = checksum(description.files(folder))
    encoder, vocabularies = Path(encoded.__file__), [storage.FACTS / name for name in bank.VOCABULARIES.values()]
    encoded_by = code_hash([Path(bank.__file__), encoder, *modules(encoder)])[:6] + checksum(vocabularies)[:6]
    cache = storage.PROCESSED / f"{folder.resolve().name}-{digest[:12]}-{encoded_by}"
    if fresh or not intact(cache):
        histories = read(folder, description, digest)
        if source == "sberbank":
            verify_public(histories.found)
        save(replace(histories, encoded_by=encoded_by), cache)
    return load(cache)


def verify_public(found: dict[str, int]) -> None:
    """Refuse a download whose content is not the public set's. Raises DataError naming every difference."""
    wrong = [
        f"{name} {found[name]:,} instead of {fact:,}" for name, fact in PUBLIC_FACTS.items() if found[name] != fact
    ]
    if wrong:
        raise DataError(f"data/raw/sberbank: not the public set ({'; '.join(wrong)}); delete the folder and run again")


def findings(histories: Histories) -> str:
    """What a folder holds, in lines: customers, labels, events, the span of time, and what was odd and handled."""
    found = histories.found
    odd = [f"{key.replace('_', ' ')} {found[key]:,}" for key in found if found[key] and ODD.search(key)]
    ends = (histories.days.min(), histories.days.max())
    if "weekday" in histories.kinds and histories.vocabularies != bank.bank().vocabularies:
        span = [str(np.datetime64(round(day * DAY), "s")).replace("T", " ") for day in ends]
    else:
        span = [f"day {day:.5g}" for day in ends]
    lines = [
        f"customers: {found['customers']:,}, {found['labelled']:,} of them labelled",
        f"labels: {label_counts(histories)}",
        f"events: {found['events']:,}, {found['shortest_history']:,} to {found['longest_history']:,} of a customer",
        f"time: {' to '.join(span)}",
        f"odd: {', '.join(odd) or 'nothing'}",
    ]
    if histories.groups is not None:
        sizes = np.bincount(histories.groups[histories.labelled])
        lines += [f"groups: {len(sizes):,}, the largest of {sizes.max():,} customers"]
    return "\n".join(lines)


def main() -> int:
    """Prepare a source from the command line and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m study.sources", description=main.__doc__)
    parser.add_argument("source", help="synthetic, sberbank or a folder of events")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="size of the synthetic set")
    parser.add_argument("--folds", type=int, default=5, help="refuse data that cannot be split so often")
    parser.add_argument("--fresh", action="store_true", help="ignore the cache")
    parser.add_argument("--check", action="store_true", help="print all that was found, and what was odd")
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    options = parser.parse_args()
    try:
        histories = prepare(options.source, options.customers, fresh=options.fresh)
        check_folds(histories, options.folds)
        if histories.groups is not None:
            from lib.data.batches import stratified_folds

            stratified_folds(histories, options.folds, 0)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    note = {"source": options.source, "checksum": histories.checksum, **histories.found}
    if options.out:
        write_atomic(options.out, json.dumps(note, indent=1) + "\n")
    print(findings(histories) if options.check else findings(histories).splitlines()[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
