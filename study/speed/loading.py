"""How fast and in how much memory a folder's events become histories, beside reading the same file and no more."""

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from lib.data import histories
from lib.data.description import FILE, PUBLIC_FACTS, describe
from lib.storage import checksum
from study.speed.memory import MIB, peak_memory

PUBLIC_ROWS = PUBLIC_FACTS["events"]


def enlarge(source: Path, target: Path, rows: int) -> None:
    """Write the source's events again and again under new customers, unquoted, until there are so many rows.

    Raises ValueError when there are more to begin with.
    """
    description = describe(source)
    as_text = pcsv.ConvertOptions(column_types=dict.fromkeys(description.columns("events"), pa.string()))
    events, labels = (
        pcsv.read_csv(source / name, convert_options=as_text) for name in (description.events, description.labels)
    )
    if rows < len(events):
        raise ValueError(f"{len(events):,} rows are there; ask for at least as many, not {rows:,}")
    name = description.events.removesuffix(".gz")
    for table, path, rounds in (
        (events, target / name, math.ceil(rows / len(events))),
        (labels, target / description.labels, rows // len(events)),
    ):
        place = table.column_names.index(description.customer)
        customers = table[place].cast(pa.string())
        copies = [
            table.set_column(place, description.customer, pc.binary_join_element_wise(str(1000 + copy), customers, ""))
            for copy in range(rounds)
        ]
        pcsv.write_csv(pa.concat_tables(copies).slice(0, rows), path, pcsv.WriteOptions(quoting_style="none"))
    if (source / FILE).exists():
        described = (source / FILE).read_text(encoding="utf-8").replace(description.events, name)
        (target / FILE).write_text(described, encoding="utf-8")


def bare(folder: Path, _: Path) -> None:
    """Read the file of events with the same library and keep the table."""
    pcsv.read_csv(folder / describe(folder).events)


def encoded(folder: Path, cache: Path) -> None:
    """From the files to histories."""
    histories.save(histories.read(folder), cache)


def mapped(folder: Path, cache: Path) -> None:
    """The second load: the files compared with their checksum, the cache with its own, and mapped."""
    checksum(describe(folder).files(folder))
    histories.load(cache)


def cost(call: Callable[[Path, Path], None], folder: Path, cache: Path) -> dict[str, float]:
    """Seconds, seconds of processor time, and MiB above the start of a call in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (call, folder, cache))


def measured(call: Callable[[Path, Path], None], folder: Path, cache: Path) -> dict[str, float]:
    """`cost` in this process."""
    started, worked = time.perf_counter(), time.process_time()
    with peak_memory() as peak:
        call(folder, cache)
    seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
    return seconds | {"peak_mib": peak.mib}


def main() -> int:
    """Enlarge a folder's events in a temporary folder, load them in three ways, and print what each took."""
    parser = argparse.ArgumentParser(prog="python -m study.speed.loading", description=main.__doc__)
    parser.add_argument("source", type=Path, help="folder of events")
    parser.add_argument("--rows", type=int, default=PUBLIC_ROWS, help="how many (default: as the public set)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        enlarge(options.source, folder, options.rows)
        table = pd.DataFrame({call.__name__: cost(call, folder, cache) for call in (bare, encoded, mapped)}).T
        read = histories.load(cache)
        size = sum(array.nbytes for array in (read.categories, read.numbers, read.days)) / MIB
    table["cpu_per_bare"] = table["cpu_seconds"] / table.loc["bare", "cpu_seconds"]
    table["peak_per_arrays"] = table["peak_mib"] / size
    print(f"{options.rows:,} rows, {size:,.0f} MiB of arrays", table.round(2).to_string(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
