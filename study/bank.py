"""The bank's format, described: `transactions.csv[.gz]` and `gender_train.csv` (0 woman, 1 man)."""

import csv
import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib import storage
from lib.data import description
from lib.data.description import DAY, FILE, SECOND, Clock, DataError, Description

EVENTS, LABELS = "transactions.csv", "gender_train.csv"
VOCABULARIES = {"mcc_code": "mcc_codes.csv", "tr_type": "tr_types.csv"}
TIME = r"^(?P<d>[0-9]{1,4}) (?P<h>[01][0-9]|2[0-3]):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9]|60)$"
ROUBLE = 22.459157  # units of the file's amounts in one rouble


def describe(folder: Path) -> Description:
    """The folder's own description where it has one, else the bank's. Raises DataError when it fits neither."""
    if (folder / FILE).exists():
        return description.read(folder / FILE)
    for name in (f"{EVENTS}.gz", EVENTS):
        if (folder / name).is_file():
            return dataclasses.replace(bank(), events=name)
    raise DataError(
        f"{folder}: no {EVENTS} or {EVENTS}.gz; put the transactions there, or name your own files in {FILE}"
    )


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
        class_names=("woman", "man"),
        vocabularies=tuple(tuple(sorted(code_names(column))) for column in VOCABULARIES),
        units=(ROUBLE,),
        clock=CLOCK,
    )


def since_day_0(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times as "DAY HH:MM:SS". The public set has seconds 60; the last of a day is read as its second 59."""
    fields = pc.extract_regex(column, TIME)
    day, hour, minute, second = (pc.fill_null(field.cast(pa.int64()), 0).to_numpy() for field in fields.flatten())
    instants = (day * DAY + np.minimum(hour * 3600 + minute * 60 + second, DAY - 1)) * SECOND
    return instants, instants, fields.is_valid().to_numpy(False)


REMEDY = 'write it as "DAY HH:MM:SS", for example "12 18:03:59"'
CLOCK = Clock(pa.string(), since_day_0, REMEDY, weekday=4)  # day 0 is Friday 1 August 2014


@cache
def code_names(column: str) -> dict[int, str]:
    """The known codes, fixed by the bank's published tables, never by the data at hand, and what they stand for.

    In English where there is a translation; a few have no description.
    """
    with open(storage.FACTS / VOCABULARIES[column], encoding="utf-8", newline="") as stream:
        return {int(row[column]): row["english"] or row["description"] for row in csv.DictReader(stream)}
