import pytest

from lib import atomic


def test_a_file_is_made_and_replaced_with_nothing_beside_it(tmp_path):
    atomic.write_text(tmp_path / "note", "één\r\n")
    assert (tmp_path / "note").read_bytes() == "één\r\n".encode()
    atomic.write_bytes(tmp_path / "note", b"two")
    assert (tmp_path / "note").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_failure_leaves_the_old_file(tmp_path):
    atomic.write_text(tmp_path / "note", "old")
    with pytest.raises(TypeError):
        atomic.write_bytes(tmp_path / "note", ["not bytes"])
    assert (tmp_path / "note").read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        atomic.write_text(tmp_path / "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "note"]
