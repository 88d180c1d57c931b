"""How the time of an event may be written: a date, with a zone or without, a number in a unit, or the bank's days.

Every clock gives whole seconds since its day 0, and what is finer than a second.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib.data.description import BANK_TIMES, FILE
from lib.data.tables import Table, fits

DAY = 86_400
"""Seconds."""
LAST_DAY = 1_000_000
"""A column of seconds or milliseconds, where days are meant, lies beyond."""
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DATE = r"^(\d{4})(\d\d)(\d\d)"
ZONE = r" ?(Z|UTC|[+-]\d\d(?::?\d\d)?)"
COMPACT = rf"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([T ]?\d\d:?\d\d:?\d\d(\.\d+)?({ZONE})?)?"
ZONED = rf"^(.{{11,}}?){ZONE}$"


class Times(NamedTuple):
    """Seconds as written, since the clock's day 0, which of them were second 60, and which are well formed.

    The instant is so many parts of a second `later`: the fraction less the zone's offset.
    """

    seconds: np.ndarray
    later: np.ndarray
    leap: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Clock:
    """The column's type, its times, the remedy for an invalid one; day 0's weekday, if any; the parts of a second."""

    kind: pa.DataType
    read: Callable[[pa.Array], Times]
    remedy: str | Callable[[object], str]
    weekday: int | None = None
    parts: int = 10**6


def clock_of(file: Table, column: str, unit: str | None) -> Clock:
    """How the first row writes its time: a date or time, with a zone or without, or a number of the unit."""
    if unit == BANK_TIMES:
        return BANK
    kind = file.kind(column)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return stamps(getattr(kind, "tz", None), 9 if getattr(kind, "unit", None) == "ns" else 6)
    if unit in PER_SECOND:
        return epoch(unit)
    first = file.first(column) or ""
    digits = 9 if re.search(r"\.\d{7,}", first) else 6
    compact = unit is None and re.fullmatch(COMPACT, first)
    if unit or (file.is_number(first) and not compact):
        return DAYS
    zoned = bool(re.search(ZONED, first))
    return written(zoned, digits) if compact or zoned else stamps(None, digits)


def bank_times(column: pa.Array) -> Times:
    """Times as "DAY HH:MM:SS". The public set has seconds 60; the last of a day is read as its second 59."""
    pattern = r"^(?P<d>[0-9]{1,4}) (?P<h>[01][0-9]|2[0-3]):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9]|60)$"
    fields = pc.extract_regex(column, pattern)
    day, hour, minute, second = (pc.fill_null(field.cast(pa.int64()), 0).to_numpy() for field in fields.flatten())
    of_day = np.minimum(hour * 3600 + minute * 60 + second, DAY - 1)
    return Times(day * DAY + of_day, np.zeros_like(day), second == 60, fields.is_valid().to_numpy(False))


def day_times(column: pa.Array) -> Times:
    """Times as numbers of days, to the nearest second."""
    days = column.to_numpy()
    valid = np.abs(days) < LAST_DAY
    exact = np.where(valid, days, 0) * DAY
    seconds = np.rint(exact)
    return _times(seconds, np.minimum((exact - seconds + 0.5) * 10**6, 10**6 - 1), valid)


def epoch(unit: str) -> Clock:
    """Numbers since 1 January 1970, in a unit; hours and weekdays are UTC's."""
    per = PER_SECOND[unit]
    parts = max(per, 10**6)

    def read(column: pa.Array) -> Times:
        valid = np.abs(column.to_numpy()) < LAST_DAY * DAY * per
        values = np.where(valid, column.to_numpy(), 0)
        seconds = values // per
        return _times(seconds, (values - seconds * per) * (parts // per), valid)

    return Clock(pa.int64() if unit == "ns" else pa.float64(), read, number_remedy, 3, parts)


def stamps(zone: str | None, digits: int) -> Clock:
    """Dates and times without zone, or instants to be written in a zone, with so many digits of a second's fraction."""

    def read(column: pa.Array) -> Times:
        local = column if zone in (None, "UTC") else pc.local_timestamp(column)
        return _calendar(local, column, np.ones(len(column), bool), 10**digits)

    kind = pa.timestamp("us" if digits == 6 else "ns", zone)
    return Clock(kind, read, "give a date less than 2,700 years from 1970", 3, 10**digits)


def written(zoned: bool, digits: int) -> Clock:
    """Times as text: compact dates, or with a zone; hours and weekdays are those written."""
    kind = pa.timestamp("us" if digits == 6 else "ns", "UTC" if zoned else None)

    def read(column: pa.Array) -> Times:
        text = pc.replace_substring_regex(column, rf"{DATE}[T ]?(\d\d):?(\d\d):?(\d\d)", r"\1-\2-\3 \4:\5:\6")
        text = pc.replace_substring_regex(text, rf"{DATE}$", r"\1-\2-\3")
        text = pc.replace_substring_regex(text, ZONED, r"\1\2") if zoned else text
        instant, valid = _parsed(pc.replace_substring(text, "UTC", "Z"), kind)
        if not zoned:
            return _calendar(instant, instant, valid, 10**digits)
        local, _ = _parsed(pc.replace_substring_regex(text, ZONED, r"\1"), pa.timestamp(kind.unit))
        return _calendar(local, instant, valid, 10**digits)

    example = "2024-05-31 18:03:59+02:00" if zoned else "20240531, 20240531T180359 or 2024-05-31 18:03:59"
    return Clock(pa.string(), read, f"write times alike, as {example}", 3, 10**digits)


def number_remedy(value: float) -> str:
    """What to do about a number that is beyond its unit."""
    for unit, per in PER_SECOND.items():
        if 1990 < 1970 + value / per / DAY / 365.2425 < 2100:
            return f"it looks like {WORDS[unit]} since 1970: write `time_unit: {unit}` in {FILE}"
    return f"give a number of days, less than {LAST_DAY:,}, or the unit since 1970 as `time_unit` in {FILE}"


DAYS = Clock(pa.float64(), day_times, number_remedy)
BANK = Clock(pa.string(), bank_times, f'write it as "{BANK_TIMES}", for example "12 18:03:59"', weekday=4)
"""Day 0 is Friday 1 August 2014; Monday is 0."""


def _times(seconds: np.ndarray, later: np.ndarray, valid: np.ndarray) -> Times:
    return Times(seconds.astype(np.int64), np.rint(later).astype(np.int64), np.zeros(len(seconds), bool), valid)


def _calendar(local: pa.Array, instant: pa.Array, valid: np.ndarray, parts: int) -> Times:
    local, instant = (column.cast(pa.int64()).to_numpy() for column in (local, instant))
    seconds = local // parts
    return _times(seconds, instant - seconds * parts, valid & (np.abs(seconds) < LAST_DAY * DAY))


def _parsed(text: pa.Array, kind: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    """Timestamps, 0 where there is none, and where there is one."""
    try:
        return text.cast(kind), np.ones(len(text), bool)
    except pa.ArrowInvalid:
        valid = np.array([fits(value, kind) for value in text.to_pylist()])
        return pc.if_else(valid, text, "1970-01-01T00:00:00" + ("Z" if kind.tz else "")).cast(kind), valid
