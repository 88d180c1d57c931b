"""The bank's format, and delimited text as people write it."""

import dataclasses
import gzip

import numpy as np
import pytest

from lib.data import description
from lib.data.description import DataError
from lib.data.histories import read
from lib.data.reading import table

EVENTS = "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
GOOD = EVENTS + "1,0 10:23:26,4814,1030,-2245.92,\n2,6 07:08:60,6011,7010,56147.89,T1\n"
MUCH = GOOD.replace("56147.89", "much")
LABELS = "customer_id,gender\n1,0\n2,1\n"


def folder_with(tmp_path, events=GOOD, labels=LABELS):
    (tmp_path / description.EVENTS).write_bytes(events if isinstance(events, bytes) else events.encode())
    (tmp_path / description.LABELS).write_text(labels)
    return tmp_path


def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second


def test_reads_plain_and_gzipped_alike(tmp_path):
    folder = folder_with(tmp_path)
    plain = read(folder)
    (folder / f"{description.EVENTS}.gz").write_bytes(gzip.compress(GOOD.encode()))
    (folder / description.EVENTS).unlink()
    assert table(folder, description.describe(folder), "events").where(1) == "line 3"
    assert_same(read(folder), plain)
    assert plain.days.tolist() == [(10 * 3600 + 23 * 60 + 26) / 86400, 6 + (7 * 3600 + 9 * 60) / 86400]
    assert plain.labels.tolist() == [0, 1]
    assert (plain.class_names, plain.task) == (("woman", "man"), "gender")
    assert plain.found["events_at_second_60"] == plain.found["events_without_term_id"] == 1


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
    "a space for a number": (GOOD.replace("6011", " "), "line 3, column mcc_code: ' '"),
    "unclosed quote": (MUCH.replace("4814", '"4814') + "9" * 200_000, "line 2: field larger"),
    "BOM and CRLF": (b"\xef\xbb\xbf" + MUCH.replace("\n", "\r\n").encode(), "line 3, column amount: 'much'"),
    "blank lines, bad amount": (MUCH.replace("\n", "\n\n"), "line 5, column amount: 'much'"),
    "blank lines, short line": (GOOD + "\r\n3,1 00:00:00\n", "line 5: 2 columns instead of 6"),
    "blank lines, missing amount": ("\n" + GOOD.replace("56147.89", ""), "line 4, column amount: None"),
    "blank lines, missing column": ("\n\n" + GOOD.replace("mcc_code", "mcc"), "line 3: no column mcc_code"),
}
BAD_LABELS = {
    "outside the classes": (LABELS + "1,2\n", r"line 4, column gender: 2; use 0 \(woman\) or 1 \(man\)"),
    "other customers": ("customer_id,gender\n3,0\n4,1\n", "2 of 2 labels have no events: 3 here is not 1 in trans"),
    "blank line, contradiction": (LABELS + "1,0\n\n1,1\n", "line 6, column gender: customer 1 has two labels"),
}
BAD = [(events, LABELS, message) for events, message in BAD_EVENTS.values()]
BAD += [(GOOD, labels, message) for labels, message in BAD_LABELS.values()]


@pytest.mark.parametrize(("events", "labels", "message"), BAD, ids=[*BAD_EVENTS, *BAD_LABELS])
def test_bad_rows_are_named(tmp_path, events, labels, message):
    with pytest.raises(DataError, match=message):
        read(folder_with(tmp_path, events, labels))
