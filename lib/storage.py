"""Where the study keeps its files; they appear whole or not at all, and checksums tell whether they are as written.

They are written as `.NAME.*.tmp` and renamed; `run_all.sh` deletes what killed processes left.
"""

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
FACTS = DATA / "facts"
RAW = DATA / "raw"
KEPT = Path(os.environ.get("STUDY_KEPT", DATA))  # what a run keeps for the next one; a verification keeps its own
PROCESSED = KEPT / "processed"
RUNS = KEPT / "runs"
MEASUREMENTS = KEPT / "measurements"
NOTEBOOKS = ROOT / "notebooks"
REPORTS = ROOT / "reports"
CHECKSUMS = "SHA256SUMS"


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum(files: Iterable[Path]) -> str:
    """Digest of the files' contents, in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(file_checksum(file)) for file in files)).hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
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


def write_checksummed(path: Path, content: bytes) -> None:
    """Store the content in one step, after a line with its checksum."""
    write_atomic(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_checksummed(path: Path) -> bytes | None:
    """What `write_checksummed` stored; None where there is nothing, or, with a line on stderr, where it is damaged."""
    if not path.exists():
        return None
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() == digest:
        return content
    print(f"{path}: damaged (its checksum differs), made again", file=sys.stderr)
    return None


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which then gets its checksums and takes the folder's place, in one process at a time.

    Raises OSError where the disk is full, also where what fills the folder has another word for it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    old = partial.with_name(f"{partial.name}.old.tmp")
    try:
        yield partial
        sums = _sums(partial)
        (partial / CHECKSUMS).write_text(sums, encoding="utf-8")
        # One process at a time looks and renames, so that none takes away what another has just put there.
        with FileLock(folder.with_name(".lock")):
            if not intact(folder) or (folder / CHECKSUMS).read_text(encoding="utf-8") != sums:
                with suppress(FileNotFoundError):
                    folder.rename(old)
                partial.rename(folder)
    except RuntimeError as error:
        if shutil.disk_usage(partial).free < 2**20:  # bytes
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def intact(folder: Path) -> bool:
    """Whether `atomic_folder` made the folder and every file is as it was; stderr names the first that is not."""
    if not folder.exists():
        return False
    try:
        stored, found = (folder / CHECKSUMS).read_text(encoding="utf-8", errors="replace"), _sums(folder)
    except OSError:  # there is none, or another process is replacing the folder
        stored, found = "", CHECKSUMS
    differing = sorted(line.split("  ")[-1] for line in {*stored.splitlines()} ^ {*found.splitlines()})
    if differing:
        print(f"{folder / differing[0]}: missing or damaged, made again", file=sys.stderr)
    return not differing


def _sums(folder: Path) -> str:
    """Checksum and name of every file, a line each."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS and not path.name.startswith("."))
    return "".join(f"{file_checksum(path)}  {path.name}\n" for path in files)
