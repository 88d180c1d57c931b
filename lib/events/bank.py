"""The bank's format as a description, the codes that it publishes, and the facts of the public set.

`transactions.csv[.gz]`: customer_id, tr_datetime ("DAY HH:MM:SS"), mcc_code, tr_type, amount, term_id.
`gender_train.csv`: customer_id, gender (0 woman, 1 man).
"""

import csv
import dataclasses
from functools import cache
from pathlib import Path

from lib import paths
from lib.events import clock, dataset
from lib.events.dataset import DataError, Description

EVENTS, LABELS = "transactions.csv", "gender_train.csv"
VOCABULARIES = {"mcc_code": "mcc_codes.csv", "tr_type": "tr_types.csv"}
ROUBLE = 22.459157
"""Units of the file's amounts in one rouble."""
PUBLIC_FACTS = {
    "events": 6_849_346,
    "customers": 15_000,
    "labelled": 8_400,
    "distinct_mcc_code": 184,
    "distinct_tr_type": 77,
    "last_day": 456,
}


def describe(folder: Path) -> Description:
    """The folder's own description where it has one, else the bank's. Raises DataError when it fits neither."""
    if (folder / dataset.FILE).exists():
        return dataset.read(folder / dataset.FILE)
    for name in (f"{EVENTS}.gz", EVENTS):
        if (folder / name).is_file():
            return dataclasses.replace(description(), events=name)
    raise DataError(
        f"{folder}: no {EVENTS} or {EVENTS}.gz; put the transactions there, or name your own files in {dataset.FILE}"
    )


def description() -> Description:
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
        class_names=("woman", "man"),
        vocabularies=tuple(vocabulary(column) for column in VOCABULARIES),
        units=(ROUBLE,),
        clock=clock.BANK,
        noted="term_id",
    )


@cache
def vocabulary(column: str) -> tuple[int, ...]:
    """Known codes of a column in increasing order: fixed by the bank's published tables, never by the data at hand."""
    return tuple(sorted(int(row[column]) for row in _published(column)))


def descriptions(column: str) -> dict[int, str]:
    """What the codes of a column stand for, in English where there is a translation; a few have no description."""
    named = {int(row[column]): row["english"] or row["description"] for row in _published(column)}
    return {code: name for code, name in named.items() if name}


def _published(column: str) -> list[dict[str, str]]:
    with open(paths.FACTS / VOCABULARIES[column], encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def verify_public(found: dict[str, int]) -> None:
    """Refuse a download whose content is not the public set's. Raises DataError naming every difference."""
    wrong = [
        f"{name.replace('_', ' ')} {found[name]:,} instead of {fact:,}"
        for name, fact in PUBLIC_FACTS.items()
        if found[name] != fact
    ]
    if wrong:
        raise DataError(f"data/raw/sberbank: not the public set ({'; '.join(wrong)}); delete the folder and run again")
