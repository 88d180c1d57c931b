"""The public set from its host: retried, checked against what was recorded, never half there."""

from pathlib import Path

import pooch

from lib import bank
from lib.dataset import DataError
from lib.storage import write_whole

PUBLIC_SET = "https://huggingface.co/datasets/dllllb/transactions-gender/resolve/main/"
RETRIES = 3


def download(folder: Path, base_url: str = PUBLIC_SET, retries: int = RETRIES) -> Path:
    """The public set in `folder`; checksums are recorded at the first download and verified ever after.

    A file that is complete is not fetched again. Raises DataError when a file cannot be had (saying what to put
    where) or has changed since its download.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "SHA256SUMS"
    known = dict(reversed(line.split("  ")) for line in record.read_text().splitlines()) if record.exists() else {}
    for name in (f"{bank.EVENTS}.gz", bank.LABELS):
        if not (folder / name).exists():
            _fetch(folder, name, base_url, known.get(name), retries)
        digest = pooch.file_hash(str(folder / name))
        if known.setdefault(name, digest) != digest:
            raise DataError(f"{folder / name}: changed since its download; delete it and run again")
        write_whole(record, "".join(f"{digest}  {name}\n" for name, digest in known.items()))
    return folder


def _fetch(folder: Path, name: str, base_url: str, digest: str | None, retries: int) -> None:
    fetcher = pooch.create(path=folder, base_url=base_url, registry={name: digest}, retry_if_failed=retries)
    try:
        fetcher.fetch(name, progressbar=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot download {base_url}{name} ({type(error).__name__}); put that file into {folder} and run again"
        ) from error
