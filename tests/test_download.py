import functools
import gzip
import http.server
import shutil
import socket
import threading
from pathlib import Path

import pytest

from lib import bank
from lib.dataset import DataError
from lib.download import download

EVENTS = gzip.compress(b"customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n1,0 10:23:26,4814,1030,-2245.92,\n")
LABELS = b"customer_id,gender\n1,0\n"
FILES = [bank.LABELS, f"{bank.EVENTS}.gz"]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; the first `cuts` answers promise all of a file and break off after half of it."""

    cuts = 0

    def do_GET(self):
        if not Handler.cuts:
            return super().do_GET()
        Handler.cuts -= 1
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
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
    Handler.cuts = 0


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checksums_are_recorded_and_changes_noticed(server, tmp_path):
    served, url = server
    folder = download(tmp_path / "sberbank", url)
    assert names(folder) == ["SHA256SUMS", *FILES]
    shutil.rmtree(served)
    assert download(folder, url) == folder
    (folder / bank.LABELS).write_bytes(LABELS + b"\n")
    with pytest.raises(DataError, match=r"gender_train\.csv: changed since its download; delete it"):
        download(folder, url)


def test_a_transfer_that_breaks_off_is_tried_again(server, tmp_path):
    _, url = server
    Handler.cuts = 2
    folder = download(tmp_path / "sberbank", url)
    assert (folder / FILES[1]).read_bytes() == EVENTS
    assert Handler.cuts == 0


def test_a_transfer_that_keeps_breaking_off_leaves_nothing(server, tmp_path):
    _, url = server
    Handler.cuts = 100
    with pytest.raises(DataError, match=r"cannot download .*transactions\.csv\.gz .*; put that file into"):
        download(tmp_path / "sberbank", url)
    assert names(tmp_path / "sberbank") == []


def test_what_is_complete_is_kept_when_the_other_file_fails(server, tmp_path):
    served, url = server
    (served / bank.LABELS).unlink()
    with pytest.raises(DataError, match=r"gender_train\.csv \(HTTPError\); put that file into"):
        download(tmp_path / "sberbank", url)
    assert names(tmp_path / "sberbank") == ["SHA256SUMS", FILES[1]]
    (served / FILES[1]).unlink()
    (served / bank.LABELS).write_bytes(LABELS)
    assert names(download(tmp_path / "sberbank", url)) == ["SHA256SUMS", *FILES]


def test_other_content_than_recorded_is_refused(server, tmp_path):
    served, url = server
    folder = download(tmp_path / "sberbank", url)
    (folder / bank.LABELS).unlink()
    (served / bank.LABELS).write_bytes(LABELS + b"2,1\n")
    with pytest.raises(DataError, match=r"cannot download .*gender_train\.csv"):
        download(folder, url)
    assert names(folder) == ["SHA256SUMS", FILES[1]]


def test_no_network_is_one_line(tmp_path, server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DataError, match=r"cannot download .*\(ConnectionError\); put that file into") as caught:
            download(tmp_path / "sberbank", url)
    assert len(str(caught.value).splitlines()) == 1
