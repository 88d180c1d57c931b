"""The bank's format, and delimited text as people write it."""

import dataclasses
import gzip
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data.description import DataError
from lib.data.histories import read as read_described
from lib.data.reading import table
from study import bank

EVENTS = "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
GOOD = EVENTS + "1,0 10:23:26,4814,1030,-2245.92,\n2,6 07:08:60,6011,7010,56147.89,T1\n"
MUCH = GOOD.replace("56147.89", "much")
LABELS = "customer_id,gender\n1,0\n2,1\n"


def read(folder):
    return read_described(folder, bank.describe(folder))


def folder_with(tmp_path, events=GOOD, labels=LABELS):
    (tmp_path / bank.EVENTS).write_bytes(events if isinstance(events, bytes) else events.encode())
    (tmp_path / bank.LABELS).write_text(labels)
    return tmp_path


def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second


def test_reads_plain_and_gzipped_alike(tmp_path):
    folder = folder_with(tmp_path)
    plain = read(folder)
    (folder / f"{bank.EVENTS}.gz").write_bytes(gzip.compress(GOOD.encode()))
    (folder / bank.EVENTS).unlink()
    assert table(folder, bank.describe(folder), "events").where(1) == "line 3"
    assert_same(read(folder), plain)
    assert plain.days.tolist() == [(10 * 3600 + 23 * 60 + 26) / 86400, 6 + (7 * 3600 + 9 * 60) / 86400]
    assert plain.labels.tolist() == [0, 1]
    assert (plain.class_names, plain.task) == (("woman", "man"), "gender")


WRITTEN = {
    "BOM and CRLF": b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
    "quotes": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines()),
    "blank lines": "\n" + GOOD.replace("\n", "\n\n"),
}


@pytest.mark.parametrize("events", WRITTEN.values(), ids=WRITTEN)
def test_the_same_rows_written_otherwise_are_read_alike(tmp_path, events):
    usual = read(folder_with(tmp_path))
    assert_same(read(folder_with(tmp_path, events=events)), usual)


BAD_EVENTS = {
    "bad date": (GOOD.replace("6 07:08:60", "6 07:08:61"), r"line 3, column tr_datetime: '6 07:08:61'"),
    "quoted header": ('"' + MUCH.replace(",", '","', 5).replace("\n", '"\n', 1), "line 3, column amount: 'much'"),
    "quoted line end before": (MUCH.replace("-2245.92,", '-2245.92,"8\n8"'), "line 4, column amount: 'much'"),
    "spaces around numbers before": (MUCH.replace("4814", " 4814 "), "line 3, column amount: 'much'"),
    "unclosed quote": (MUCH.replace("4814", '"4814') + "9" * 200_000, "line 2: field larger"),
    "BOM and CRLF": (b"\xef\xbb\xbf" + MUCH.replace("\n", "\r\n").encode(), "line 3, column amount: 'much'"),
    "blank lines, bad amount": (MUCH.replace("\n", "\n\n"), "line 5, column amount: 'much'"),
    "blank lines, short line": (GOOD + "\r\n3,1 00:00:00\n", "line 5: 2 columns instead of 6"),
    "blank lines, missing column": ("\n\n" + GOOD.replace("mcc_code", "mcc"), "line 3: no column mcc_code"),
}
BAD_LABELS = {
    "other customers": ("customer_id,gender\n3,0\n4,1\n", "no customer here has events: 3 is not 1 in trans"),
    "blank line, contradiction": (LABELS + "1,0\n\n1,1\n", "line 6, column gender: customer 1 has two labels"),
}
BAD = [(events, LABELS, message) for events, message in BAD_EVENTS.values()]
BAD += [(GOOD, labels, message) for labels, message in BAD_LABELS.values()]


@pytest.mark.parametrize(("events", "labels", "message"), BAD, ids=[*BAD_EVENTS, *BAD_LABELS])
def test_bad_rows_are_named(tmp_path, events, labels, message):
    with pytest.raises(DataError, match=message):
        read(folder_with(tmp_path, events, labels))


@given(
    st.lists(st.tuples(*(st.integers(0, top) for top in (9999, 23, 59, 60))), min_size=1, max_size=5),
    st.integers(0, 4),
)
def test_times_are_read_exactly(times, skipped):
    column = pa.array([f"{d} {h:02}:{m:02}:{s:02}" for d, h, m, s in [(0, 0, 0, 0)] * skipped + times])
    written, _, valid = bank.CLOCK.read(column[skipped:])
    assert valid.all()
    assert written.tolist() == [d * 86400 + min(h * 3600 + m * 60 + s, 86399) for d, h, m, s in times]


@given(st.text("0123456789: ", max_size=14))
def test_no_other_text_is_a_time(text):
    well_formed = re.fullmatch(r"[0-9]{1,4} ([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)", text)
    assert bank.CLOCK.read(pa.array([text]))[2].tolist() == [bool(well_formed)]


def test_a_folder_without_a_description_is_the_banks(tmp_path):
    with pytest.raises(DataError, match=r"no transactions\.csv or transactions\.csv\.gz.*dataset\.yaml"):
        bank.describe(tmp_path)
    (tmp_path / bank.EVENTS).touch()
    with pytest.raises(DataError, match=r"no file gender_train\.csv; it should hold customer_id, gender"):
        bank.describe(tmp_path).files(tmp_path)


def test_frequent_codes_have_english_names():
    assert bank.code_names("mcc_code")[742] == "Veterinary services"
    assert bank.code_names("tr_type").keys() == set(bank.bank().vocabularies[1])
