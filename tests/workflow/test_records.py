"""Files of a report that are whole and known to Snakemake, and those that are not."""

from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from workflow.records import record_of, unknown

MADE = {
    "data.json": '{"source": "x"}\n',
    "runs/softmax-0-0.json": '["softmax-run"]\n',
    "notebooks/01_data.ipynb": '{"cells": []}',
    "index.html": "<html></html>\n",
}


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report whose files all have records; paths are those of the workflow."""
    monkeypatch.chdir(tmp_path)
    folder = Path("reports") / "x"
    for name, content in (MADE | {"notebooks/01_data.partial.ipynb": "", "parameters.json": ""}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in MADE:
        record = record_of(folder / name)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text('{"rule": "made"}')
    return folder


def test_what_has_a_record_is_known(report):
    assert unknown(report) == []


@pytest.mark.parametrize("content", [None, b"", b'{"rule": "ma', b"\0" * 40, b"\xff\xfe", b"{}"])
def test_a_lost_or_damaged_record_is_named(report, content):
    record = record_of(report / "index.html")
    record.unlink() if content is None else record.write_bytes(content)
    assert unknown(report) == [report / "index.html"]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("left", [0, 7])
def test_a_file_that_ends_early_is_named(report, name, left):
    (report / name).write_text(MADE[name][:left])
    assert unknown(report) == [report / name]


def test_records_are_where_snakemake_has_them(tmp_path):
    theirs = FilePersistence(path=tmp_path)
    for output in ("reports/x/index.html", f"reports/{'long' * 100}/index.html"):
        assert str(record_of(output, tmp_path)) == theirs._record_path(str(tmp_path), output)
