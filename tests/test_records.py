"""What Snakemake knows of a report's files, and files that it knows nothing of."""

from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from lib.records import record_of, unknown

MADE = ["data.json", "runs/softmax-0-0.json", "notebooks/01_data.ipynb", "index.html"]


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report whose files all have records; paths are those of the workflow."""
    monkeypatch.chdir(tmp_path)
    folder = Path("reports") / "x"
    for name in [*MADE, "notebooks/01_data.partial.ipynb", "parameters.json"]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in MADE:
        record = record_of(folder / name)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text('{"rule": "made"}')
    return folder


def test_what_has_a_record_is_known(report):
    assert unknown(report) == []


@pytest.mark.parametrize("content", [None, b"", b'{"rule": "ma', b"\0" * 40, b"\xff\xfe", b"{}"])
def test_a_lost_or_damaged_record_is_named(report, content):
    record = record_of(report / MADE[1])
    record.unlink() if content is None else record.write_bytes(content)
    assert unknown(report) == [report / MADE[1]]


def test_records_are_where_snakemake_has_them(tmp_path):
    theirs = FilePersistence(path=tmp_path)
    for output in ("reports/x/index.html", f"reports/{'long' * 100}/index.html"):
        assert str(record_of(output, tmp_path)) == theirs._record_path(str(tmp_path), output)
