import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import data
from lib.bank import DataError

COLUMNS = ["customer_id", "day", "second", "mcc_code", "tr_type", "amount", "term_id"]


def test_one_event_by_hand():
    known_mcc, known_type = data.vocabulary("mcc_code")[2], data.vocabulary("tr_type")[4]
    rows = [(7, 3, 43200, known_mcc, known_type, -100 * data.ROUBLE, None), (7, 2, 0, -5, known_type, 0.0, "T")]
    labels = pd.DataFrame({"customer_id": [7], "gender": [1]})
    encoded = data.encode(pd.DataFrame(rows, columns=COLUMNS), labels, "", {})
    # Sorted in time; code -5 is unknown; day 2 is a Sunday, day 3 a Monday; midnight is an unknown hour.
    assert encoded.categories.tolist() == [[0, 5, 24, 6], [3, 5, 12, 0]]
    assert encoded.numbers == pytest.approx(np.array([[0, 0], [-np.log(101), np.log(2.5)]]), rel=1e-6)
    assert encoded.labels.tolist() == [1]
    assert encoded.found == {"events_with_unknown_mcc_code": 1, "events_with_unknown_tr_type": 0}


def test_saved_histories_come_back_and_are_never_half_written(histories, tmp_path):
    data.save(histories, tmp_path / "cache")
    data.save(histories, tmp_path / "cache")
    again = data.load(tmp_path / "cache")
    for field in dataclasses.fields(histories):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(histories, field.name))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_prepare_notices_changed_files(bank_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data.paths, "PROCESSED", tmp_path)
    first = data.prepare(str(bank_folder))
    assert data.prepare(str(bank_folder)).checksum == first.checksum
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DataError, match="no such folder"):
        data.prepare(str(bank_folder / "nowhere"))


@pytest.mark.parametrize("place", ["PROCESSED", "RAW"])
def test_a_damaged_cache_is_named_and_made_anew(place, tmp_path, monkeypatch, capsys):
    for name in ("PROCESSED", "RAW"):
        monkeypatch.setattr(data.paths, name, tmp_path / name)
    first = data.prepare("synthetic", 20)
    assert capsys.readouterr().err == ""
    (folder,) = (tmp_path / place).iterdir()
    path = folder / {"PROCESSED": "events.parquet", "RAW": "transactions.csv.gz"}[place]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    again = data.prepare("synthetic", 20)
    assert capsys.readouterr().err == f"{path}: missing or damaged, made anew\n"
    assert path.read_bytes() == content
    assert again.checksum == first.checksum
    np.testing.assert_array_equal(again.numbers, first.numbers)


@given(st.integers(2, 6), st.integers(0, 100))
def test_folds_cover_every_labelled_customer_once_and_are_stratified(count, seed):
    labels = np.array([0] * 13 + [1] * 11 + [-1] * 5, dtype=np.int8)
    empty = np.zeros(0)
    histories = data.Histories(empty, labels, empty, empty, empty, empty, "", {})
    folds = data.folds(histories, count, seed)
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(24))
    for train, test in folds:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 24
        assert abs((labels[test] == 1).sum() - 11 / count) < 1


def test_more_folds_than_customers_of_a_class_are_refused(histories):
    with pytest.raises(DataError, match="12 customers, 13 folds need 13"):
        data.folds(histories, 13, 0)


def test_a_batch_holds_the_last_events_and_masks_the_rest(histories):
    customers = np.array([0, 3])
    starts, lengths = data.last_events(histories, customers, 8)
    batch = data.collate(histories, customers, starts, lengths)
    assert batch.key_mask.sum(1).tolist() == [1, 8]
    end = histories.offsets[4]
    np.testing.assert_array_equal(batch.categories[1], histories.categories[end - 8 : end])
    np.testing.assert_array_equal(batch.numbers[1], histories.numbers[end - 8 : end])
    assert batch.days[1, -1] == 0
    assert not batch.categories[0, 1:].any()
    assert not batch.numbers[0, 1:].any()
    assert batch.labels.tolist() == [0, 1]


@given(st.integers(0, 1000), st.integers(1, 80), st.floats(0.05, 1))
def test_random_slices_stay_inside_the_history(histories, seed, limit, shortest):
    customers = np.arange(len(histories.customers))
    starts, lengths = data.random_slices(histories, customers, limit, shortest, np.random.default_rng(seed))
    whole = np.minimum(histories.lengths, limit)
    assert (lengths >= 1).all()
    assert (lengths >= np.ceil(whole * shortest) - 1e-9).all()
    assert (lengths <= whole).all()
    assert (starts >= histories.offsets[:-1]).all()
    assert (starts + lengths <= histories.offsets[1:]).all()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.integers(1, 16), st.booleans())
def test_batches_cover_everyone_once(lengths, size, shuffled):
    lengths = np.array(lengths)
    groups = data.batches(lengths, size, np.random.default_rng(0) if shuffled else None)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert max(map(len, groups)) <= size
