"""The public set from its host: resumed, retried, checked against what was recorded, never half there."""

from collections.abc import Callable
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from lib.data.description import DataError
from lib.storage import write_atomic
from study.bank import EVENTS, LABELS

PUBLIC_SET = "https://huggingface.co/datasets/dllllb/transactions-gender/resolve/main/"
RETRIES = 3
SECONDS = 30
"""Without an answer until a transfer counts as broken."""


def download(folder: Path, base_url: str = PUBLIC_SET, retries: int = RETRIES) -> Path:
    """The public set in `folder`; checksums are recorded at the first download and verified ever after.

    A file that is complete is not fetched again. Raises DataError when a file cannot be had (saying what to put
    where) or has changed since its download.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "SHA256SUMS"
    known = dict(reversed(line.split("  ")) for line in record.read_text().splitlines()) if record.exists() else {}
    for name in (f"{EVENTS}.gz", LABELS):
        if not (folder / name).exists():
            _fetch(folder, name, base_url, known.get(name), retries)
        digest = pooch.file_hash(str(folder / name))
        if known.setdefault(name, digest) != digest:
            raise DataError(f"{folder / name}: changed since its download; delete it and run again")
        write_atomic(record, "".join(f"{digest}  {name}\n" for name, digest in known.items()))
    return folder


def _fetch(folder: Path, name: str, base_url: str, digest: str | None, retries: int) -> None:
    fetcher = pooch.create(path=folder, base_url=base_url, registry={name: digest}, retry_if_failed=retries)
    try:
        fetcher.fetch(name, downloader=resuming(folder / f".{name}.part"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot download {base_url}{name} ({type(error).__name__}); put that file into {folder} and run again"
        ) from error


def resuming(part: Path) -> Callable[[str, str, pooch.Pooch], None]:
    """A downloader for pooch that keeps what has come in `part` and asks the host for the rest only."""

    def download_rest(url: str, output_file: str, _: pooch.Pooch) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=SECONDS) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()  # as long as the file, or longer: of another one
            response.raise_for_status()
            going_on = response.status_code == requests.codes.partial_content
            total = int(response.headers.get("Content-Length", 0)) + have * going_on
            bar = tqdm(total=total, initial=have * going_on, desc=part.name, unit="B", unit_scale=True, disable=None)
            with part.open("ab" if going_on else "wb") as stream, bar:
                for chunk in response.iter_content(2**16):
                    bar.update(stream.write(chunk))
        part.replace(output_file)

    return download_rest
