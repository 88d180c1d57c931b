import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.events import clock


@given(
    st.lists(st.tuples(*(st.integers(0, top) for top in (9999, 23, 59, 60))), min_size=1, max_size=5),
    st.integers(0, 4),
)
def test_times_are_read_exactly(times, skipped):
    column = pa.array([f"{d} {h:02}:{m:02}:{s:02}" for d, h, m, s in [(0, 0, 0, 0)] * skipped + times])
    day, second, valid = clock.parse_times(column[skipped:])
    assert valid.all()
    assert list(zip(day, second, strict=True)) == [(d, h * 3600 + m * 60 + s) for d, h, m, s in times]


@given(st.text(max_size=14))
def test_no_other_text_is_a_time(text):
    well_formed = re.fullmatch(r"[0-9]{1,4} ([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)", text)
    _, _, valid = clock.parse_times(pa.array([text]))
    assert valid.tolist() == [bool(well_formed)]


@given(st.integers(0, 9999), st.integers(0, 86399))
def test_the_banks_seconds_count_from_day_0(day, second):
    text = f"{day} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    seconds, leap, valid = clock.BANK.read(pa.array([text]))
    assert (seconds.tolist(), leap.tolist(), valid.tolist()) == ([day * 86400 + second], [False], [True])


def test_second_60_is_the_next_minute_but_of_the_same_day():
    seconds, leap, valid = clock.BANK.read(pa.array(["1 07:08:60", "1 23:59:60"]))
    assert seconds.tolist() == [86400 + 7 * 3600 + 9 * 60, 2 * 86400 - 1]
    assert leap.all()
    assert valid.all()


def test_days_and_dates_by_hand():
    seconds, _, valid = clock.DAYS.read(pa.array([0.0, -1.5, 2.25, float("nan"), float("inf"), 1e6]))
    assert seconds[:3].tolist() == [0, -129600, 194400]
    assert valid.tolist() == [True, True, True, False, False, False]
    dates = pa.array(["1970-01-02", "2024-05-31 18:03:59.9", "1969-12-31 23:59:59"]).cast(clock.CALENDAR.kind)
    seconds, _, valid = clock.CALENDAR.read(dates)
    assert seconds.tolist() == [86400, 1717178639, -1]
    assert valid.all()


@pytest.mark.parametrize(("written", "monday"), [(clock.CALENDAR, "1970-01-05"), (clock.BANK, "3 00:00:00")])
def test_monday_is_0(written, monday):
    seconds, _, _ = written.read(pa.array([monday]).cast(written.kind))
    assert (seconds[0] // 86400 + written.weekday) % 7 == 0
