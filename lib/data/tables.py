"""Files of rows, read a few megabytes at a time: delimited text, compressed or not, or Parquet.

What a file is, its first bytes say, whatever its name; what cannot be read is named by line, column and value.
"""

import bz2
import csv
import difflib
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from lib.data.description import FILE, DataError, Description

BLOCK = 1 << 22
"""Bytes read at a time: large beside the cost of a call, small beside the arrays that are made."""
COMPRESSED = {
    "gzip": (rb"\x1f\x8b", gzip.open, "gzip"),
    "bzip2": (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", bz2.open, "bz2"),
    "xz": (rb"\xfd7zXZ\x00", lzma.open, None),
    "zstd": (rb"\x28\xb5\x2f\xfd", lambda path: pa.input_stream(str(path), compression="zstd"), "zstd"),
}
"""How each is recognised, opened, and what pyarrow calls it where it knows it."""
ROWS = 1 << 16
"""Rows of Parquet read at a time."""
OTHERS = {
    "a zip archive or an Excel file": rb"PK\x03\x04",
    "an old Excel file": rb"\xd0\xcf\x11\xe0",
    "an Arrow file": rb"ARROW1\x00\x00",
    "UTF-16 text": rb"\xff\xfe|\xfe\xff",
}
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
ISO = "an ISO date or time without zone (2024-05-31 or 2024-05-31 18:03:59)"


@contextmanager
def opened(path: Path, ahead: bool = False) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed. Raises DataError for a format that is not read, and where it is broken.

    `ahead`: for pyarrow, whose threads may still read when Python ends, so that they must not need Python.
    """
    head = first_bytes(path)
    for other, magic in OTHERS.items():
        if re.match(magic, head):
            raise DataError(f"{path}: {other}; export it as comma-separated text in UTF-8, or as Parquet")
    name, opener, codec = next(
        ((name, opener, codec) for name, (magic, opener, codec) in COMPRESSED.items() if re.match(magic, head)),
        ("file", lambda path: pa.OSFile(str(path)), None),
    )
    try:
        with opener(path) as stream:
            yield without_python(path, stream, codec) if ahead and name != "file" else stream
    except BROKEN as error:
        raise DataError(f"{path}: broken or truncated {name}; export or download it again") from error


def without_python(path: Path, stream: io.IOBase | pa.NativeFile, codec: str | None) -> pa.NativeFile:
    """A compressed file by pyarrow's own codec; from memory where it has none, or where zeros may follow, as in gzip.

    The last byte of a gzip file is zero where zeros follow, and where the text has less than 16 MiB.
    """
    with path.open("rb") as raw:
        raw.seek(-1, os.SEEK_END)
        padded = codec == "gzip" and raw.read() == b"\0"
    if codec is None or padded:
        return pa.BufferReader(stream.read())
    return pa.input_stream(str(path), compression=codec)


def first_bytes(path: Path) -> bytes:
    """Enough of the file to tell what it is."""
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; make it readable") from error


def table(folder: Path, description: Description, key: str) -> "Table":
    """The file of `events` or of `labels`. Raises DataError for a described column that is missing or occurs twice."""
    path = folder / getattr(description, key)
    if first_bytes(path).startswith(b"PAR1"):
        file: Table = Parquet(path)
    else:
        file = Delimited(path, description.delimiter, description.decimal)
    file.has(description.columns(key))
    return file


class Table:
    """A file of rows; `names` are its columns, `top` where in it they stand."""

    decimal = "."

    def __init__(self, path: Path, names: list[str], top: str = "") -> None:
        self.path, self.names, self.top = path, names, top

    def batches(
        self, types: dict[str, pa.DataType], optional: Iterable[str] = ()
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Number of the first row (from 0) and rows, in order, with the named columns only.

        Empty cells are null in the `optional` columns. Raises DataError for them elsewhere, for a value that is not of
        its type, broken compression, encoding or shape.
        """
        row = 0
        for batch in self._typed(types):
            for name in types:
                if name not in optional and batch[name].null_count:
                    self.check(name, batch[name], batch[name].is_null().to_numpy(False), row, "fill in the value")
            yield row, batch
            row += batch.num_rows

    def is_number(self, value: str) -> bool:
        """Whether text stands for a number."""
        return bool(value) and fits(value, pa.float64(), self.decimal)

    def check(
        self, column: str, values: pa.Array, wrong: np.ndarray, first_row: int, remedy: str | Callable[[object], str]
    ) -> None:
        """Raise DataError for the first wrong value, if any."""
        if wrong.any():
            place = int(np.argmax(wrong))
            value = values[place].as_py()
            said = remedy(value) if callable(remedy) else remedy
            raise DataError(f"{self.path}, {self.where(first_row + place)}, column {column}: {value!r}; {said}")

    def has(self, wanted: list[str]) -> None:
        """Raise DataError where a column is missing or occurs twice."""
        for name in wanted:
            if name not in self.names:
                raise DataError(f"{self.path}{self.top}: no column {name}; {self._remedy(name, wanted)}")
            if self.names.count(name) > 1:
                raise DataError(f"{self.path}{self.top}: column {name} occurs twice; rename or remove one of them")

    def _remedy(self, name: str, wanted: list[str]) -> str:
        plain = {other.strip().casefold(): other for other in self.names if other not in wanted}
        near = difflib.get_close_matches(name.strip().casefold(), plain, 1)
        if near:
            return f"the nearest is {plain[near[0]]!r}: rename it, or write it so in {FILE}"
        return f"the {'first line' if self.top else 'file'} must hold {','.join(wanted)}"


class Delimited(Table):
    """Text with a character between columns, a comma where its first line lacks the given one."""

    def __init__(self, path: Path, delimiter: str, decimal: str) -> None:
        with self._text(path) as stream:
            first = next((line for line in stream if line.strip()), "")
        self.path, self.decimal, self.delimiter = path, decimal, delimiter if delimiter in first else ","
        (line, names), *rest = [*islice(self._records(), 2)] or [(1, [])]
        super().__init__(path, names, f", line {line}")
        self._first = dict(zip(names, rest[0][1], strict=False)) if rest else {}

    def kind(self, _: str) -> pa.DataType:
        """Type of a column before it is given one."""
        return pa.string()

    def first(self, column: str) -> str | None:
        """The column's cell in the first row."""
        return self._first.get(column)

    def where(self, row: int) -> str:
        """The line on which a row (from 0) starts. Reads the file again: only errors need it."""
        return f"line {next(islice(self._records(), row + 1, None), (row + 2, []))[0]}"

    def _typed(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Rows by the fast reader, which is slower where line breaks in quotes are expected: after it has stumbled."""
        convert = pcsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
            decimal_point=self.decimal,
        )
        read, row = pcsv.ReadOptions(block_size=BLOCK), 0
        for breaks in (False, True):
            parse, skipped = pcsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=breaks), row
            try:
                with opened(self.path, ahead=True) as stream:
                    for batch in pcsv.open_csv(stream, read, parse, convert):
                        fresh = batch.slice(min(skipped, batch.num_rows))
                        skipped -= batch.num_rows - fresh.num_rows
                        yield fresh
                        row += fresh.num_rows
                return
            except pa.ArrowInvalid as error:
                if breaks:
                    raise self._fault(types, row, error) from error

    def has(self, wanted: list[str]) -> None:
        """Raise DataError where a column is missing or occurs twice, or the file is empty."""
        if not self.names:
            raise DataError(f"{self.path}: empty file; the first line must hold {','.join(wanted)}")
        super().has(wanted)

    def _remedy(self, name: str, wanted: list[str]) -> str:
        separator = next((s for s in ";\t|" if any(s in cell for cell in self.names)), None)
        if separator:
            return f"separate columns by commas, not {separator!r}, or write `delimiter: {separator!r}` in {FILE}"
        return super()._remedy(name, wanted)

    @staticmethod
    @contextmanager
    def _text(path: Path) -> Iterator[io.TextIOBase]:
        with opened(path) as stream:
            yield io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """First line and cells of every row, the header included; blank lines are counted and left out."""
        with self._text(self.path) as stream:
            reader, start = csv.reader(stream, delimiter=self.delimiter), 1
            try:
                for cells in reader:
                    if cells:
                        yield start, cells
                    start = reader.line_num + 1
            except csv.Error as error:
                raise DataError(f"{self.path}, line {start}: {error}; mend the line") from error

    def _fault(self, types: dict[str, pa.DataType], row: int, error: Exception) -> DataError:
        """The first row from a given one on that the fast reader cannot have read."""
        for line, cells in islice(self._records(), row + 1, None):
            at = f"{self.path}, line {line}"
            if len(cells) != len(self.names):
                return DataError(f"{at}: {len(cells)} columns instead of {len(self.names)}; mend the line")
            for name, kind in types.items():
                value = cells[self.names.index(name)]
                if re.search("[\ud800-\udfff]", value):
                    return DataError(f"{at}: not UTF-8; convert the file to UTF-8")
                if not fits(value, kind, self.decimal):
                    wanted = ISO if pa.types.is_timestamp(kind) else "a number"
                    comma = self.decimal == "." and fits(value, kind, ",")
                    remedy = f"write `decimal: ','` in {FILE}" if comma else "mend the value"
                    return DataError(f"{at}, column {name}: {value!r} is not {wanted}; {remedy}")
        return DataError(f"{self.path}: {error}".splitlines()[0])


class Parquet(Table):
    """A Parquet file, whose columns have types of their own."""

    def __init__(self, path: Path) -> None:
        with self._whole(path):
            self.file = pq.ParquetFile(path)
            super().__init__(path, self.file.schema_arrow.names)

    def kind(self, column: str) -> pa.DataType:
        """Type of a column in the file."""
        return self.file.schema_arrow.field(column).type

    def first(self, column: str) -> str | None:
        """The column's value in the first row, as text."""
        with self._whole(self.path):
            batch = next(self.file.iter_batches(1, columns=[column]), None)
            return str(batch[0][0]) if batch and batch[0][0].is_valid else None

    def where(self, row: int) -> str:
        """The row, counted from 1."""
        return f"row {row + 1}"

    def _typed(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        row = 0
        with self._whole(self.path):
            for batch in self.file.iter_batches(ROWS, columns=list(types)):
                batch.validate(full=True)
                yield pa.record_batch({name: self._cast(name, batch[name], kind, row) for name, kind in types.items()})
                row += batch.num_rows

    def _cast(self, name: str, column: pa.Array, kind: pa.DataType, row: int) -> pa.Array:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.if_else(pc.equal(column, ""), None, column)
        try:
            return column.cast(kind)
        except pa.ArrowNotImplementedError as error:
            raise DataError(f"{self.path}, column {name}: holds {column.type}; store it as {kind}") from error
        except pa.ArrowInvalid:
            wrong = np.array([not fits(value, kind) for value in column.cast(pa.string()).to_pylist()])
            self.check(name, column, wrong, row, f"store it as {kind}")
            raise

    @staticmethod
    @contextmanager
    def _whole(path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise DataError(f"{path}: broken or truncated Parquet; export or download it again") from error


def fits(value: str | None, kind: pa.DataType, decimal: str = ".") -> bool:
    """Whether the fast reader takes the value: it trims numbers; missing values are another check's subject."""
    if not value:
        return True
    trimmed = value if pa.types.is_timestamp(kind) else value.strip(" \t")
    if decimal == "," and pa.types.is_floating(kind):
        trimmed = trimmed.translate(str.maketrans(",.", ".,"))
    try:
        pa.scalar(trimmed, pa.string()).cast(kind)
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return False
    return True
