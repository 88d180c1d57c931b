"""Files that appear whole or not at all, and whose checksums tell whether they are still what was written.

Everything is written under a temporary name, `.NAME.*.tmp`, beside its place and renamed: a killed process, a full disk
or a power cut leaves the old content or none, never half of it. `run_all.sh` deletes what killed processes left.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHECKSUMS = "SHA256SUMS"
LEAST_FREE = 2**20
"""Bytes below which a disk counts as full."""


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum(files: Iterable[Path]) -> str:
    """Digest of the files' contents, in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(file_checksum(file)) for file in files)).hexdigest()


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace the file's content in one step: a reader sees the old or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())  # some disks take the name first, and some say only now that they are full
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
    """A temporary folder to fill, which then gets its checksums and takes the folder's place.

    Where several processes make the same folder at once, each finds one that is whole. Raises OSError where the disk is
    full, also where what fills the folder has another word for it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield partial
        lines = [f"{file_checksum(path)}  {path.name}\n" for path in sorted(partial.iterdir())]
        (partial / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
        _take_place(partial, folder)
    except RuntimeError as error:
        if shutil.disk_usage(partial).free < LEAST_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, folder: Path) -> None:
    """Rename a folder to where an older one may be; one that is whole and of the same content stays in its place.

    One process at a time looks and renames, so that none takes away what another has just put there.
    """
    with _alone(folder.with_name(f".{folder.name}.lock.tmp")):
        if _content(folder / CHECKSUMS) == _content(partial / CHECKSUMS) and intact(folder):
            return
        old = partial.with_name(f"{partial.name}.old.tmp")
        with suppress(FileNotFoundError):
            folder.rename(old)
        partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time is in here; the file that they all lock goes with the one that leaves."""
    while True:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file, or the process's end, gives it back
            if not _is_at(lock.fileno(), path):
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def intact(folder: Path) -> bool:
    """Whether `whole_folder` made the folder and every file is as it was; a line on stderr names the first that is not.

    A folder that does not exist is simply not intact.
    """
    if not folder.exists():
        return False
    damaged = _first_damaged(folder)
    if damaged:
        print(f"{damaged}: missing or damaged, made anew", file=sys.stderr)
    return damaged is None


def _first_damaged(folder: Path) -> Path | None:
    listed = (_content(folder / CHECKSUMS) or b"").decode("utf-8", "replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in listed)}
    found = set()
    with suppress(FileNotFoundError):  # another process is replacing it
        found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    names = sorted(expected.keys() | found - {CHECKSUMS}) if expected else [CHECKSUMS]
    return next((folder / name for name in names if not _is_as_listed(folder / name, expected.get(name))), None)


def _is_as_listed(path: Path, digest: str | None) -> bool:
    try:
        return file_checksum(path) == digest
    except OSError:
        return False


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
