"""Where events come from: what is prepared is kept, and what is wrong is said in one line."""

import functools
import gc
import http.server
import itertools
import json
import re
import shutil
import threading
import warnings

import numpy as np
import pytest

from lib import storage
from lib.data.description import DataError
from study.bank import EVENTS, LABELS
from study.sources import PUBLIC_FACTS, download, main, prepare, verify_public


@pytest.fixture
def processed(tmp_path, monkeypatch):
    """Where encoded histories are kept."""
    monkeypatch.setattr(storage, "PROCESSED", tmp_path / "processed")
    return tmp_path / "processed"


@pytest.mark.parametrize("name", ["dataset.yaml", "visits.csv", "outcomes.csv"])
def test_every_file_of_a_description_decides(visits_folder, tmp_path, processed, name):
    folder = shutil.copytree(visits_folder, tmp_path / "visits")
    first = prepare(str(folder))
    assert prepare(str(folder)).checksum == first.checksum
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


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["data", *map(str, arguments)])
    return main()


def test_the_command_prepares_and_notes_what_was_found(visits_folder, tmp_path, processed, monkeypatch, capsys):
    out = tmp_path / "data.json"
    assert run(monkeypatch, visits_folder, "--folds", 3, "--out", out) == 0
    assert json.loads(out.read_text()) | {"source": str(visits_folder), "customers": 48} == json.loads(out.read_text())
    assert capsys.readouterr().out == "customers: 48, 45 of them labelled\n"


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
        f"odd: events out of order {back}, customers without label 3, labels without events 1, events without bill 2",
    ]


def test_days_are_numbered_where_they_are_no_dates(bank_folder, processed, monkeypatch, capsys):
    assert run(monkeypatch, bank_folder, "--check", "--folds", 2) == 0
    assert "time: day 0" in capsys.readouterr().out


def faulty(folder, **files):
    for name, change in files.items():
        path = next(path for path in folder.iterdir() if path.stem == name)
        path.write_text(change(path.read_text()))
    return folder


FAULTS = {
    "a bad row": ({"visits": lambda text: text + "p99,soon,1,Dr 1,1,1,-\n"}, 3, "line 1226, column admitted: 'soon'"),
    "a bad description": ({"dataset": lambda text: text.replace("time:", "date:")}, 3, "key date: unknown key"),
    "a column that is not there": ({"dataset": lambda text: text.replace("bill", "price")}, 3, "no column price"),
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
    with pytest.raises(DataError, match=r"not the public set.*events 2 instead of 6,849,346.*distinct_mcc_code 2"):
        verify_public(found)
    verify_public(found | PUBLIC_FACTS)


def test_a_source_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(DataError, match="no such folder; give synthetic, sberbank or a folder"):
        prepare(str(tmp_path / "nowhere"))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; the first `cuts` answers break off within what they promise."""

    cuts = 0

    def do_GET(self):
        if not Handler.cuts:
            return super().do_GET()
        Handler.cuts -= 1
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder with the two files and its address on the loopback; waits between retries are left out."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    served = tmp_path / "served"
    served.mkdir()
    (served / f"{EVENTS}.gz").write_bytes(b"events")
    (served / LABELS).write_bytes(b"labels")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield served, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
    Handler.cuts = 0
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect(1)  # pooch leaves the sockets of failed transfers open


def test_transfers_are_tried_again_and_what_changes_here_or_there_is_noticed(server, tmp_path):
    (served, url), Handler.cuts = server, 2
    folder = download(tmp_path / "sberbank", url)
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", LABELS, f"{EVENTS}.gz"]
    (folder / LABELS).write_bytes(b"other")
    assert (download(folder, url) / LABELS).read_bytes() == b"labels"
    (served / LABELS).write_bytes(b"newer")
    assert (download(folder, url) / LABELS).read_bytes() == b"labels", "what is complete is not fetched again"
    (folder / LABELS).unlink()
    with pytest.raises(DataError, match=rf"cannot download .*{LABELS} \(ValueError\); put that file into"):
        download(folder, url)


def test_what_cannot_be_had_is_one_line_and_what_came_is_kept(server, tmp_path):
    (served, url), folder = server, tmp_path / "sberbank"
    (served / LABELS).unlink()
    with pytest.raises(DataError, match=rf"cannot download .*{LABELS} \(HTTPError\); put that file into") as caught:
        download(folder, url)
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", f"{EVENTS}.gz"]
    (folder / LABELS).write_bytes(b"by hand")
    assert download(folder, "http://127.0.0.1:1/") == folder
