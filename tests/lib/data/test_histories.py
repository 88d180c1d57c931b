import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data import histories as stored
from lib.data.histories import UNKNOWN_HOUR
from study import bank


def read(folder):
    return stored.read(folder, bank.describe(folder))


def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second, field.name
        assert getattr(first, "dtype", None) == getattr(second, "dtype", None), field.name


def test_events_by_hand(tmp_path):
    known_mcc, known_type = bank.bank().vocabularies[0][2], bank.bank().vocabularies[1][4]
    header = "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
    rows = f"8,0 00:00:00,{known_mcc},{known_type},0,\n9,5 10:00:60,{known_mcc},{known_type},0,\n"
    rows += f"7,3 12:00:00,{known_mcc},{known_type},{-100 * bank.ROUBLE},\n7,2 00:00:00,-5,{known_type},0.0,T\n"
    (tmp_path / bank.EVENTS).write_text(header + rows)
    (tmp_path / bank.LABELS).write_text("customer_id,gender\n7,1\n8,0\n")
    encoded = read(tmp_path)
    # Sorted in time; code -5 is unknown; day 2 is a Sunday, day 3 a Monday; midnight is an unknown hour.
    assert encoded.customers.tolist() == [7, 8, 9]
    assert encoded.offsets.tolist() == [0, 2, 3, 4]
    assert encoded.categories.tolist() == [[0, 5, 24, 6], [3, 5, 12, 0], [3, 5, 24, 4], [3, 5, 10, 2]]
    assert encoded.numbers[:3] == pytest.approx(np.array([[0, 0], [-np.log(101), np.log(2.5)], [0, 0]]), rel=1e-6)
    assert encoded.days.tolist() == [2, 3.5, 0, 5 + (10 * 3600 + 60) / 86400]
    assert encoded.labels.tolist() == [1, 0, -1]
    assert (encoded.kinds, encoded.quantities) == (("mcc_code", "tr_type", "hour", "weekday"), ("amount", "gap"))
    assert encoded.cardinalities == (185, 159, 25, 7)
    sizes = {"events": 4, "customers": 3, "labelled": 2, "shortest_history": 1, "longest_history": 2}
    sizes |= {"first_day": 0, "last_day": 5, "distinct_mcc_code": 2, "distinct_tr_type": 1}
    odd = {"events_out_of_order": 1, "customers_without_label": 1, "events_at_unknown_midnight": 2}
    assert encoded.found == sizes | odd | {"events_with_unknown_mcc_code": 1, "events_with_unknown_tr_type": 0}


def test_other_columns_and_three_classes(visits, visits_folder):
    rows = pd.read_csv(visits_folder / "visits.csv", parse_dates=["admitted"])
    rows = rows.sort_values(["patient", "admitted"], kind="stable").reset_index(drop=True)
    assert visits.customers.tolist() == sorted(rows["patient"].unique())
    assert visits.class_names == ("ill again", "left", "recovered")
    assert (visits.classes, visits.task) == (3, "outcome")
    assert np.bincount(visits.labels + 1).tolist() == [3, 15, 15, 15]
    assert (*visits.kinds, *visits.quantities) == ("ward", "physician", "hour", "weekday", "pressure", "bill", "gap")
    assert visits.vocabularies[0] == tuple(sorted(rows["ward"].astype(str).unique()))
    assert [visits.vocabularies[0][code - 1] for code in visits.categories[:, 0]] == rows["ward"].astype(str).tolist()
    assert visits.categories[:, 3].tolist() == rows["admitted"].dt.day_of_week.tolist()
    hours = rows["admitted"].dt.hour.where(rows["admitted"].dt.time.astype(str) != "00:00:00", UNKNOWN_HOUR)
    assert visits.categories[:, 2].tolist() == hours.tolist()
    np.testing.assert_allclose(visits.numbers[:, 1], np.log1p(rows["bill"]), rtol=1e-6)
    first = pd.Timestamp("1970-01-01")
    np.testing.assert_allclose(visits.days, (rows["admitted"] - first).dt.total_seconds() / 86400, rtol=1e-15)


def changed(folder, target, **columns):
    """A copy of the visits with columns of the events replaced."""
    folder = shutil.copytree(folder, target)
    pd.read_csv(folder / "visits.csv").assign(**columns).to_csv(folder / "visits.csv", index=False)
    return read(folder)


def test_context_is_what_the_times_tell(visits, visits_folder, tmp_path):
    day = np.arange(len(visits.days)) % 300
    dates = changed(visits_folder, tmp_path / "dates", admitted=[str(np.datetime64("2024-01-01") + n) for n in day])
    assert dates.kinds == ("ward", "physician", "weekday")
    numbers = changed(visits_folder, tmp_path / "numbers", admitted=day + 0.5)
    assert numbers.kinds == ("ward", "physician")
    assert set(numbers.days % 1) == {0.5}


def test_categories_widen_for_large_vocabularies_and_missing_codes_are_unknown(visits, visits_folder, tmp_path):
    codes = np.arange(len(visits.days)).astype(object)
    codes[7] = None
    wide = changed(visits_folder, tmp_path / "wide", ward=codes)
    assert wide.categories.dtype == np.uint16
    assert wide.cardinalities[0] == len(visits.days)
    assert sorted(wide.categories[:, 0]) == list(range(len(visits.days)))
    assert wide.found["events_with_unknown_ward"] == 1


def test_labels_do_not_enter_but_as_labels(visits, visits_folder, tmp_path):
    folder = shutil.copytree(visits_folder, tmp_path / "relabelled")
    labels = pd.read_csv(folder / "outcomes.csv")
    labels.assign(outcome=labels["outcome"].to_numpy()[::-1]).to_csv(folder / "outcomes.csv", index=False)
    other = read(folder)
    assert not np.array_equal(other.labels, visits.labels)
    assert_same(dataclasses.replace(other, labels=visits.labels, checksum=visits.checksum), visits)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5) | st.just(2**61)), min_size=1, max_size=30))
def test_order_is_by_customer_then_time_then_place(rows):
    rank, seconds = (np.array(column) for column in zip(*rows, strict=True))
    assert stored.time_order(rank, seconds).tolist() == sorted(range(len(rows)), key=lambda place: rows[place])


@pytest.mark.parametrize(("name", "groups"), [("histories", None), ("visits", np.arange(48) // 3)])
def test_saved_histories_come_back_mapped_and_nothing_is_left_over(name, groups, request, tmp_path):
    histories = dataclasses.replace(request.getfixturevalue(name), groups=groups)
    stored.save(histories, tmp_path / "cache")
    stored.save(histories, tmp_path / "cache")
    again = stored.load(tmp_path / "cache")
    assert_same(again, histories)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "cache"}
    for array in (again.categories, again.numbers, again.days):
        assert not array.flags.owndata
        assert not array.flags.writeable
