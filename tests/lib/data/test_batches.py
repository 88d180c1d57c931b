import dataclasses
import itertools
import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import paths
from lib.data.batches import collate, last_events, length_batches, random_slices, real_share, stratified_folds
from lib.data.description import DataError
from lib.data.histories import Histories
from study.sources import PUBLIC_FACTS, main, prepare, verify_public

NOTHING = np.zeros(0)
EMPTY = Histories(*[NOTHING] * 6, "", {}, "sex", ("a", "b"), (), (), ())


def test_prepare_notices_changed_files(bank_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROCESSED", tmp_path)
    first = prepare(str(bank_folder))
    assert prepare(str(bank_folder)).checksum == first.checksum
    assert len(list(tmp_path.glob("[!.]*"))) == 1
    with pytest.raises(DataError, match="no such folder"):
        prepare(str(bank_folder / "nowhere"))


@pytest.fixture
def processed(tmp_path, monkeypatch):
    """Where encoded histories are kept."""
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    return tmp_path / "processed"


@pytest.mark.parametrize("name", ["dataset.yaml", "visits.csv", "outcomes.csv"])
def test_every_file_of_a_description_decides(visits_folder, tmp_path, processed, name):
    folder = shutil.copytree(visits_folder, tmp_path / "visits")
    first = prepare(str(folder))
    with open(folder / name, "a") as stream:
        stream.write("\n")
    assert prepare(str(folder)).checksum != first.checksum
    assert len(list(processed.glob("[!.]*"))) == 2


@pytest.mark.parametrize("name", ["categories.npy", "note.json"])
def test_a_damaged_cache_is_named_and_made_again(bank_folder, processed, capsys, name):
    first = prepare(str(bank_folder)).categories.copy()  # what is mapped shows the damage
    (cache,) = processed.glob("[!.]*")
    written = (cache / name).read_bytes()
    (cache / name).write_bytes(written[: len(written) // 2])
    again = prepare(str(bank_folder))
    assert f"{cache / name}: missing or damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(again.categories, first)
    assert (cache / name).read_bytes() == written
    prepare(str(bank_folder))
    assert capsys.readouterr().err == ""


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["data", *map(str, arguments)])
    return main()


def test_the_command_prepares_and_notes_what_was_found(visits_folder, tmp_path, processed, monkeypatch, capsys):
    out = tmp_path / "data.json"
    assert run(monkeypatch, visits_folder, "--folds", 3, "--out", out) == 0
    assert json.loads(out.read_text()) | {"source": str(visits_folder), "customers": 48} == json.loads(out.read_text())
    assert capsys.readouterr().out == "48 customers, 45 labelled, 1,224 events\n"


def test_a_check_prints_what_was_found_and_what_was_odd(visits_folder, tmp_path, processed, monkeypatch, capsys):
    folder = faulty(
        shutil.copytree(visits_folder, tmp_path / "visits"),
        visits=lambda text: re.sub(r",[0-9.]+,-\n", ",,-\n", text, count=2),
        outcomes=lambda text: text.replace("left", "Recovered ") + "nobody,left\n",
    )
    assert run(monkeypatch, folder, "--check", "--folds", 3) == 0
    rows = [line.split(",")[:2] for line in (folder / "visits.csv").read_text().splitlines()[1:]]
    back = sum(one[0] == other[0] and one[1] > other[1] for one, other in itertools.pairwise(rows))
    assert capsys.readouterr().out.splitlines() == [
        "customers: 48, 45 of them labelled",
        "labels: 'Recovered ' 15, 'ill again' 15, 'recovered' 15",
        "events: 1,224, 2 to 60 of a customer",
        f"time: {min(when for _, when in rows)} to {max(when for _, when in rows)}",
        f"odd: events out of order {back}, customers without label 3, labels without events 1, events without bill 2, "
        "labels 'Recovered ' and 'recovered' look alike",
    ]


@pytest.mark.parametrize(
    ("name", "line"), [("bank_folder", "time: day 0"), ("visits_folder", "odd: events out of order")]
)
def test_days_are_numbered_where_they_are_no_dates(name, line, request, processed, monkeypatch, capsys):
    assert run(monkeypatch, request.getfixturevalue(name), "--check", "--folds", 2) == 0
    assert line in capsys.readouterr().out


def faulty(folder, **files):
    for name, change in files.items():
        path = next(path for path in folder.iterdir() if path.stem == name)
        path.write_text(change(path.read_text()))
    return folder


FAULTS = {
    "a bad row": ({"visits": lambda text: text + "p99,soon,1,Dr 1,1,1,-\n"}, 3, "line 1226, column admitted: 'soon'"),
    "a bad description": ({"dataset": lambda text: text.replace("time:", "date:")}, 3, "key date: unknown key"),
    "a column that is not there": ({"dataset": lambda text: text.replace("bill", "price")}, 3, "no column price"),
    "one class": (
        {"outcomes": lambda text: text.replace("left", "recovered").replace("ill again", "recovered")},
        3,
        "on",
    ),
    "fewer customers than folds": ({}, 16, "has 15 customers, 16 folds need 16; .*'left' 15"),
}


@pytest.mark.parametrize(("files", "folds", "message"), FAULTS.values(), ids=FAULTS)
def test_bad_folders_get_one_line_status_2_and_no_cache(
    visits_folder, tmp_path, processed, monkeypatch, capsys, files, folds, message
):
    folder = faulty(shutil.copytree(visits_folder, tmp_path / "visits"), **files)
    out = tmp_path / "data.json"
    assert run(monkeypatch, folder, "--folds", folds, "--out", out) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"error: .*{message}.*\n", said.err)
    assert not out.exists()
    assert folds == 16 or not processed.exists()


def test_the_public_sets_facts_are_compared():
    found = PUBLIC_FACTS | {"events": 2, "distinct_mcc_code": 2}
    with pytest.raises(DataError, match=r"not the public set.*events 2 instead of 6,849,346.*distinct mcc code 2"):
        verify_public(found)
    verify_public(found | PUBLIC_FACTS)


@given(st.integers(2, 6), st.integers(0, 100))
def test_folds_cover_every_labelled_customer_once_and_are_stratified(count, seed):
    labels = np.array([0] * 13 + [1] * 11 + [-1] * 5, dtype=np.int8)
    histories = dataclasses.replace(EMPTY, labels=labels)
    folds = stratified_folds(histories, count, seed)
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(24))
    for train, test in folds:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 24
        assert abs((labels[test] == 1).sum() - 11 / count) < 1


def grouped(sizes, labels):
    """Histories of customers in groups of the given sizes, with a label each."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return dataclasses.replace(EMPTY, labels=np.array(labels[: len(groups)], np.int8), groups=groups)


@given(st.lists(st.integers(1, 4), min_size=60, max_size=60), st.integers(2, 5), st.integers(0, 100))
def test_no_group_is_in_two_folds(sizes, count, seed):
    histories = grouped(sizes, [0, 1, 1] * 80)
    folds = stratified_folds(histories, count, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(sum(sizes)))
    for train, test in folds:
        assert not set(histories.groups[train]) & set(histories.groups[test])
        assert sorted([*train, *test]) == list(range(sum(sizes)))
        assert np.bincount(histories.labels[test]) / len(test) == pytest.approx([1 / 3, 2 / 3], abs=0.15)


def test_groups_that_hold_too_much_for_the_folds_are_refused():
    with pytest.raises(DataError, match=r"4 groups cannot be parted into 3 folds .* fewer folds or label more groups"):
        stratified_folds(grouped([40, 40, 10, 10], [0] * 40 + [1] * 60), 3, 0)


def test_more_folds_than_customers_of_a_class_are_refused(histories):
    with pytest.raises(DataError, match="12 customers, 13 folds need 13"):
        stratified_folds(histories, 13, 0)


def test_a_batch_holds_the_last_events_and_masks_the_rest(histories):
    customers = np.array([0, 3])
    starts, lengths = last_events(histories, customers, 8)
    batch = collate(histories, customers, starts, lengths)
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
    starts, lengths = random_slices(histories, customers, limit, shortest, np.random.default_rng(seed))
    whole = np.minimum(histories.lengths, limit)
    assert (lengths >= 1).all()
    assert (lengths >= np.ceil(whole * shortest) - 1e-9).all()
    assert (lengths <= whole).all()
    assert (starts >= histories.offsets[:-1]).all()
    assert (starts + lengths <= histories.offsets[1:]).all()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.integers(1, 16), st.booleans())
def test_batches_cover_everyone_once(lengths, size, shuffled):
    lengths = np.array(lengths)
    groups = length_batches(lengths, size, np.random.default_rng(0) if shuffled else None)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert max(map(len, groups)) <= size


def test_a_batch_of_three_classes_holds_all_columns(visits):
    customers = np.array([3, 0, 46])
    starts, lengths = last_events(visits, customers, 8)
    batch = collate(visits, customers, starts, lengths)
    assert batch.labels.tolist() == [2, 2, -1]
    assert batch.categories.shape == (3, 8, 4)
    assert batch.numbers.shape == (3, 8, 3)
    end = visits.offsets[4]
    np.testing.assert_array_equal(batch.categories[0], visits.categories[end - 8 : end])


def test_folds_keep_three_classes_in_proportion(visits):
    for _, test in stratified_folds(visits, 3, 0):
        assert np.bincount(visits.labels[test]).tolist() == [5, 5, 5]


def test_the_share_of_real_positions_by_hand():
    lengths = np.array([4, 2, 1, 3])
    assert real_share(lengths, [np.array([0, 3]), np.array([1, 2])]) == 10 / (2 * 4 + 2 * 2)


def test_batches_of_long_tailed_lengths_are_mostly_real():
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.lognormal(5.5, 1.2, 1000), 512).astype(int) + 1
    assert real_share(lengths, length_batches(lengths, 16, generator)) > 0.9
