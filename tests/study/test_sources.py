"""Where events come from: what is prepared is kept, and what is wrong is said in one line."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest

from lib import paths
from lib.data.description import DataError
from study.sources import PUBLIC_FACTS, main, prepare, verify_public


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
