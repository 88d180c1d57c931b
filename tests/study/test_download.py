import functools
import gzip
import http.server
import random
import socket
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from lib.data.description import DataError
from study.bank import EVENTS as BANK_EVENTS
from study.bank import LABELS as BANK_LABELS
from study.download import download

EVENTS = gzip.compress(random.Random(0).randbytes(2**20))
LABELS = b"customer_id,gender\n1,0\n"
FILES = [BANK_LABELS, f"{BANK_EVENTS}.gz"]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; the first `cuts` answers break off after half of what they promise; `ranges` are the ones asked."""

    cuts = 0
    ranges: ClassVar = []

    def do_GET(self):
        asked = self.headers.get("Range")
        if not Handler.cuts and asked is None:
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        Handler.ranges += [start] if asked else []
        if asked and start >= len(content):
            return self.send_error(416)
        content = content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if Handler.cuts else content)
        self.wfile.flush()
        if Handler.cuts:
            Handler.cuts -= 1
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """The two files over HTTP on the loopback address; waits between retries are left out."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    folder = tmp_path_factory.mktemp("served")
    (folder / FILES[1]).write_bytes(EVENTS)
    (folder / FILES[0]).write_bytes(LABELS)
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()
    Handler.cuts, Handler.ranges = 0, []


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checksums_are_recorded_and_changes_here_and_there_refused(server, tmp_path):
    served, url = server
    folder = download(tmp_path / "sberbank", url)
    assert names(folder) == ["SHA256SUMS", *FILES]
    (served / BANK_LABELS).write_bytes(LABELS + b"2,1\n")
    assert download(folder, url) == folder, "what is complete is not fetched again"
    (folder / BANK_LABELS).write_bytes(LABELS + b"\n")
    with pytest.raises(DataError, match=r"gender_train\.csv: changed since its download; delete it"):
        download(folder, url)
    (folder / BANK_LABELS).unlink()
    with pytest.raises(DataError, match=r"cannot download .*gender_train\.csv"):
        download(folder, url)
    assert names(folder) == ["SHA256SUMS", FILES[1]]


def test_a_transfer_that_breaks_off_is_resumed_now_and_by_the_next_run(server, tmp_path):
    _, url = server
    Handler.cuts = 3
    with pytest.raises(DataError, match=r"cannot download .*transactions\.csv\.gz .*; put that file into"):
        download(tmp_path / "sberbank", url, retries=2)
    (part,) = (tmp_path / "sberbank").iterdir()
    assert part.name == f".{FILES[1]}.part"
    first, second = Handler.ranges
    assert 0 < first <= len(EVENTS) // 2 < second < len(EVENTS)
    come = part.read_bytes()
    assert EVENTS.startswith(come)
    folder = download(tmp_path / "sberbank", url)
    assert Handler.ranges[-1] == len(come)
    assert (folder / FILES[1]).read_bytes() == EVENTS
    assert names(folder) == ["SHA256SUMS", *FILES]


def test_a_part_of_another_file_is_given_up(server, tmp_path):
    _, url = server
    (tmp_path / "sberbank").mkdir()
    (tmp_path / "sberbank" / f".{FILES[1]}.part").write_bytes(bytes(2 * len(EVENTS)))
    folder = download(tmp_path / "sberbank", url)
    assert (folder / FILES[1]).read_bytes() == EVENTS


def test_what_is_complete_is_kept_when_the_other_file_fails(server, tmp_path):
    served, url = server
    (served / BANK_LABELS).unlink()
    with pytest.raises(DataError, match=r"gender_train\.csv \(HTTPError\); put that file into"):
        download(tmp_path / "sberbank", url)
    assert names(tmp_path / "sberbank") == ["SHA256SUMS", FILES[1]]
    (served / FILES[1]).unlink()
    (served / BANK_LABELS).write_bytes(LABELS)
    assert names(download(tmp_path / "sberbank", url)) == ["SHA256SUMS", *FILES]


def test_no_network_is_one_line(tmp_path, server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DataError, match=r"cannot download .*\(ConnectionError\); put that file into") as caught:
            download(tmp_path / "sberbank", url)
    assert len(str(caught.value).splitlines()) == 1
