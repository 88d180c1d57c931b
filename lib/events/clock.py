"""How the time of an event may be written: a number of days, an ISO date, or the bank's "DAY HH:MM:SS".

Every clock gives whole seconds since its day 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY = 86_400
"""Seconds."""
LAST_DAY = 1_000_000
"""A column of seconds or milliseconds, which is not meant, lies beyond."""

Reading = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Clock:
    """The column's type; its seconds, which were second 60, which are valid; the weekday of day 0, if any."""

    kind: pa.DataType
    read: Callable[[pa.Array], Reading]
    remedy: str
    weekday: int | None = None


def bank_seconds(column: pa.Array) -> Reading:
    """Seconds of "DAY HH:MM:SS". The public set has seconds 60; the last of a day is read as its second 59."""
    day, second, valid = parse_times(column)
    leap = second % 60 == 0
    leap &= pc.ends_with(column, ":60").to_numpy(zero_copy_only=False)
    return day.astype(np.int64) * DAY + np.minimum(second, DAY - 1), leap, valid


def day_seconds(column: pa.Array) -> Reading:
    """Seconds of numbers of days, to the nearest."""
    days = column.to_numpy()
    valid = np.abs(days) < LAST_DAY
    return np.rint(np.where(valid, days, 0) * DAY).astype(np.int64), np.zeros(len(days), bool), valid


def calendar_seconds(column: pa.Array) -> Reading:
    """Whole seconds of ISO dates and times since 1 January 1970."""
    seconds = column.cast(pa.int64()).to_numpy() // 1_000_000
    return seconds, np.zeros(len(seconds), bool), np.abs(seconds) < LAST_DAY * DAY


def parse_times(column: pa.Array) -> Reading:
    """Day, second of the day, and whether "DAY HH:MM:SS" was well formed, digit by digit on the raw bytes.

    Seconds run to 60: the public set has them.
    """
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    start, width = offsets[:-1], np.diff(offsets)
    raw = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    raw = raw if len(raw) >= 13 else np.append(raw, np.zeros(13, np.uint8))
    valid = (width >= 10) & (width <= 13)
    end = np.where(valid, offsets[1:], 13)
    # Unsigned bytes wrap around: whatever stands before "0" becomes large.
    digits = {back: raw[end - back] - np.uint8(ord("0")) for back in (1, 2, 4, 5, 7, 8)}
    for digit in digits.values():
        valid &= digit <= 9
    valid &= (raw[end - 3] == ord(":")) & (raw[end - 6] == ord(":")) & (raw[end - 9] == ord(" "))
    day = np.zeros(len(column), np.int32)
    for place in range(4):
        present = valid & (width - 9 > place)
        digit = raw[np.where(present, start + place, 0)] - np.uint8(ord("0"))
        valid &= ~present | (digit <= 9)
        day = np.where(present, day * 10 + digit, day)
    hour, minute, second = (
        10 * digits[tens].astype(np.int32) + digits[ones] for tens, ones in ((8, 7), (5, 4), (2, 1))
    )
    valid &= (hour < 24) & (minute < 60) & (second <= 60)
    return day, hour * 3600 + minute * 60 + second, valid


DAYS = Clock(pa.float64(), day_seconds, f"give a number of days, less than {LAST_DAY:,}")
CALENDAR = Clock(pa.timestamp("us"), calendar_seconds, "give a date less than 2,700 years from 1970", weekday=3)
BANK = Clock(pa.string(), bank_seconds, 'write it as "DAY HH:MM:SS", for example "12 18:03:59"', weekday=4)
"""Day 0 is Friday 1 August 2014; Monday is 0."""
