"""Own data: what is read, what is counted, what is refused and how."""

import bz2
import contextlib
import dataclasses
import gzip
import lzma
import random

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data import reading
from lib.data.description import DataError
from lib.data.description import read as read_description
from lib.data.histories import MOST_CLASSES
from lib.data.histories import read as read_folder

DESCRIBED = """events: clicks.csv
labels: churn.csv
customer: user
time: when
label: left
categories: [page]
numbers: [price]
"""
HEADER = "price,user,ignored,page,when\n"
GOOD = HEADER + "1.5,ann,,home,2024-05-31\n-2,bob,x,cart,2024-06-01 18:03:59\n0,cy,x,,2024-06-02 18:03\n"
LABELS = "user,left\nann,no\nbob,yes\ncy,perhaps\n"


def read(tmp_path, clicks=GOOD, labels=LABELS, described=DESCRIBED):
    (tmp_path / "dataset.yaml").write_text(described)
    (tmp_path / "clicks.csv").write_bytes(clicks if isinstance(clicks, bytes) else clicks.encode())
    (tmp_path / "churn.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    return read_folder(tmp_path, read_description(tmp_path / "dataset.yaml"))


def test_own_events_are_read(tmp_path):
    histories = read(tmp_path)
    assert histories.customers.tolist() == ["ann", "bob", "cy"]
    assert histories.class_names == ("no", "perhaps", "yes")
    assert histories.labels.tolist() == [0, 2, 1]
    assert histories.vocabularies == (("cart", "home"),)
    assert histories.categories.tolist() == [[2, 24, 4], [1, 18, 5], [0, 18, 6]]
    assert histories.numbers[:, 0] == pytest.approx([np.log(2.5), -np.log(3), 0])
    assert histories.found["events_with_unknown_page"] == 1


def parquet(text, **types):
    """A delimited text as a Parquet file, its columns as text except those that are given types."""
    as_text = pcsv.ConvertOptions(column_types=dict.fromkeys(text.split("\n")[0].split(","), pa.string()) | types)
    target = pa.BufferOutputStream()
    pq.write_table(pcsv.read_csv(pa.py_buffer(text.encode()), convert_options=as_text), target)
    return target.getvalue().to_pybytes()


def zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


COMPRESSED = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
SAME = {name: (compress(GOOD.encode()), "") for name, compress in COMPRESSED.items()} | {
    **{f"gzip and {zeros} zeros": (gzip.compress(GOOD.encode()) + bytes(zeros), "") for zeros in (1, 3, 512)},
    "semicolons, commas": (GOOD.replace(",", ";").replace("1.5", "1,5"), "delimiter: ';'\ndecimal: ','\n"),
    "tabs": (GOOD.replace(",", "\t"), 'delimiter: "\\t"\n'),
    "line breaks in quotes": (GOOD.replace(",x,", ',"a\r\nb, and\nc",'), ""),
    "an unused column twice": (GOOD.replace("ignored,page", "ignored,page,ignored").replace(",2024", ",y,2024"), ""),
    "Parquet of text": (parquet(GOOD), ""),
    "Parquet": (parquet(GOOD, price=pa.float32(), when=pa.timestamp("ns")), ""),
    "Parquet of codes": (parquet(GOOD, page=pa.dictionary(pa.int32(), pa.string()), price=pa.decimal128(5, 1)), ""),
}


@pytest.mark.parametrize(("clicks", "more"), SAME.values(), ids=SAME)
def test_what_says_the_same_is_read_alike_whatever_its_name(tmp_path, clicks, more, monkeypatch):
    plain = read(tmp_path)
    monkeypatch.setattr(reading, "BLOCK", 100)
    for labels in (LABELS, parquet(LABELS)):
        again = read(tmp_path, clicks, labels, DESCRIBED + more)
        for field in dataclasses.fields(plain):
            assert np.array_equal(getattr(again, field.name), getattr(plain, field.name)), field.name


@pytest.mark.parametrize(("name", "compress"), COMPRESSED.items(), ids=COMPRESSED)
def test_compressed_files_are_diagnosed_as_plain_ones(tmp_path, name, compress):
    bad = GOOD.replace("-2", "much").encode()
    with pytest.raises(DataError, match=r"clicks\.csv, line 3, column price: 'much' is not a number; mend the value"):
        read(tmp_path, compress(bad))
    noise = b"".join(b"1,%s,,home,2024-05-31\n" % random.Random(n).randbytes(90).hex().encode() for n in range(999))
    with pytest.raises(DataError, match=rf"clicks\.csv: broken or truncated {name}; export or download it again"):
        read(tmp_path, compress(GOOD.encode() + noise)[:-12])


def test_hours_and_weekdays_are_as_written_and_the_order_is_the_instants(tmp_path):
    rows = "1,ann,,late,2024-05-31T23:30-05:00\n2,ann,,early,2024-06-01 01:00+03:00\n3,bob,,x,2024-06-01T01:00Z\n"
    histories = read(tmp_path, HEADER + rows, "user,left\nann,no\nbob,yes\n")
    assert histories.categories[:2].tolist() == [[1, 1, 5], [2, 23, 4]]
    assert np.diff(histories.days)[0] == pytest.approx(6.5 / 24)
    assert histories.numbers[1, 1] == pytest.approx(np.log1p(6.5 / 24))
    assert histories.found["events_out_of_order"] == 1


def test_a_later_fraction_of_a_second_is_later(tmp_path):
    rows = "1,ann,,a,2024-05-31 08:00:00.9\n1,ann,,b,2024-05-31 08:00:00.1\n1,bob,,c,2024-05-31 08:00:00\n"
    histories = read(tmp_path, HEADER + rows, "user,left\nann,no\nbob,yes\n")
    assert histories.categories[:, 0].tolist() == [2, 1, 3]
    assert (histories.days == histories.days[0]).all()


def test_missing_numbers_are_counted_and_told(tmp_path):
    histories = read(tmp_path, GOOD.replace("-2", ""))
    assert histories.quantities == ("price", "gap", "no price")
    assert histories.numbers[:, [0, 2]] == pytest.approx(np.array([[np.log(2.5), 0], [0, 1], [0, 0]]))
    assert histories.found["events_without_price"] == 1


def test_labels_without_events_are_counted_and_left_out(tmp_path):
    histories = read(tmp_path, labels=LABELS + "dan,never\neve,no\n")
    assert histories.class_names == ("no", "perhaps", "yes")
    assert (histories.found["labels_without_events"], histories.found["labelled"]) == (2, 3)


def test_described_classes_keep_their_order_and_whole_numbers_are_sorted_by_size(tmp_path):
    assert read(tmp_path, labels="user,left\nann,10\nbob,9\ncy,-1\n").class_names == ("-1", "9", "10")
    described = DESCRIBED + "classes: ['yes', 'no', perhaps]\n"
    assert read(tmp_path, described=described).labels.tolist() == [1, 0, 2]


GROUPED = DESCRIBED + "group: household\n"
HOUSEHOLDS = "left,household,user\nno,7,ann\nyes,north,bob\nperhaps,7,cy\nno,9,dan\n"


def test_groups_are_numbered_whatever_they_are_called(tmp_path):
    grouped = read(tmp_path, labels=HOUSEHOLDS, described=GROUPED)
    assert grouped.groups.tolist() == [0, 1, 0]
    assert (grouped.found["groups"], grouped.found["labels_without_events"]) == (2, 1)
    assert read(tmp_path, labels=HOUSEHOLDS).groups is None
    some = read(tmp_path, labels="user,left,household\nann,no,7\ncy,yes,8\n", described=GROUPED)
    assert some.groups.tolist() == [0, -1, 1]


BAD_EVENTS = {
    "empty file": ("", "empty file; the first line must hold user,when,page,price"),
    "no rows": (HEADER, "no rows; one event a row"),
    "a column of the description is missing": (GOOD.replace("page", "url"), "line 1: no column page; the first line"),
    "wrong separator": (GOOD.replace(",", ";"), "separate columns by commas, not ';'"),
    "not UTF-8": (GOOD.encode() + b"1,d\xff,,home,2024-05-31\n", "line 5: not UTF-8"),
    "bad date": (GOOD.replace("06-01 18", "06-31 18"), "line 3, column when: '2024-06-31 18:03:59' is not an ISO"),
    "a zone": (GOOD.replace("18:03:59", "18:03:59Z"), "line 3, column when: .* is not an ISO .* without zone"),
    "a number among dates": (GOOD.replace("2024-06-01 18:03:59", "7"), "line 3, column when: '7' is not an ISO"),
    "a date among numbers": (HEADER + "1,a,,h,3\n1,b,,h,2024-05-31\n", "line 3, column when: '2024-05-31' is not"),
    "seconds for days": (
        HEADER + "1,a,,h,3\n1,b,,h,1717178639\n",
        "line 3, column when: 1717178639.0; it looks like seconds since 1970: write `time_unit: s` in dataset.yaml",
    ),
    "a time that is no number": (HEADER + "1,a,,h,3\n1,b,,h,nan\n", "line 3, column when: nan; give a number of days"),
    "a date too far": (GOOD.replace("2024-06-01", "9999-06-01"), "line 3, column when: .*; give a date less than"),
    "no time": (GOOD.replace("2024-06-01 18:03:59", ""), "line 3, column when: None; fill in the value"),
    "no customer": (GOOD.replace("bob", ""), "line 3, column user: None; fill in the value"),
    "bad number": (GOOD.replace("-2", "much"), "line 3, column price: 'much' is not a number"),
    "infinite number": (GOOD.replace("-2", "-inf"), "line 3, column price: -inf; give a finite number"),
    "a decimal comma": (GOOD.replace("-2", '"-2,5"'), "line 3, column price: '-2,5' is not .*; write `decimal: ','`"),
    "a used column twice": (GOOD.replace("ignored", "page"), "line 1: column page occurs twice; rename or remove one"),
    "another case": (GOOD.replace("user", " User "), "line 1: no column user; the nearest is ' User ': rename it, or"),
    "short line": (GOOD + "1,dan\n", "line 5: 2 columns instead of 5"),
    "zip": (b"PK\x03\x04 and so on", "a zip archive or an Excel file; export it as comma-separated text in UTF-8, or"),
    "UTF-16": (GOOD.encode("utf-16"), "UTF-16 text; export it"),
    "truncated Parquet": (parquet(GOOD)[:-9], "broken or truncated Parquet; export or download it again"),
    "not UTF-8 in Parquet": (parquet(GOOD).replace(b"cart", b"c\xffrt"), "broken or truncated Parquet"),
    "not UTF-8 in the first time": (GOOD.encode().replace(b"-31", b"-\xff31"), "line 2: not UTF-8"),
    "a word in Parquet": (parquet(GOOD.replace("-2", "much")), "row 2, column price: 'much'; store it as double"),
    "another column in Parquet": (parquet(GOOD.replace("price", "Price")), "no column price; the nearest is 'Price'"),
    "no time in Parquet": (parquet(GOOD.replace("when", "hour")), "no column when; the file must hold user,when,page"),
    "a column twice in Parquet": (parquet(GOOD.replace("ignored", "when")), "column when occurs twice"),
    "no customer in Parquet": (parquet(GOOD.replace("bob", "")), "row 2, column user: None; fill in the value"),
    "an hour for a time in Parquet": (
        parquet(HEADER + "1,ann,,home,18:03:59\n", when=pa.time32("s")),
        "column when: holds time32.*; store it as timestamp",
    ),
}
BAD_LABELS = {
    "empty file": ("", "empty file; the first line must hold user,left"),
    "missing column": (LABELS.replace("left", "gone"), "line 1: no column left; the first line must hold user,left"),
    "no labels": ("user,left\n", "no labelled customer"),
    "no label": (LABELS.replace("yes", ""), "line 3, column left: None; fill in the value"),
    "one class": ("user,left\nann,no\nbob,no\n", "column left: only no occurs; two classes are needed"),
    "another spelling": (
        "user,left\nAnn,no\nBob ,yes\ncy,no\n",
        r"column user: 2 of 3 labels have no events: 'Ann' here is not 'ann' in clicks\.csv; write customers alike",
    ),
    "only unknown customers": ("user,left\ndan,no\neve,yes\n", "2 of 2 labels have no events: 'dan' here is not 'ann'"),
    "contradiction": (LABELS + "ann,no\nann,yes\n", "line 6, column left: customer ann has two labels; keep one"),
}
BAD_GROUPS = {
    "no such column": (LABELS, "line 1: no column household; the first line must hold user,left,household"),
    "no group": (HOUSEHOLDS.replace("north", ""), "line 3, column household: None; fill in the value"),
    "two groups": (HOUSEHOLDS + "no,8,ann\n", "line 6, column household: customer ann is in two groups; keep one"),
}
BAD_CLASSES = {
    "outside the classes": ("classes: ['no', 'yes']", "line 4, column left: perhaps; use no or yes"),
    "a class without labels": ("classes: ['no', 'yes', perhaps, never]", "no, perhaps, yes occurs; .*every one of the"),
}
BAD = [(clicks, LABELS, DESCRIBED, rf"clicks\.csv.*{message}") for clicks, message in BAD_EVENTS.values()]
BAD += [(GOOD, labels, DESCRIBED, rf"churn\.csv.*{message}") for labels, message in BAD_LABELS.values()]
BAD += [(GOOD, labels, GROUPED, rf"churn\.csv.*{message}") for labels, message in BAD_GROUPS.values()]
BAD += [(GOOD, LABELS, DESCRIBED + classes, rf"churn\.csv.*{message}") for classes, message in BAD_CLASSES.values()]


@pytest.mark.parametrize(
    ("clicks", "labels", "described", "message"), BAD, ids=[*BAD_EVENTS, *BAD_LABELS, *BAD_GROUPS, *BAD_CLASSES]
)
def test_what_is_wrong_is_named(tmp_path, clicks, labels, described, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, clicks, labels, described)
    assert len(str(caught.value).splitlines()) == 1


def test_a_measurement_is_no_label(tmp_path):
    clicks = HEADER + "".join(f"1,ann{n},,home,{n}\n" for n in range(MOST_CLASSES + 1))
    labels = "user,left\n" + "".join(f"ann{n},{n}\n" for n in range(MOST_CLASSES + 1))
    with pytest.raises(DataError, match="column left: 101 different labels; give at most 100 classes"):
        read(tmp_path, clicks, labels)


def test_rows_on_both_sides_of_a_block_are_one_file(tmp_path, monkeypatch):
    rows = [f"{n},c{n % 7},,page{n % 300},{n % 50}.25" for n in range(3000)]
    labels = "user,left\nc0,a\nc1,b\n"
    whole = read(tmp_path, HEADER + "\n".join(rows), labels)
    monkeypatch.setattr(reading, "BLOCK", 1000)
    parts = read(tmp_path, HEADER + "\n".join(rows), labels)
    for name in ("categories", "numbers", "days", "offsets"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    assert parts.found == whole.found
    with pytest.raises(DataError, match="line 3002, column price: nan; give a finite number"):
        read(tmp_path, HEADER + "\n".join([*rows, "nan,c1,,page,3"]), labels)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(st.sampled_from([*GOOD, "\n", '"', "\x00", "é"]), max_size=80).map("".join),
        st.permutations(GOOD.splitlines(keepends=True)[1:]).map("".join),
    ),
    st.one_of(st.just(LABELS), st.binary(max_size=40).map(lambda junk: b"user,left\n" + junk)),
)
def test_any_bytes_give_valid_arrays_or_the_readers_own_error(tmp_path, junk, labels):
    junk = junk if isinstance(junk, bytes) else (HEADER + junk).encode()
    with contextlib.suppress(DataError):
        assert_valid(read(tmp_path, junk, labels))


def assert_valid(histories):
    assert np.isfinite(histories.numbers).all()
    assert (np.diff(histories.offsets) > 0).all()
    assert histories.offsets[-1] == len(histories.categories) == len(histories.days)
    assert (histories.categories.max(0) < histories.cardinalities).all()
    assert histories.labels.max() < histories.classes
