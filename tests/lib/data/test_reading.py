"""Own data: what is read, what is counted, what is refused and how."""

import bz2
import contextlib
import dataclasses
import gzip
import random
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data import reading
from lib.data.description import DataError, Description
from lib.data.description import read as read_description
from lib.data.histories import MOST_CLASSES
from lib.data.histories import read as read_folder

FILES = "events: clicks.csv\nlabels: churn.csv\n"
DESCRIBED = FILES + "customer: user\ntime: when\nlabel: left\ncategories: [page]\nnumbers: [price]\n"
HEADER = "price,user,ignored,page,when\n"
GOOD = HEADER + "1.5,ann,,home,2024-05-31\n-2,bob,x,cart,2024-06-01 18:03:59\n0,cy,x,,2024-06-02 18:03\n"
LABELS = "user,left\nann,no\nbob,yes\ncy,perhaps\n"


def read(tmp_path, clicks=GOOD, labels=LABELS, described=DESCRIBED):
    (tmp_path / "dataset.yaml").write_text(described)
    (tmp_path / "clicks.csv").write_bytes(clicks if isinstance(clicks, bytes) else clicks.encode())
    (tmp_path / "churn.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    return read_folder(tmp_path, read_description(tmp_path / "dataset.yaml"))


def assert_same(one, other):
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_own_events_are_read_and_what_is_odd_is_counted(tmp_path):
    histories = read(tmp_path, GOOD.replace("0,cy", ",cy"), LABELS + "dan,never\neve,no\n")
    assert histories.customers.tolist() == ["ann", "bob", "cy"]
    assert histories.class_names == ("no", "perhaps", "yes")
    assert histories.labels.tolist() == [0, 2, 1]
    assert histories.vocabularies == (("cart", "home"),)
    assert histories.categories.tolist() == [[2, 24, 4], [1, 18, 5], [0, 18, 6]]
    assert histories.quantities == ("price", "gap", "no price")
    assert histories.numbers == pytest.approx(np.array([[np.log(2.5), 0, 0], [-np.log(3), 0, 0], [0, 0, 1]]))
    odd = {"labelled": 3, "labels_without_events": 2, "events_with_unknown_page": 1, "events_without_price": 1}
    assert histories.found | odd == histories.found


def parquet(text, **types):
    """A delimited text as a Parquet file, its columns as text except those that are given types."""
    as_text = pcsv.ConvertOptions(column_types=dict.fromkeys(text.split("\n")[0].split(","), pa.string()) | types)
    target = pa.BufferOutputStream()
    pq.write_table(pcsv.read_csv(pa.py_buffer(text.encode()), convert_options=as_text), target)
    return target.getvalue().to_pybytes()


COMPRESSED = {"gzip": gzip.compress, "bz2": bz2.compress, "zstd": partial(pa.compress, codec="zstd", asbytes=True)}
SAME = {name: (compress(GOOD.encode()), "") for name, compress in COMPRESSED.items()} | {
    **{f"gzip and {zeros} zeros": (gzip.compress(GOOD.encode()) + bytes(zeros), "") for zeros in (1, 512)},
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
        assert_same(read(tmp_path, clicks, labels, DESCRIBED + more), plain)


@pytest.mark.parametrize(("name", "compress"), COMPRESSED.items(), ids=COMPRESSED)
def test_compressed_files_are_diagnosed_as_plain_ones(tmp_path, name, compress):
    bad = GOOD.replace("-2", "much").encode()
    with pytest.raises(DataError, match=r"clicks\.csv, line 3, column price: 'much' is not a number; mend the value"):
        read(tmp_path, compress(bad))
    noise = b"".join(b"1,%s,,home,2024-05-31\n" % random.Random(n).randbytes(90).hex().encode() for n in range(999))
    with pytest.raises(DataError, match=rf"clicks\.csv: unreadable, broken or truncated {name}; export or"):
        read(tmp_path, compress(GOOD.encode() + noise)[:-12])


def test_hours_and_weekdays_are_as_written_and_the_order_is_the_instants_to_fractions_of_a_second(tmp_path):
    late = "{},ann,,{},2024-05-31T23:30:00.{}-05:00\n".format
    rows = late(1, "z", 9) + late(2, "y", 1) + "3,ann,,x,2024-06-01 01:00+03:00\n4,bob,,x,2024-06-01T01:00Z\n"
    histories = read(tmp_path, HEADER + rows, "user,left\nann,no\nbob,yes\n")
    assert histories.categories[:3].tolist() == [[1, 1, 5], [2, 23, 4], [3, 23, 4]]
    assert np.diff(histories.days[:3]) == pytest.approx([6.5 / 24, 0])
    assert histories.numbers[:3, 1] == pytest.approx([0, np.log1p(6.5 / 24), 0])
    assert histories.found["events_out_of_order"] == 2


GROUPED = DESCRIBED + "group: household\n"
HOUSEHOLDS = "left,household,user\nno,7,ann\nyes,north,bob\nperhaps,7,cy\nno,9,dan\n"


def test_described_classes_keep_their_order_and_groups_are_numbered_whatever_they_are_called(tmp_path):
    grouped = read(tmp_path, labels=HOUSEHOLDS, described=GROUPED + "classes: ['yes', 'no', perhaps]\n")
    assert grouped.labels.tolist() == [1, 0, 2]
    assert grouped.groups.tolist() == [0, 1, 0]
    assert read(tmp_path, labels=HOUSEHOLDS).groups is None
    some = read(tmp_path, labels="user,left,household\nann,no,7\ncy,yes,8\n", described=GROUPED)
    assert some.groups.tolist() == [0, -1, 1]


BAD_EVENTS = {
    "empty file": ("", "empty file; the first line must hold user,when,page,price"),
    "no rows": (HEADER, "no rows; fill them in"),
    "a missing column": (
        GOOD.replace("page", "url"),
        "line 1: no column page; needed are user,when,page,price: rename",
    ),
    "bad date": (GOOD.replace("06-01 18", "06-31 18"), "line 3, column when: '2024-06-31 18:03:59' is not an ISO"),
    "seconds": (
        HEADER + "1,a,,h,3\n1,b,,h,1717178639\n",
        "3, column when: 1717178639.0; .* seconds .*: write `time_unit: s`",
    ),
    "a time that is no number": (HEADER + "1,a,,h,3\n1,b,,h,nan\n", "line 3, column when: nan; give a number of days"),
    "a date too far": (GOOD.replace("2024-06-01", "9999-06-01"), "line 3, column when: .* from 1678 to 2261"),
    "no time": (GOOD.replace("2024-06-01 18:03:59", ""), "line 3, column when: None; fill in the value"),
    "bad number": (GOOD.replace("-2", "much"), "line 3, column price: 'much' is not a number"),
    "infinite number": (GOOD.replace("-2", "-inf"), "line 3, column price: -inf; give a finite number"),
    "a decimal comma": (GOOD.replace("-2", '"-2,5"'), "line 3, column price: '-2,5' is not .*; write `decimal: ','`"),
    "a used column twice": (GOOD.replace("ignored", "page"), "line 1: column page occurs twice; rename or remove one"),
    "another case": (GOOD.replace("user", " User "), "line 1: no column user; the nearest is ' User ': rename it, or"),
    "short line": (GOOD + "1,dan\n", "line 5: 2 columns instead of 5"),
    "zip": (b"PK\x03\x04 and so on", "a zip archive or an Excel file; export it as comma-separated text in UTF-8, or"),
    "xz": (b"\xfd7zXZ\x00 and so on", "an xz archive; export it"),
    "UTF-16": (GOOD.encode("utf-16"), "UTF-16 text; export it"),
    "truncated Parquet": (parquet(GOOD)[:-9], "broken or truncated Parquet; export or download it again"),
    "not UTF-8 in the first time": (GOOD.encode().replace(b"-31", b"-\xff31"), "line 2: not UTF-8"),
    "a word in Parquet": (parquet(GOOD.replace("-2", "much")), "column price: .* 'much' .*; store it as double"),
    "no customer in Parquet": (parquet(GOOD.replace("bob", "")), "row 2, column user: None; fill in the value"),
}
BAD_LABELS = {
    "one class": ("user,left\nann,no\nbob,no\n", "column left: only no occurs; two classes are needed"),
    "another spelling": (
        "user,left\n0ann,no\n0bob,yes\n",
        "no customer here has events: '0ann' is not 'ann' in clicks",
    ),
    "contradiction": (LABELS + "ann,no\nann,yes\n", "line 6, column left: customer ann has two labels; keep one"),
}
BAD_GROUPS = {
    "no group": (HOUSEHOLDS.replace("north", ""), "line 3, column household: None; fill in the value"),
    "two groups": (HOUSEHOLDS + "no,8,ann\n", "line 6, column household: customer ann is in two groups; keep one"),
}
BAD = [(clicks, LABELS, DESCRIBED, rf"clicks\.csv.*{message}") for clicks, message in BAD_EVENTS.values()]
BAD += [(GOOD, labels, DESCRIBED, rf"churn\.csv.*{message}") for labels, message in BAD_LABELS.values()]
BAD += [(GOOD, labels, GROUPED, rf"churn\.csv.*{message}") for labels, message in BAD_GROUPS.values()]
BAD += [(GOOD, LABELS, DESCRIBED + "classes: ['no', 'yes']", "line 4, column left: perhaps; use no or yes")]
BAD += [(GOOD, LABELS, DESCRIBED + "classes: ['no', 'yes', perhaps, never]", "only no, perhaps, yes occurs")]


@pytest.mark.parametrize(("clicks", "labels", "described", "message"), BAD, ids=[message for *_, message in BAD])
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
    assert_same(read(tmp_path, HEADER + "\n".join(rows), labels), whole)
    with pytest.raises(DataError, match="line 3002, column price: nan; give a finite number"):
        read(tmp_path, HEADER + "\n".join([*rows, "nan,c1,,page,3"]), labels)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
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
        histories = read(tmp_path, junk, labels)
        assert np.isfinite(histories.numbers).all()
        assert (np.diff(histories.offsets) > 0).all()
        assert histories.offsets[-1] == len(histories.categories) == len(histories.days)
        assert (histories.categories.max(0) < histories.cardinalities).all()
        assert histories.labels.max() < histories.classes


DAY = "2024-05-31"
CELLS = {  # cells, unit, what they say as written, and how much later than that the instant is, in seconds
    "days": (["0.0", "-1.5", "2.25", "3.5e-05"], None, [0, -129600, 194400, 3], [0.5, 0.5, 0.5, 0.524]),
    "dates": (["1970-01-02", "1969-12-31 23:59:59", f"{DAY} 18:03:59.9"], None, [86400, -1, 1717178639], [0, 0, 0.9]),
    "compact dates": (["20240531", "19700102"], None, [1717113600, 86400], [0, 0]),
    "compact times": (["20240531180359", f"{DAY} 18:03:59.5"], None, 2 * [1717178639], [0, 0.5]),
    "basic ISO": (["20240531T180359Z", "20240531T180359+0200"], None, 2 * [1717178639], [0, -7200]),
    "zones": (
        [f"{DAY}T18:03:59.25+03:00", f"{DAY} 18:03:59 UTC", f"{DAY} 18:03:59 -05"],
        None,
        3 * [1717178639],
        [0.25 - 10800, 0, 18000],
    ),
    "nanoseconds": ([f"{DAY} 18:03:59.000000001"], None, [1717178639], [1e-9]),
    "epoch seconds": (["1717178639.25", "-1"], "s", [1717178639, -1], [0.25, 0]),
    "epoch milliseconds": (["1717178639001", "1717178639000.0"], "ms", 2 * [1717178639], [0.001, 0]),
    "epoch microseconds": (["1717178639000001"], "us", [1717178639], [1e-6]),
    "epoch nanoseconds": (["1717178639000000001"], "ns", [1717178639], [1e-9]),
}


def read_times(tmp_path, cells, unit):
    """The clock that is chosen for the cells, times as written and instants in nanoseconds, and which are valid."""
    (tmp_path / "file.csv").write_text("\n".join(["when", *cells]))
    file = reading.Delimited(tmp_path / "file.csv", Description("", "", "", "", "", ()))
    clock = reading.clock_of(file, "when", unit)
    ((_, batch),) = file.batches({"when": clock.kind})
    return clock, *clock.read(batch["when"])


@pytest.mark.parametrize(("cells", "unit", "said", "later"), CELLS.values(), ids=CELLS)
def test_times_by_hand(tmp_path, cells, unit, said, later):
    _, written, instants, valid = read_times(tmp_path, cells, unit)
    assert valid.all()
    assert (written // 10**9).tolist() == said
    error = (
        1e-12 if unit in (None, "ns") else 1.28e-7
    )  # half of the last of a float's 53 bits, in nanoseconds since 1970
    assert ((instants - written // 10**9 * 10**9) / 1e9).tolist() == pytest.approx(later, rel=1e-6, abs=error)


@pytest.mark.parametrize(("unit", "digits"), {"s": 0, "ms": 3, "us": 6, "ns": 9}.items())
def test_numbers_too_large_for_days_are_recognised(tmp_path, unit, digits):
    cell = "1717178639" + "0" * digits
    clock, *_, valid = read_times(tmp_path, [cell, "-1e5", "1e5", "nan", "inf"], None)
    assert not valid.any()
    assert f"write `time_unit: {unit}` in" in clock.remedy(float(cell))
    assert "give a number of days" in clock.remedy(float("nan"))


@pytest.mark.parametrize(("zone", "later"), [("UTC", 0), ("+03:00", 3)])
def test_parquets_instants_are_written_in_their_zone(zone, later):
    instant = 1717192800 * 10**9
    written, instants, _ = reading.stamps(zone).read(pa.array([instant], pa.timestamp("ns", zone)))
    assert (written.tolist(), instants.tolist()) == ([instant + later * 3600 * 10**9], [instant])
