"""The bank's file format: read it, verify it, download the public set.

`transactions.csv[.gz]`: customer_id, tr_datetime ("DAY HH:MM:SS"), mcc_code, tr_type, amount, term_id.
`gender_train.csv`: customer_id, gender (0 woman, 1 man).
Anything wrong raises one DataError that names file, line, column, value and remedy.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

EVENTS, LABELS = "transactions.csv", "gender_train.csv"
EVENT_COLUMNS = {
    "customer_id": pa.int64(),
    "tr_datetime": pa.string(),
    "mcc_code": pa.int64(),
    "tr_type": pa.int64(),
    "amount": pa.float64(),
    "term_id": pa.string(),
}
LABEL_COLUMNS = {"customer_id": pa.int64(), "gender": pa.int64()}
PUBLIC_SET = "https://huggingface.co/datasets/dllllb/transactions-gender/resolve/main/"
PUBLIC_FACTS = {
    "events": 6_849_346,
    "customers": 15_000,
    "labelled": 8_400,
    "mcc_codes": 184,
    "tr_types": 77,
    "last_day": 456,
}


class DataError(ValueError):
    """Data that cannot be used; the message says where and what to do."""


def events_file(folder: Path) -> Path:
    """The folder's transactions, plain or gzipped. Raises DataError when there are none."""
    for name in (f"{EVENTS}.gz", EVENTS):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: no {EVENTS} or {EVENTS}.gz; put the transactions there")


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Verified events, verified labels, and counts of what was found, the odd included."""
    events_path, labels_path = events_file(folder), folder / LABELS
    if not labels_path.is_file():
        raise DataError(f"{folder}: no {LABELS}; it holds customer_id,gender")
    events, labels = read_events(events_path), read_labels(labels_path)
    known = np.isin(labels["customer_id"].to_numpy(), events["customer_id"].unique())
    if not known.all():
        row = int(labels.index[np.argmin(known)])
        raise DataError(
            f"{labels_path}, line {line_of(labels_path, row)}, column customer_id: {labels['customer_id'][row]} "
            f"has no row in {events_path.name} ({(~known).sum()} such labels); remove it or add the transactions"
        )
    return events, labels, summary(events, labels)


def read_events(path: Path) -> pd.DataFrame:
    """Columns customer_id, day, second (of the day), leap (second 60), mcc_code, tr_type, amount, term_id."""
    table = _read_csv(path, EVENT_COLUMNS)
    if not table.num_rows:
        raise DataError(f"{path}: no rows; an export of transactions is expected")
    amount = table["amount"].to_numpy()
    _check(path, "amount", table["amount"], ~np.isfinite(amount), "give a finite number")
    day, second, valid = parse_times(table["tr_datetime"])
    _check(path, "tr_datetime", table["tr_datetime"], ~valid, 'write it as "DAY HH:MM:SS", for example "12 18:03:59"')
    leap = pc.ends_with(table["tr_datetime"], ":60").to_numpy()
    return table.drop_columns(["tr_datetime"]).to_pandas().assign(day=day, second=second, leap=leap)


def read_labels(path: Path) -> pd.DataFrame:
    """Columns customer_id, gender, indexed by row of the file; one row per customer."""
    table = _read_csv(path, LABEL_COLUMNS)
    labels = table.to_pandas()
    if labels.empty:
        raise DataError(f"{path}: no labelled customer; at least one per class and fold is needed")
    wrong = ~labels["gender"].isin([0, 1]).to_numpy()
    _check(path, "gender", table["gender"], wrong, "use 0 (woman) or 1 (man)")
    labels = labels.drop_duplicates(["customer_id", "gender"])
    twice = labels["customer_id"].duplicated().to_numpy()
    if twice.any():
        row = int(labels.index[np.argmax(twice)])
        customer = labels["customer_id"][row]
        raise DataError(
            f"{path}, line {line_of(path, row)}, column gender: customer {customer} has two labels; keep one"
        )
    if labels["gender"].nunique() < 2:
        raise DataError(f"{path}, column gender: only {labels['gender'].iloc[0]} occurs; two classes are needed")
    return labels


def parse_times(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Day, second of the day, and whether "DAY HH:MM:SS" was well formed, digit by digit on the raw bytes.

    Seconds run to 60: the public set has them.
    """
    text = column.combine_chunks()
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    start, width = offsets[:-1], np.diff(offsets)
    raw = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    raw = raw if len(raw) >= 13 else np.append(raw, np.zeros(13, np.uint8))
    valid = (width >= 10) & (width <= 13)
    end = np.where(valid, offsets[1:], 13)
    # Unsigned bytes wrap around: whatever stands before "0" becomes large.
    digits = {back: raw[end - back] - np.uint8(ord("0")) for back in (1, 2, 4, 5, 7, 8)}
    for digit in digits.values():
        valid &= digit <= 9
    valid &= (raw[end - 3] == ord(":")) & (raw[end - 6] == ord(":")) & (raw[end - 9] == ord(" "))
    day = np.zeros(len(text), np.int32)
    for place in range(4):
        present = valid & (width - 9 > place)
        digit = raw[np.where(present, start + place, 0)] - np.uint8(ord("0"))
        valid &= ~present | (digit <= 9)
        day = np.where(present, day * 10 + digit, day)
    digits = {back: digit.astype(np.int32) for back, digit in digits.items()}
    hour, minute, second = (10 * digits[tens] + digits[ones] for tens, ones in ((8, 7), (5, 4), (2, 1)))
    valid &= (hour < 24) & (minute < 60) & (second <= 60)
    return day, hour * 3600 + minute * 60 + second, valid


def summary(events: pd.DataFrame, labels: pd.DataFrame) -> dict:
    """What a reader should know about the file: sizes, and everything odd that was handled."""
    customer, day, second = (events[name].to_numpy() for name in ("customer_id", "day", "second"))
    same = customer[1:] == customer[:-1]
    back = same & ((day[1:] < day[:-1]) | ((day[1:] == day[:-1]) & (second[1:] < second[:-1])))
    sizes = events.groupby("customer_id").size()
    return {
        "events": len(events),
        "customers": len(sizes),
        "labelled": len(labels),
        "mcc_codes": int(events["mcc_code"].nunique()),
        "tr_types": int(events["tr_type"].nunique()),
        "last_day": int(day.max()),
        "longest_history": int(sizes.max()),
        "shortest_history": int(sizes.min()),
        "events_at_unknown_midnight": int((second == 0).sum()),
        "events_at_second_60": int(events["leap"].sum()),
        "events_out_of_order": int(back.sum()),
        "duplicated_events": int(events.duplicated().sum()),
        "events_without_terminal": int(events["term_id"].isna().sum()),
        "customers_without_label": len(sizes) - len(labels),
    }


def verify_public(events: pd.DataFrame, labels: pd.DataFrame) -> None:
    """Refuse a download whose content is not the public set's. Raises DataError naming every difference."""
    found = summary(events, labels)
    wrong = [
        f"{name} {found[name]:,} instead of {fact:,}" for name, fact in PUBLIC_FACTS.items() if found[name] != fact
    ]
    if wrong:
        raise DataError(f"data/raw/sberbank: not the public set ({'; '.join(wrong)}); delete the folder and run again")


def download(folder: Path, base_url: str = PUBLIC_SET) -> Path:
    """The public set in `folder`; checksums are recorded at the first download and verified ever after.

    Raises DataError when the network is missing (saying what to put where) or a file changed since its download.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "SHA256SUMS"
    known = dict(reversed(line.split("  ")) for line in record.read_text().splitlines()) if record.exists() else {}
    for name in (f"{EVENTS}.gz", LABELS):
        if name in known and (folder / name).exists():
            if pooch.file_hash(str(folder / name)) != known[name]:
                raise DataError(f"{folder / name}: changed since its download; delete it and run again")
            continue
        if not (folder / name).exists():
            fetcher = pooch.create(path=folder, base_url=base_url, registry={name: None}, retry_if_failed=3)
            try:
                fetcher.fetch(name, progressbar=True)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"cannot download {base_url}{name} ({type(error).__name__}); "
                    f"put that file into {folder} and run again"
                ) from error
        known[name] = pooch.file_hash(str(folder / name))
    partial = record.with_suffix(".partial")
    partial.write_text("".join(f"{digest}  {name}\n" for name, digest in known.items()))
    partial.rename(record)
    return folder


def _read_csv(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """The named columns with their types; on failure the slow search for the first offending value."""
    nullable = {name: pa.string() if name == "term_id" else kind for name, kind in columns.items()}
    convert = pcsv.ConvertOptions(
        column_types=nullable, include_columns=list(columns), null_values=[""], strings_can_be_null=True
    )
    try:
        table = pcsv.read_csv(path, convert_options=convert)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise _diagnosis(path, columns, error) from error
    for name in columns:
        if name != "term_id":
            _check(path, name, table[name], table[name].is_null().to_numpy(), "fill in the missing value")
    return table


def _check(path: Path, column: str, values: pa.ChunkedArray, wrong: np.ndarray, remedy: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{path}, line {line_of(path, row)}, column {column}: {values[row].as_py()!r}; {remedy}")


def line_of(path: Path, row: int) -> int:
    """The line on which a data row (from 0) starts. Reads the file again: only errors need it."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as stream:
        return next(islice(_records(path, stream), row + 1, None), (row + 2, []))[0]


def _records(path: Path, stream: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """First line and cells of every row, the header included; blank lines are counted and left out."""
    reader = csv.reader(stream)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: {error}; mend the line") from error


def _diagnosis(path: Path, columns: dict[str, pa.DataType], error: Exception) -> DataError:
    """What is wrong with a file that could not be read, from the coarse (compression, encoding) to the single value."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        return DataError(f"{path}: broken or truncated gzip; export or download it again")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as undecodable:
        line = raw[: undecodable.start].count(b"\n") + 1
        return DataError(f"{path}, line {line}: not UTF-8; convert the file to UTF-8")
    if not text.strip():
        return DataError(f"{path}: empty file; the first line must be {','.join(columns)}")
    found = _first_fault(_records(path, io.StringIO(text, newline="")), columns)
    return DataError(f"{path}, {found}" if found else f"{path}: {error}".splitlines()[0])


def _first_fault(records: Iterator[tuple[int, list[str]]], columns: dict[str, pa.DataType]) -> str | None:
    """Line, cause and remedy of the first row that does not fit."""
    line, header = next(records)
    missing = [name for name in columns if name not in header]
    if missing:
        return f"line {line}: no column {missing[0]}; {_header_remedy(header, columns)}"
    for line, cells in records:
        if len(cells) != len(header):
            return f"line {line}: {len(cells)} columns instead of {len(header)}; mend the line"
        for name, kind in columns.items():
            value = cells[header.index(name)]
            if not _fits(value, kind):
                return f"line {line}, column {name}: {value!r} is not a number; mend the value"
    return None


def _header_remedy(header: list[str], columns: dict[str, pa.DataType]) -> str:
    separator = next((s for s in ";\t|" if any(s in cell for cell in header)), None)
    if separator:
        return f"separate columns by commas, not {separator!r}"
    return f"the first line must hold {','.join(columns)}"


def _fits(value: str, kind: pa.DataType) -> bool:
    """Whether the fast reader takes the value: it trims numbers; missing values are another check's subject."""
    try:
        pc.cast(pa.array([value.strip(" \t") if value else None], pa.string()), kind)
    except pa.ArrowInvalid:
        return False
    return True
