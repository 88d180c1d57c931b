"""Synthetic bank transactions in the bank's own format, with the Bayes-optimal score of every customer beside them."""

import argparse
import gzip
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
from study.tasks.generative import MINUTES, SECONDS, Events, draw, log_odds

HEADER = b"customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
CHUNK = 500  # customers made together: bounds the memory, and fixes which random stream a customer comes from
FIRST_ID, ID_PRIME, ID_STEP = 10_000_000, 89_999_999, 48_271  # eight digits without visible order
FAVOURITES = 40  # terminals at which a customer does one kind of transaction


def generate(directory: Path, customers: int, seed: int, labelled_share: float = 0.8) -> None:
    """Write `transactions.csv.gz`, then `gender_train.csv` (0 woman, 1 man) and `truth.csv` (customer_id, log_odds).

    Raises ValueError below one customer.
    """
    if customers < 1:
        raise ValueError(f"customers is {customers}: at least 1 is needed")
    directory.mkdir(parents=True, exist_ok=True)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    people = []
    with (directory / "transactions.csv.gz").open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        packed.write(HEADER)
        for table, part in calibrated(customers, seed, labelled_share):
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(table, sink, options)
            packed.write(sink.getvalue())
            people.append(part)
    everyone = pd.concat(people)
    labels = everyone.loc[everyone["labelled"], ["customer_id", "gender"]]
    labels.to_csv(directory / "gender_train.csv", index=False, lineterminator="\n")
    everyone[["customer_id", "log_odds"]].to_csv(directory / "truth.csv", index=False, lineterminator="\n")


def calibrated(customers: int, seed: int, labelled_share: float) -> Iterator[tuple[pa.Table, pd.DataFrame]]:
    """Tables of events and of customers (customer_id, gender, labelled, log_odds), a few customers at a time."""
    model = build()
    for start in range(0, customers, CHUNK):
        rng, number = np.random.default_rng([seed, start]), np.arange(start + 1, min(start + CHUNK, customers) + 1)
        ids = FIRST_ID + (number * ID_STEP + seed % ID_PRIME) % ID_PRIME
        men = (rng.random(len(ids)) < model.men).astype(int)
        labelled = rng.random(len(ids)) < labelled_share
        events = draw(model, men, rng)
        people = {"gender": men, "labelled": labelled, "log_odds": log_odds(model, events, len(ids))}
        yield rows(model, events, ids, rng), pd.DataFrame({"customer_id": ids} | people)


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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.tasks.synthetic", description=__doc__)
    parser.add_argument("--customers", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    parser.add_argument("--labelled-share", type=float, default=0.8, help="customers with a label (default 0.8)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    arguments = parser.parse_args()
    generate(arguments.out, arguments.customers, arguments.seed, arguments.labelled_share)


if __name__ == "__main__":
    main()
