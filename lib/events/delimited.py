"""Comma-separated files in batches of typed columns; what cannot be read is named by line, column and value."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from lib.events.dataset import DataError

BLOCK = 1 << 22
"""Bytes read at a time: large beside the cost of a call, small beside the arrays that are made."""
ISO = "an ISO date or time without zone (2024-05-31 or 2024-05-31 18:03:59)"


def batches(
    path: Path, types: dict[str, pa.DataType], optional: frozenset[str] = frozenset()
) -> Iterator[pa.RecordBatch]:
    """The file's rows in order, with the named columns only.

    Empty cells are null in the `optional` columns. Raises DataError for them elsewhere, for a missing column, a value
    that is not of its type, broken compression, encoding or shape.
    """
    convert = pcsv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
    )
    row = 0
    try:
        for batch in pcsv.open_csv(path, pcsv.ReadOptions(block_size=BLOCK), convert_options=convert):
            for name in types.keys() - optional:
                if batch[name].null_count:
                    check(path, name, batch[name], batch[name].is_null().to_numpy(False), row, "fill in the value")
            yield batch
            row += batch.num_rows
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise _diagnosis(path, types, error) from error


def check(path: Path, column: str, values: pa.Array, wrong: np.ndarray, first_row: int, remedy: str) -> None:
    """Raise DataError for the first wrong value, if any."""
    if wrong.any():
        row = int(np.argmax(wrong))
        line = line_of(path, first_row + row)
        raise DataError(f"{path}, line {line}, column {column}: {values[row].as_py()!r}; {remedy}")


def first_cell(path: Path, column: str) -> str | None:
    """The column's cell in the first row, when the file is whole enough to have one."""
    try:
        with _text(path) as stream:
            (_, header), (_, cells) = islice(_records(path, stream), 2)
    except (ValueError, OSError, EOFError, zlib.error):
        return None
    return dict(zip(header, cells, strict=False)).get(column)


def line_of(path: Path, row: int) -> int:
    """The line on which a data row (from 0) starts. Reads the file again: only errors need it."""
    with _text(path) as stream:
        return next(islice(_records(path, stream), row + 1, None), (row + 2, []))[0]


def _text(path: Path) -> io.TextIOBase:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


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


def _diagnosis(path: Path, types: dict[str, pa.DataType], error: Exception) -> DataError:
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
        return DataError(f"{path}: empty file; the first line must hold {','.join(types)}")
    found = _first_fault(_records(path, io.StringIO(text, newline="")), types)
    return DataError(f"{path}, {found}" if found else f"{path}: {error}".splitlines()[0])


def _first_fault(records: Iterator[tuple[int, list[str]]], types: dict[str, pa.DataType]) -> str | None:
    """Line, cause and remedy of the first row that does not fit."""
    line, header = next(records)
    missing = [name for name in types if name not in header]
    if missing:
        return f"line {line}: no column {missing[0]}; {_header_remedy(header, types)}"
    for line, cells in records:
        if len(cells) != len(header):
            return f"line {line}: {len(cells)} columns instead of {len(header)}; mend the line"
        for name, kind in types.items():
            value = cells[header.index(name)]
            if not _fits(value, kind):
                wanted = ISO if pa.types.is_timestamp(kind) else "a number"
                return f"line {line}, column {name}: {value!r} is not {wanted}; mend the value"
    return None


def _header_remedy(header: list[str], types: dict[str, pa.DataType]) -> str:
    separator = next((s for s in ";\t|" if any(s in cell for cell in header)), None)
    if separator:
        return f"separate columns by commas, not {separator!r}"
    return f"the first line must hold {','.join(types)}"


def _fits(value: str, kind: pa.DataType) -> bool:
    """Whether the fast reader takes the value: it trims numbers; missing values are another check's subject."""
    trimmed = value if pa.types.is_timestamp(kind) else value.strip(" \t")
    try:
        pc.cast(pa.array([trimmed if value else None], pa.string()), kind)
    except pa.ArrowInvalid:
        return False
    return True
