"""Synthetic bank transactions in the bank's own format, with the Bayes-optimal score of every customer beside them."""

import argparse
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from jaxtyping import Int
from numpy import ndarray

from study.tasks.calibration import HOURS, Model, build
from study.tasks.generative import DAY_PLACES, MINUTES, SECONDS, Events, amounts, draw, log_odds

HEADER = b"customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
CHUNK = 500  # customers made together: bounds the memory, and fixes which random stream a customer comes from
FIRST_ID, ID_PRIME, ID_STEP = 10_000_000, 89_999_999, 48_271
FAVOURITES = 40  # terminals at which a customer does one kind of transaction
CERTAIN = 36.0  # log-odds at which a double-precision probability is 0 or 1 to its last digit
MARGIN = 16  # most events before the early couple, and after the late one, of a memory task


def generate(directory: Path, customers: int, seed: int, labelled_share: float = 0.8) -> None:
    """Write `transactions.csv.gz`, `gender_train.csv` (0 woman, 1 man) and `truth.csv` (customer_id, log_odds)."""
    write(directory, calibrated(customers, seed, labelled_share))


def generate_memory_task(directory: Path, customers: int, seed: int, distance: int) -> None:
    """The same files, all customers labelled, for a task that needs two events `distance` events apart.

    Every history holds one early couple of neighbouring events of two rare codes, in either order, and one late couple
    of two other rare codes. The label is 1 where one couple ascends and the other descends: how often codes occur says
    nothing, nor does either couple by itself, and `truth.csv` is certain. Raises ValueError for a distance below 2.
    """
    if distance < 2:
        raise ValueError(f"distance is {distance}: the couples overlap below 2")
    write(directory, memory(customers, seed, distance))


def calibrated(customers: int, seed: int, labelled_share: float) -> Iterator[tuple[pa.Table, pd.DataFrame]]:
    """Tables of events and of customers (customer_id, gender, labelled, log_odds), a few customers at a time."""
    model = build()
    for ids, rng in chunks(customers, seed):
        men = (rng.random(len(ids)) < model.men).astype(int)
        labelled = rng.random(len(ids)) < labelled_share
        events = draw(model, men, rng)
        people = {"gender": men, "labelled": labelled, "log_odds": log_odds(model, events, len(ids))}
        yield rows(model, events, ids, rng), pd.DataFrame({"customer_id": ids} | people)


def memory(customers: int, seed: int, distance: int) -> Iterator[tuple[pa.Table, pd.DataFrame]]:
    """As `calibrated`, for the memory task: all other events come from the same main codes, whatever the label."""
    model = build()
    pairs, days = model.pairs, len(model.days)
    usual = pairs["events"].where(pairs["main"], 0.0).to_numpy()
    by_code = pairs.assign(row=pairs.index).groupby("mcc_code").agg(row=("row", "first"), events=("events", "sum"))
    rarest = by_code.sort_values("events", kind="stable").head(4)
    rare = rarest["row"].to_numpy()[np.lexsort((rarest.index, [0, 0, 1, 1]))]
    for ids, rng in chunks(customers, seed):
        before, after = rng.integers(0, MARGIN + 1, (2, len(ids)))
        lengths = before + distance + 2 + after
        first = np.cumsum(lengths) - lengths + before
        pair = rng.choice(len(pairs), lengths.sum(), p=usual / usual.sum())
        early, late = rng.integers(0, 2, (2, len(ids)))
        for at, codes, flip in ((first, rare[:2], early), (first + distance, rare[2:], late)):
            pair[at], pair[at + 1] = codes[flip], codes[1 - flip]
        customer = np.repeat(np.arange(len(ids)), lengths)
        moment = np.sort(customer * days * DAY_PLACES + rng.integers(0, days * DAY_PLACES, len(pair)))
        day, place = moment // DAY_PLACES % days, moment % DAY_PLACES
        amount = amounts(model, np.zeros_like(ids), customer, pair, rng)
        people = {"gender": early ^ late, "labelled": True, "log_odds": np.where(early ^ late, CERTAIN, -CERTAIN)}
        yield (
            rows(model, Events(customer, pair, day, place, amount), ids, rng),
            pd.DataFrame({"customer_id": ids} | people),
        )


def chunks(customers: int, seed: int) -> Iterator[tuple[Int[ndarray, " customers"], np.random.Generator]]:
    """Customers' numbers, eight digits without visible order (multiples modulo a prime), and their random stream.

    Raises ValueError below one customer.
    """
    if customers < 1:
        raise ValueError(f"customers is {customers}: at least 1 is needed")
    for start in range(0, customers, CHUNK):
        index = np.arange(start + 1, min(start + CHUNK, customers) + 1)
        yield FIRST_ID + (index * ID_STEP + seed % ID_PRIME) % ID_PRIME, np.random.default_rng([seed, start])


def rows(model: Model, events: Events, ids: Int[ndarray, " customers"], rng: np.random.Generator) -> pa.Table:
    """Events in the bank's columns."""
    clock = [f"{h:02}:{m:02}:{s:02}" for h in range(HOURS) for m in range(MINUTES) for s in range(SECONDS)]
    time, day = pa.array(clock).take(pa.array(events.place)), pc.cast(pa.array(events.day), pa.string())
    columns = {
        "customer_id": ids[events.customer],
        "tr_datetime": pc.binary_join_element_wise(day, time, " "),
        "mcc_code": model.pairs["mcc_code"].to_numpy()[events.pair],
        "tr_type": model.pairs["tr_type"].to_numpy()[events.pair],
        "amount": events.amount,
        "term_id": terminals(model, events, ids, rng),
    }
    return pa.table(columns)


def terminals(model: Model, events: Events, ids: Int[ndarray, " customers"], rng: np.random.Generator) -> pa.Array:
    """Terminals, missing before the bank recorded them; a customer comes back to some favourites for each pair."""
    favourite = (FAVOURITES * rng.random(len(events.pair)) ** 2).astype(int)
    number = 100_000 + (ids[events.customer] * 31 + events.pair * 7_919 + favourite * 104_729) % 800_000
    lost = rng.random(len(number)) < model.terminal_missing_after
    return pa.array(number, mask=lost | (events.day < model.first_day_with_terminals))


def write(directory: Path, parts: Iterator[tuple[pa.Table, pd.DataFrame]]) -> None:
    """Write the three files; each appears under its name only when all are complete."""
    directory.mkdir(parents=True, exist_ok=True)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    people, names = [], ("gender_train.csv", "truth.csv", "transactions.csv.gz")
    waiting = {name: directory / f".{name}.partial" for name in names}
    with waiting["transactions.csv.gz"].open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        packed.write(HEADER)
        for table, part in parts:
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(table, sink, options)
            packed.write(sink.getvalue())
            people.append(part)
    everyone = pd.concat(people)
    labels = everyone.loc[everyone["labelled"], ["customer_id", "gender"]]
    labels.to_csv(waiting["gender_train.csv"], index=False, lineterminator="\n")
    everyone[["customer_id", "log_odds"]].to_csv(waiting["truth.csv"], index=False, lineterminator="\n")
    for name in names:
        os.replace(waiting[name], directory / name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.tasks.synthetic", description=__doc__)
    parser.add_argument("--customers", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    parser.add_argument("--labelled-share", type=float, default=0.8, help="customers with a label (default 0.8)")
    parser.add_argument("--memory-distance", type=int, help="write the memory task with this distance instead")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    arguments = parser.parse_args()
    if arguments.memory_distance is None:
        generate(arguments.out, arguments.customers, arguments.seed, arguments.labelled_share)
    else:
        generate_memory_task(arguments.out, arguments.customers, arguments.seed, arguments.memory_distance)


if __name__ == "__main__":
    main()
