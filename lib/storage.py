"""Files that appear whole or not at all, and whose checksums tell whether they are still what was written.

Everything is written under a temporary name, `.NAME.*.tmp`, beside its place and renamed: a killed process, or a full
disk, leaves the old content or none, never half of it. `run_all.sh` deletes what killed processes left.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKSUMS = "SHA256SUMS"


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace the file's content in one step: a reader sees the old or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_sealed(path: Path, content: bytes) -> None:
    """Store the content in one step, after a line with its checksum."""
    write_whole(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_sealed(path: Path) -> bytes | None:
    """The content that `write_sealed` stored; None, and a line on stderr, where it is damaged; None where it is not."""
    if not path.exists():
        return None
    seal, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() == seal:
        return content
    print(f"{path}: damaged (its checksum differs), made anew", file=sys.stderr)
    return None


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which then gets its checksums and takes the folder's place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield partial
        lines = [f"{file_checksum(path)}  {path.name}\n" for path in sorted(partial.iterdir())]
        (partial / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def intact(folder: Path) -> bool:
    """Whether `whole_folder` made the folder and every file is as it was; a line on stderr names the first that is not.

    A folder that does not exist is simply not intact.
    """
    if not folder.exists():
        return False
    sums = folder / CHECKSUMS
    listed = [line.split("  ", 1) for line in sums.read_text("utf-8").splitlines()] if sums.exists() else []
    expected = {name: digest for digest, name in listed}
    for name in sorted({CHECKSUMS, *expected}):
        path = folder / name
        if not path.is_file() or (name in expected and file_checksum(path) != expected[name]):
            print(f"{path}: missing or damaged, made anew", file=sys.stderr)
            return False
    return True
