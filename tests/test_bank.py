import contextlib
import functools
import gzip
import http.server
import shutil
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import bank
from lib.bank import DataError

EVENTS = "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
GOOD = EVENTS + "1,0 10:23:26,4814,1030,-2245.92,\n2,6 07:08:60,6011,7010,56147.89,T1\n"
MUCH = GOOD.replace("56147.89", "much")
LABELS = "customer_id,gender\n1,0\n2,1\n"


def folder_with(tmp_path, events=GOOD, labels=LABELS):
    (tmp_path / bank.EVENTS).write_bytes(events if isinstance(events, bytes) else events.encode())
    (tmp_path / bank.LABELS).write_text(labels)
    return tmp_path


def test_reads_plain_and_gzipped_alike(tmp_path):
    folder = folder_with(tmp_path)
    plain, labels, found = bank.read(folder)
    (folder / f"{bank.EVENTS}.gz").write_bytes(gzip.compress(GOOD.encode()))
    (folder / bank.EVENTS).unlink()
    zipped, _, _ = bank.read(folder)
    assert bank.line_of(folder / f"{bank.EVENTS}.gz", 1) == 3
    assert plain.equals(zipped)
    assert plain["day"].tolist() == [0, 6]
    assert plain["second"].tolist() == [10 * 3600 + 23 * 60 + 26, 7 * 3600 + 8 * 60 + 60]
    assert labels["gender"].tolist() == [0, 1]
    assert found["events_at_second_60"] == 1
    assert found["events_without_terminal"] == 1


WRITTEN = {
    "CRLF": GOOD.replace("\n", "\r\n").encode(),
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "BOM and CRLF": b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
    "quotes": ("\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines())).encode(),
    "blank lines": ("\n" + GOOD.replace("\n", "\n\n")).encode(),
}


@pytest.mark.parametrize("events", WRITTEN.values(), ids=WRITTEN)
def test_the_same_rows_written_otherwise_are_read_alike(tmp_path, events):
    usual = bank.read_events(folder_with(tmp_path) / bank.EVENTS)
    pd.testing.assert_frame_equal(bank.read_events(folder_with(tmp_path, events=events) / bank.EVENTS), usual)


@given(
    st.lists(st.tuples(*(st.integers(0, top) for top in (9999, 23, 59, 60))), min_size=1, max_size=5),
    st.integers(0, 4),
)
def test_times_are_read_exactly(times, skipped):
    column = pa.array([f"{d} {h:02}:{m:02}:{s:02}" for d, h, m, s in [(0, 0, 0, 0)] * skipped + times])
    day, second, valid = bank.parse_times(pa.chunked_array([column[skipped:]]))
    assert valid.all()
    assert list(zip(day, second, strict=True)) == [(d, h * 3600 + m * 60 + s) for d, h, m, s in times]


@given(st.text(max_size=14))
def test_no_other_text_is_a_time(text):
    import re

    well_formed = re.fullmatch(r"[0-9]{1,4} ([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)", text)
    _, _, valid = bank.parse_times(pa.chunked_array([pa.array([text])]))
    assert valid.tolist() == [bool(well_formed)]


BAD_EVENTS = {
    "empty file": ("", "empty"),
    "no rows": (EVENTS, "no rows"),
    "missing column": (GOOD.replace("mcc_code", "mcc"), "line 1: no column mcc_code"),
    "wrong separator": (GOOD.replace(",", ";"), "separate columns by commas"),
    "bad date": (GOOD.replace("6 07:08:60", "6 07:08:61"), r"line 3, column tr_datetime: '6 07:08:61'"),
    "bad amount": (GOOD.replace("56147.89", "much"), "line 3, column amount: 'much'"),
    "infinite amount": (GOOD.replace("56147.89", "inf"), "line 3, column amount: inf"),
    "missing amount": (GOOD.replace("56147.89", ""), "line 3, column amount"),
    "short line": (GOOD + "3,1 00:00:00\n", "line 4: 2 columns instead of 6"),
    "not UTF-8": (GOOD.encode() + b"3,1 00:00:00,1,1,1,\xff\n", "line 4: not UTF-8"),
    "quoted header": ('"' + MUCH.replace(",", '","', 5).replace("\n", '"\n', 1), "line 3, column amount: 'much'"),
    "quoted comma before": (MUCH.replace("-2245.92,", '-2245.92,"8,8"'), "line 3, column amount: 'much'"),
    "quoted line end before": (MUCH.replace("-2245.92,", '-2245.92,"8\n8"'), "line 4, column amount: 'much'"),
    "spaces around numbers before": (MUCH.replace("4814", " 4814 "), "line 3, column amount: 'much'"),
    "odd line separator before": (MUCH.replace("-2245.92,", "-2245.92,\u2028"), "line 3, column amount: 'much'"),
    "a space for a number": (GOOD.replace("6011", " "), "line 3, column mcc_code: ' '"),
    "unclosed quote": (MUCH.replace("4814", '"4814') + "9" * 200_000, "line 2: field larger"),
    "only a byte order mark": (b"\xef\xbb\xbf", "empty"),
    "bad amount, BOM and CRLF": (
        b"\xef\xbb\xbf" + MUCH.replace("\n", "\r\n").encode(),
        "line 3, column amount: 'much'",
    ),
    "blank lines, bad amount": (MUCH.replace("\n", "\n\n"), "line 5, column amount: 'much'"),
    "blank lines, short line": (GOOD + "\r\n3,1 00:00:00\n", "line 5: 2 columns instead of 6"),
    "blank lines, bad date": (GOOD.replace("\n", "\n\n").replace(":60", ":61"), "line 5, column tr_datetime"),
    "blank lines, missing amount": ("\n" + GOOD.replace("56147.89", ""), "line 4, column amount: None"),
    "blank lines, missing column": ("\n\n" + GOOD.replace("mcc_code", "mcc"), "line 3: no column mcc_code"),
}


@pytest.mark.parametrize(("events", "message"), BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_bad_events_are_named(tmp_path, events, message):
    with pytest.raises(DataError, match=message):
        bank.read(folder_with(tmp_path, events=events))


BAD_LABELS = {
    "unknown customer": (LABELS + "3,1\n", "line 4, column customer_id: 3 has no row"),
    "contradiction": (LABELS + "1,1\n", "line 4, column gender: customer 1 has two labels"),
    "outside the classes": (LABELS + "1,2\n", "line 4, column gender: 2"),
    "blank line, unknown customer": (LABELS + "\n3,1\n", "line 5, column customer_id: 3 has no row"),
    "blank line, contradiction": (LABELS + "1,0\n\n1,1\n", "line 6, column gender: customer 1 has two labels"),
    "blank line, outside the classes": ("\n" + LABELS + "1,2\n", "line 5, column gender: 2"),
    "no labels": ("customer_id,gender\n", "no labelled customer"),
    "one class": ("customer_id,gender\n1,0\n2,0\n", "two classes"),
}


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_named(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        bank.read(folder_with(tmp_path, labels=labels))


def test_missing_files_and_truncated_gzip_are_named(tmp_path):
    with pytest.raises(DataError, match="no transactions"):
        bank.events_file(tmp_path)
    folder = folder_with(tmp_path)
    (folder / bank.EVENTS).unlink()
    (folder / f"{bank.EVENTS}.gz").write_bytes(gzip.compress(GOOD.encode())[:-12])
    with pytest.raises(DataError, match="truncated gzip"):
        bank.read(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=80), st.lists(st.sampled_from([*GOOD, "\n", '"', "\x00"]), max_size=80).map("".join))
)
def test_any_bytes_give_arrays_or_the_readers_own_error(tmp_path, junk):
    junk = junk if isinstance(junk, bytes) else EVENTS.encode() + junk.encode()
    folder = folder_with(tmp_path, events=junk)
    with contextlib.suppress(DataError):
        events, _, _ = bank.read(folder)
        assert np.isfinite(events["amount"]).all()


@pytest.fixture
def server(tmp_path_factory):
    """Files of a folder over HTTP on the loopback address."""
    folder = folder_with(tmp_path_factory.mktemp("served"))
    (folder / f"{bank.EVENTS}.gz").write_bytes(gzip.compress(GOOD.encode()))
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_download_records_checksums_and_notices_changes(server, tmp_path):
    served, url = server
    folder = bank.download(tmp_path / "sberbank", url)
    events, labels, _ = bank.read(folder)
    assert len(events) == 2
    with pytest.raises(DataError, match=r"not the public set.*events 2 instead of 6,849,346"):
        bank.verify_public(events, labels)
    shutil.rmtree(served)
    assert bank.download(folder, url) == folder
    (folder / bank.LABELS).write_text(LABELS + "\n")
    with pytest.raises(DataError, match="changed since its download"):
        bank.download(folder, url)


def test_failed_download_says_what_to_put_where(server, tmp_path):
    served, url = server
    (served / bank.LABELS).unlink()
    with pytest.raises(DataError, match=r"gender_train\.csv.*put that file into"):
        bank.download(tmp_path / "sberbank", url)
    assert sorted(path.name for path in (tmp_path / "sberbank").iterdir()) == [f"{bank.EVENTS}.gz"]
