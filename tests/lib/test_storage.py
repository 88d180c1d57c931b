"""Files that appear whole or not at all, and damage that is noticed."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from lib.storage import CHECKSUMS, atomic_folder, intact, read_checksummed, write_atomic, write_checksummed


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


def test_checksummed_content_comes_back_and_damage_is_named(tmp_path, capsys):
    path = tmp_path / "state"
    assert read_checksummed(path) is None
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
    path = filled(folder) / name
    content = path.read_bytes()
    for damaged in (bytes([content[0] ^ 1]) + content[1:], content[:-2], b""):
        path.write_bytes(damaged)
        assert not intact(folder)
        assert capsys.readouterr().err.startswith(f"{folder}{os.sep}")
    (filled(folder) / name).unlink()
    assert not intact(folder)
    assert str(folder / name) in capsys.readouterr().err


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_make_or_mend_the_same_folder_at_once_all_find_it_whole(tmp_path, damaged):
    together = threading.Barrier(4)

    def make_and_look(folder):
        together.wait(60)
        if not damaged or not intact(folder):
            filled(folder)
        assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", CHECKSUMS}
        assert intact(folder)

    with ThreadPoolExecutor(4) as threads:
        for i in range(20):
            if damaged:
                (filled(tmp_path / f"run{i}") / "b.txt").write_text("damaged")
            for each in [threads.submit(make_and_look, tmp_path / f"run{i}") for _ in range(4)]:
                each.result()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", *(f"run{i}" for i in range(20))}


def test_a_full_disk_is_named_whatever_the_writer_says(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left on device"), atomic_folder(tmp_path / "run"):
        raise RuntimeError("unexpected pos 64 vs 0")
    assert list(tmp_path.iterdir()) == []
