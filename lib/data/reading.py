"""Files of rows, a few megabytes at a time: delimited text, compressed or not, or Parquet; and how times are written.

What a file is, its first bytes say, whatever its name; what cannot be read is named by line, column and value. Formats
and times need each other for that, so this module is longer than the others.
"""

import csv
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from lib.data.description import DAY, FILE, Clock, DataError, Description, Remedy, Times

BLOCK, ROWS = 1 << 22, 1 << 16  # bytes, and rows of Parquet, that are read at a time
COMPRESSED = {"gzip": rb"\x1f\x8b", "bz2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "zstd": rb"\x28\xb5\x2f\xfd"}
OTHERS = {
    "a zip archive or an Excel file": rb"PK\x03\x04",
    "an xz archive": rb"\xfd7zXZ\x00",
    "UTF-16 text": rb"\xff\xfe|\xfe\xff",
}
BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException)

NANOSECONDS = {"days": DAY * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
LAST_DAY = 100_000  # a column of seconds, where days are meant, lies beyond; nanoseconds reach a little farther
ISO = "an ISO date or time without zone (2024-05-31 or 2024-05-31 18:03:59, from 1678 to 2261)"
DATE = r"^(\d{4})(\d\d)(\d\d)"
ZONE = r" ?(Z|UTC|[+-]\d\d(?::?\d\d)?)"
COMPACT = rf"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([T ]?\d\d:?\d\d:?\d\d(\.\d+)?({ZONE})?)?"
ZONED = rf"^(.{{11,}}?){ZONE}$"


@contextmanager
def opened(path: Path) -> Iterator[pa.NativeFile]:
    """The file's bytes, decompressed. Raises DataError for a format that is not read, and where it is broken.

    The stream is for pyarrow's threads, which may still read when Python ends: none of Python's own.
    """
    head = first_bytes(path)
    for other, magic in OTHERS.items():
        if re.match(magic, head):
            raise DataError(f"{path}: {other}; export it as comma-separated text in UTF-8, or as Parquet")
    codec = next((codec for codec, magic in COMPRESSED.items() if re.match(magic, head)), None)
    with whole(path, codec or "file"):
        # Zeros may follow a gzip file, which pyarrow refuses; the last byte is zero, too, of less than 16 MiB of text.
        if codec == "gzip" and path.read_bytes().endswith(b"\0"):
            stream = pa.BufferReader(gzip.decompress(path.read_bytes()))
        else:
            stream = pa.input_stream(str(path), compression=codec)
        with stream:
            yield stream


@contextmanager
def whole(path: Path, kind: str) -> Iterator[None]:
    """Raise DataError where reading fails in one of the ways in which a broken file of its kind does."""
    try:
        yield
    except BROKEN as error:
        raise DataError(f"{path}: unreadable, broken or truncated {kind}; export or download it again") from error


def first_bytes(path: Path) -> bytes:
    """Enough of the file to tell what it is."""
    with whole(path, "file"), path.open("rb") as stream:
        return stream.read(16)


def table(folder: Path, description: Description, key: str) -> "Table":
    """The file of `events` or of `labels`. Raises DataError for a described column that is missing or occurs twice."""
    path = folder / getattr(description, key)
    file = Parquet(path) if first_bytes(path).startswith(b"PAR1") else Delimited(path, description)
    file.has(description.columns(key))
    return file


class Table:
    """A file of rows; `names` are its columns, `top` where in it they stand."""

    delimiter, decimal = ",", "."

    def __init__(self, path: Path, names: list[str], top: str = "") -> None:
        self.path, self.names, self.top = path, names, top

    def batches(self, types: dict, optional: Iterable[str] = ()) -> Iterator[tuple[int, pa.RecordBatch]]:
        """First row's number (from 0) and typed rows. Raises DataError for cells of another type or not `optional`."""
        row = 0
        for batch in self._typed(types):
            for name in types:
                if name not in optional and batch[name].null_count:
                    self.check(name, batch[name], batch[name].is_valid().to_numpy(False), row, "fill in the value")
            yield row, batch
            row += batch.num_rows
        if not row:
            raise DataError(f"{self.path}: no rows; fill them in")

    def check(self, column: str, values: pa.Array, right: np.ndarray, first_row: int, remedy: Remedy) -> None:
        """Raise DataError for the first value that is not right, if any."""
        if not right.all():
            place = int(np.argmin(right))
            value = values[place].as_py()
            advice = remedy(value) if callable(remedy) else remedy
            raise DataError(f"{self.path}, {self.where(first_row + place)}, column {column}: {value!r}; {advice}")

    def has(self, wanted: list[str]) -> None:
        """Raise DataError where a column is missing or occurs twice, or the file is empty."""
        if not self.names:
            raise DataError(f"{self.path}: empty file; the first line must hold {','.join(wanted)}")
        plain = {other.strip().casefold(): other for other in self.names if other not in wanted}
        for name in wanted:
            near = difflib.get_close_matches(name.strip().casefold(), plain, 1)
            if name not in self.names:
                found = f"the nearest is {plain[near[0]]!r}" if near else f"needed are {self.delimiter.join(wanted)}"
                remedy = f"rename it, or write yours, or another `delimiter`, in {FILE}"
                raise DataError(f"{self.path}{self.top}: no column {name}; {found}: {remedy}")
            if self.names.count(name) > 1:
                raise DataError(f"{self.path}{self.top}: column {name} occurs twice; rename or remove one of them")


class Delimited(Table):
    """Text with a character between columns, a comma where its first line lacks the described one."""

    def __init__(self, path: Path, description: Description) -> None:
        self.path, self.decimal = path, description.decimal
        for self.delimiter in (description.delimiter, ","):
            (line, names), *rest = [*islice(self._records(), 2)] or [(1, [])]
            if len(names) > 1:
                break
        super().__init__(path, names, f", line {line}")
        self._first = dict(zip(names, rest[0][1], strict=False)) if rest else {}

    def first(self, column: str) -> tuple[str, pa.DataType]:
        """The column's cell in the first row, and its type before it is given one."""
        return self._first.get(column, ""), pa.string()

    def where(self, row: int) -> str:
        """The line on which a row (from 0) starts. Reads the file again: only errors need it."""
        return f"line {next(islice(self._records(), row + 1, None), (row + 2, []))[0]}"

    def _typed(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        convert = pcsv.ConvertOptions(column_types=types, include_columns=list(types), decimal_point=self.decimal)
        convert.null_values, convert.strings_can_be_null = [""], True
        parse = pcsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        row = 0
        with opened(self.path) as stream:
            try:
                for batch in pcsv.open_csv(stream, pcsv.ReadOptions(block_size=BLOCK), parse, convert):
                    yield batch
                    row += batch.num_rows
            except pa.ArrowInvalid as error:
                raise self._fault(types, row, error) from error

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """First line and cells of every row, the header included; blank lines are counted and left out."""
        with opened(self.path) as stream:
            text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
            reader, start = csv.reader(text, delimiter=self.delimiter), 1
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
        with whole(path, "Parquet"):
            self.file = pq.ParquetFile(path)
            super().__init__(path, self.file.schema_arrow.names)

    def first(self, column: str) -> tuple[str, pa.DataType]:
        """The column's value in the first row, as text, and its type in the file."""
        with whole(self.path, "Parquet"):
            batch = next(self.file.iter_batches(1, columns=[column]), None)
            value = str(batch[0][0]) if batch and batch[0][0].is_valid else ""
            return value, self.file.schema_arrow.field(column).type

    def where(self, row: int) -> str:
        """The row, counted from 1."""
        return f"row {row + 1}"

    def _typed(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        with whole(self.path, "Parquet"):
            for batch in self.file.iter_batches(ROWS, columns=list(types)):
                batch.validate(full=True)
                yield pa.record_batch({name: self._cast(name, batch[name], kind) for name, kind in types.items()})

    def _cast(self, name: str, column: pa.Array, kind: pa.DataType) -> pa.Array:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.if_else(pc.equal(column, ""), None, column)
        try:
            return column.cast(kind)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.path}, column {name}: {error}; store it as {kind}") from error


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


def clock_of(file: Table, column: str, unit: str | None) -> Clock:
    """How the first row writes its time: a date or time, with a zone or without, or a number of the unit."""
    first, kind = file.first(column)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return stamps(getattr(kind, "tz", None))
    compact = re.fullmatch(COMPACT, first)
    if unit or (first and not compact and fits(first, pa.float64(), file.decimal)):
        return numbered(unit or "days")
    zoned = bool(re.search(ZONED, first))
    return as_text(zoned) if compact or zoned else stamps(None)


def numbered(unit: str) -> Clock:
    """Numbers of days, to the nearest second, or since 1 January 1970 in a unit; hours and weekdays are UTC's."""
    scale, half = NANOSECONDS[unit], 5 * 10**8 if unit == "days" else 0

    def read(column: pa.Array) -> Times:
        values = column.to_numpy()
        valid = np.abs(values) < LAST_DAY * NANOSECONDS["days"] // scale
        instants = np.round(np.where(valid, values, 0) * scale).astype(np.int64) + half
        return instants, instants, valid

    kind = pa.int64() if unit == "ns" else pa.float64()
    return Clock(kind, read, number_remedy, None if unit == "days" else 3)


def number_remedy(value: float) -> str:
    """What to do about a number that is beyond its unit."""
    for unit, word in WORDS.items():
        if 1990 < 1970 + value * NANOSECONDS[unit] / NANOSECONDS["days"] / 365.2425 < 2100:
            return f"it looks like {word} since 1970: write `time_unit: {unit}` in {FILE}"
    return f"give a number of days, less than {LAST_DAY:,}, or the unit since 1970 as `time_unit` in {FILE}"


def stamps(zone: str | None) -> Clock:
    """Dates and times without zone, or instants to be written in a zone."""

    def read(column: pa.Array) -> Times:
        local = column if zone in (None, "UTC") else pc.local_timestamp(column)
        return _integers(local), _integers(column), np.ones(len(column), bool)

    return Clock(pa.timestamp("ns", zone), read)


def as_text(zoned: bool) -> Clock:
    """Compact dates, or times with a zone; hours and weekdays are those written."""
    kind = pa.timestamp("ns", "UTC" if zoned else None)

    def read(column: pa.Array) -> Times:
        text = pc.replace_substring_regex(column, rf"{DATE}[T ]?(\d\d):?(\d\d):?(\d\d)", r"\1-\2-\3 \4:\5:\6")
        text = pc.replace_substring_regex(text, rf"{DATE}$", r"\1-\2-\3")
        if zoned:
            text = pc.replace_substring(pc.replace_substring_regex(text, ZONED, r"\1\2"), "UTC", "Z")
        try:
            instants = _integers(text.cast(kind))
        except pa.ArrowInvalid:
            nothing = np.zeros(len(text), np.int64)
            return nothing, nothing, np.array([fits(value, kind) for value in text.to_pylist()])
        local = pc.replace_substring_regex(text, ZONED, r"\1").cast(pa.timestamp("ns"))
        return _integers(local), instants, np.ones(len(text), bool)

    example = "2024-05-31 18:03:59+02:00" if zoned else "20240531, 20240531T180359 or 2024-05-31 18:03:59"
    return Clock(pa.string(), read, f"write times alike, as {example}")


def _integers(stamped: pa.Array) -> np.ndarray:
    return stamped.cast(pa.int64()).to_numpy()
