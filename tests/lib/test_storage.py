"""Files that appear whole or not at all, and damage that is noticed."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from lib.storage import CHECKSUMS, atomic_folder, checksum, intact, read_checksummed, write_atomic, write_checksummed


def filled(folder, text="content"):
    with atomic_folder(folder) as partial:
        (partial / "a.txt").write_text(text)
        (partial / "b.txt").write_text("other")
    return folder


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "new" / "table.csv"
    write_atomic(path, "old\n")
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new\n")
    assert path.read_text() == "old\n"


def test_sealed_content_comes_back_and_damage_is_named(tmp_path, capsys):
    path = tmp_path / "state"
    assert read_checksummed(path) is None
    assert capsys.readouterr().err == ""
    content = bytes(range(256))
    write_checksummed(path, content)
    assert read_checksummed(path) == content
    stored = path.read_bytes()
    for damaged in (stored[:-1], stored[:100] + b"\x00" + stored[101:], b"", stored[1:]):
        path.write_bytes(damaged)
        assert read_checksummed(path) is None
        assert str(path) in capsys.readouterr().err


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    folder = filled(tmp_path / "run")
    filled(folder, "newer")
    assert (folder / "a.txt").read_text() == "newer"
    assert intact(folder)
    with pytest.raises(FileNotFoundError), atomic_folder(folder) as partial:
        (partial / "a.txt").write_text("half" + (partial / "missing").read_text())
    assert (folder / "a.txt").read_text() == "newer"
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run"}


@pytest.mark.parametrize("name", ["a.txt", "b.txt", CHECKSUMS])
def test_every_missing_or_changed_file_is_named(tmp_path, capsys, name):
    folder = tmp_path / "run"
    assert not intact(folder)
    assert capsys.readouterr().err == ""
    (filled(folder) / name).unlink()
    assert not intact(folder)
    assert str(folder / name) in capsys.readouterr().err
    path = filled(folder) / name
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert not intact(folder)
    assert capsys.readouterr().err.startswith(f"{folder}{os.sep}")


def test_a_checksum_of_files_is_that_of_their_contents_in_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    digests = [hashlib.sha256(content).digest() for content in (b"1", b"2")]
    assert checksum([one, two]) == hashlib.sha256(b"".join(digests)).hexdigest()
    assert checksum([two, one]) == hashlib.sha256(b"".join(digests[::-1])).hexdigest()


@pytest.mark.parametrize("left", [0, 30, 71, 75])
def test_a_list_of_checksums_that_ends_early_is_damage(tmp_path, capsys, left):
    sums = filled(tmp_path / "run") / CHECKSUMS
    sums.write_bytes(sums.read_bytes()[:left])
    assert not intact(tmp_path / "run")
    assert capsys.readouterr().err != ""


def test_processes_that_make_the_same_folder_at_once_all_find_it_whole(tmp_path):
    def make_and_look(folder):
        filled(folder)
        assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", CHECKSUMS}
        assert intact(folder)

    with ThreadPoolExecutor(4) as threads:
        for i in range(20):
            for each in [threads.submit(make_and_look, tmp_path / f"run{i}") for _ in range(4)]:
                each.result()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", *(f"run{i}" for i in range(20))}


def test_processes_that_mend_the_same_folder_at_once_take_away_what_is_damaged_only(tmp_path):
    together = threading.Barrier(4)

    def mend_and_look(folder):
        together.wait(60)
        if not intact(folder):
            filled(folder)
        assert intact(folder)

    with ThreadPoolExecutor(4) as threads:
        for i in range(20):
            (filled(tmp_path / f"run{i}") / "b.txt").write_text("damaged")
            for each in [threads.submit(mend_and_look, tmp_path / f"run{i}") for _ in range(4)]:
                each.result()


def test_a_folder_that_goes_while_it_is_looked_at_is_not_intact(tmp_path, monkeypatch):
    folder = filled(tmp_path / "run")
    monkeypatch.setattr("lib.storage.file_checksum", lambda path: folder.rename(tmp_path / "old") and path.read_bytes())
    assert not intact(folder)


def test_a_full_disk_is_named_whatever_the_writer_says(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left on device"), atomic_folder(tmp_path / "run"):
        raise RuntimeError("unexpected pos 64 vs 0")
    assert list(tmp_path.iterdir()) == []
