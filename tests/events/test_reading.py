import contextlib
import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.events import bank, encoding, reading
from lib.events.dataset import DataError

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
    return encoding.read(tmp_path, bank.describe(tmp_path), "")


def test_own_events_are_read(tmp_path):
    histories = read(tmp_path)
    assert histories.customers.tolist() == ["ann", "bob", "cy"]
    assert histories.class_names == ("no", "perhaps", "yes")
    assert histories.labels.tolist() == [0, 2, 1]
    assert histories.vocabularies == (("cart", "home"),)
    assert histories.categories.tolist() == [[2, 24, 4], [1, 18, 5], [0, 18, 6]]
    assert histories.numbers[:, 0] == pytest.approx([np.log(2.5), -np.log(3), 0])
    assert histories.found["events_with_unknown_page"] == 1


def test_gzipped_events_are_read_alike(tmp_path):
    plain = read(tmp_path)
    (tmp_path / "clicks.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    zipped = read(tmp_path, clicks="", described=DESCRIBED.replace("clicks.csv", "clicks.csv.gz"))
    assert np.array_equal(zipped.categories, plain.categories)


def test_whole_numbers_are_classes_in_order_of_their_size(tmp_path):
    assert read(tmp_path, labels="user,left\nann,10\nbob,9\ncy,-1\n").class_names == ("-1", "9", "10")


def test_described_classes_keep_their_order(tmp_path):
    described = DESCRIBED + "classes: ['yes', 'no', perhaps]\n"
    assert read(tmp_path, described=described).labels.tolist() == [1, 0, 2]


BAD_EVENTS = {
    "empty file": ("", "clicks.csv: empty file; the first line must hold user,when,page,price"),
    "no rows": (HEADER, "no rows; one event a row"),
    "a column of the description is missing": (GOOD.replace("page", "url"), "line 1: no column page; the first line"),
    "wrong separator": (GOOD.replace(",", ";"), "separate columns by commas, not ';'"),
    "not UTF-8": (GOOD.encode() + b"1,d\xff,,home,2024-05-31\n", "line 5: not UTF-8"),
    "bad date": (GOOD.replace("06-01 18", "06-31 18"), "line 3, column when: '2024-06-31 18:03:59' is not an ISO"),
    "a zone": (
        GOOD.replace("18:03:59", "18:03:59Z"),
        "line 3, column when: .* is not an ISO .* without zone",
    ),
    "a number among dates": (GOOD.replace("2024-06-01 18:03:59", "7"), "line 3, column when: '7' is not an ISO"),
    "a date among numbers": (
        HEADER + "1,a,,h,3\n1,b,,h,2024-05-31\n",
        "line 3, column when: '2024-05-31' is not",
    ),
    "seconds for days": (
        HEADER + "1,a,,h,3\n1,b,,h,1717178639\n",
        "line 3, column when: 1717178639.0; give",
    ),
    "a time that is no number": (HEADER + "1,a,,h,3\n1,b,,h,nan\n", "line 3, column when: nan; give a number of days"),
    "a date too far": (GOOD.replace("2024-06-01", "9999-06-01"), "line 3, column when: .*; give a date less than"),
    "no time": (GOOD.replace("2024-06-01 18:03:59", ""), "line 3, column when: None; fill in the value"),
    "no customer": (GOOD.replace("bob", ""), "line 3, column user: None; fill in the value"),
    "bad number": (GOOD.replace("-2", "much"), "line 3, column price: 'much' is not a number"),
    "infinite number": (GOOD.replace("-2", "-inf"), "line 3, column price: -inf; give a finite number"),
    "no number": (GOOD.replace("-2", ""), "line 3, column price: None; fill in the value"),
    "short line": (GOOD + "1,dan\n", "line 5: 2 columns instead of 5"),
}


@pytest.mark.parametrize(("clicks", "message"), BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_bad_events_are_named(tmp_path, clicks, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, clicks=clicks)
    assert str(caught.value).startswith(f"{tmp_path}/clicks.csv")
    assert len(str(caught.value).splitlines()) == 1


def test_truncated_gzip_is_named(tmp_path):
    (tmp_path / "clicks.csv.gz").write_bytes(gzip.compress(GOOD.encode() * 1000)[:-12])
    with pytest.raises(DataError, match=r"clicks\.csv\.gz: broken or truncated gzip; export or download it again"):
        read(tmp_path, described=DESCRIBED.replace("clicks.csv", "clicks.csv.gz"))


MANY = "user,left\n" + "".join(f"ann{n},{n}\n" for n in range(reading.MOST_CLASSES + 1))
BAD_LABELS = {
    "empty file": ("", "empty file; the first line must hold user,left"),
    "missing column": (LABELS.replace("left", "gone"), "line 1: no column left; the first line must hold user,left"),
    "no labels": ("user,left\n", "no labelled customer"),
    "no label": (LABELS.replace("yes", ""), "line 3, column left: None; fill in the value"),
    "one class": ("user,left\nann,no\nbob,no\n", "column left: only no occurs; two classes are needed"),
    "unknown customer": (LABELS + "dan,no\n", r"line 5, column user: dan has no row in clicks\.csv \(1 such labels\)"),
    "contradiction": (LABELS + "ann,no\nann,yes\n", "line 6, column left: customer ann has two labels; keep one"),
    "a measurement for a label": (MANY, "column left: 101 different labels; give at most 100 classes"),
}


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_named(tmp_path, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, labels=labels)
    assert str(caught.value).startswith(f"{tmp_path}/churn.csv")


def test_labels_outside_the_described_classes_and_classes_without_labels_are_named(tmp_path):
    with pytest.raises(DataError, match="line 4, column left: perhaps; use no or yes"):
        read(tmp_path, described=DESCRIBED + "classes: ['no', 'yes']\n")
    with pytest.raises(DataError, match=r"only no, perhaps, yes occurs; .*every one of the described"):
        read(tmp_path, described=DESCRIBED + "classes: ['no', 'yes', perhaps, never]\n")


def test_rows_on_both_sides_of_a_block_are_one_file(tmp_path, monkeypatch):
    rows = [f"{n},c{n % 7},,page{n % 300},{n % 50}.25" for n in range(3000)]
    labels = "user,left\nc0,a\nc1,b\n"
    whole = read(tmp_path, HEADER + "\n".join(rows), labels)
    monkeypatch.setattr(reading.delimited, "BLOCK", 1000)
    parts = read(tmp_path, HEADER + "\n".join(rows), labels)
    for name in ("categories", "numbers", "days", "offsets"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    assert parts.found == whole.found
    with pytest.raises(DataError, match="line 3002, column price: nan; give a finite number"):
        read(tmp_path, HEADER + "\n".join([*rows, "nan,c1,,page,3"]), labels)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
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


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), max_size=20))
def test_equal_rows_have_equal_digests(rows):
    columns = [np.array([row[place] for row in rows], np.int64) for place in range(2)]
    digest = reading.row_digest(columns)
    assert len({*zip(rows, digest.tolist(), strict=True)}) == len(set(rows)) == len(set(digest.tolist()))
