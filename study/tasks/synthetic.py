"""Synthetic bank transactions in the bank's own format, with the exact log-odds of every customer's label beside them.

A customer's codes, hours and amounts come from a hierarchy that integrates out in closed form: every choice on the way
to a code and the hour are Dirichlet-multinomial, amounts are log-normal with a normal level per customer. The labels
differ in the means of these distributions, in the length of the history and in the order in which two neighbouring
events stand. Everything else (days, seasons, bursts, minutes, signs, terminals) ignores the label given the codes.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from numpy.random import Generator
from scipy.special import expit, gammaln

from study.tasks.calibration import HOURS, Model, build

MINUTES, SECONDS = 60, 61  # the bank's seconds run from 0 to 60
HOUR_PLACES = MINUTES * SECONDS
DAY_PLACES = HOURS * HOUR_PLACES
BACKWARDS = 0.12  # of every second couple of neighbours within a day
CHUNK = 500  # customers made together: bounds the memory, and fixes which random stream a customer comes from
LABELLED_SHARE = 0.8
FIRST_ID, ID_PRIME, ID_STEP = 10_000_000, 89_999_999, 48_271  # eight digits without visible order
FAVOURITES = 40  # terminals at which a customer does one kind of transaction
PerEvent = Int[ndarray, " events"]
PerCustomer = Int[ndarray, " customers"]


class Events(NamedTuple):
    """Events of some customers in the order of the file."""

    customer: PerEvent  # numbered from 0, each in one run
    pair: PerEvent  # row of the model's pairs (MCC, type)
    day: PerEvent
    place: PerEvent  # of the second among the day's 24 x 60 x 61; 0 is midnight
    amount: Float[ndarray, " events"]  # signed, in the bank's unit


def generate(directory: Path, customers: int, seed: int) -> None:
    """Write `transactions.csv.gz`, then `gender_train.csv` (0 woman, 1 man) and `truth.csv` (customer_id, log_odds)."""
    directory.mkdir(parents=True, exist_ok=True)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    people = []
    with (directory / "transactions.csv.gz").open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        packed.write(b"customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n")
        for table, part in calibrated(customers, seed):
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(table, sink, options)
            packed.write(sink.getvalue())
            people.append(part)
    everyone = pd.concat(people)
    labels = everyone.loc[everyone["labelled"], ["customer_id", "gender"]]
    labels.to_csv(directory / "gender_train.csv", index=False, lineterminator="\n")
    everyone[["customer_id", "log_odds"]].to_csv(directory / "truth.csv", index=False, lineterminator="\n")


def calibrated(customers: int, seed: int) -> Iterator[tuple[pa.Table, pd.DataFrame]]:
    """Tables of events and of customers (customer_id, gender, labelled, log_odds), a few customers at a time."""
    model = build()
    for start in range(0, customers, CHUNK):
        rng, number = np.random.default_rng([seed, start]), np.arange(start + 1, min(start + CHUNK, customers) + 1)
        ids = FIRST_ID + (number * ID_STEP + seed % ID_PRIME) % ID_PRIME
        men = (rng.random(len(ids)) < model.men).astype(int)
        labelled = rng.random(len(ids)) < LABELLED_SHARE
        events = draw(model, men, rng)
        people = {"gender": men, "labelled": labelled, "log_odds": log_odds(model, events, len(ids))}
        yield rows(model, events, ids, rng), pd.DataFrame({"customer_id": ids} | people)


def rows(model: Model, events: Events, ids: PerCustomer, rng: Generator) -> pa.Table:
    """Events in the bank's columns; a customer comes back to some favourite terminals for each pair."""
    clock = [f"{h:02}:{m:02}:{s:02}" for h in range(HOURS) for m in range(MINUTES) for s in range(SECONDS)]
    time, day = pa.array(clock).take(pa.array(events.place)), pc.cast(pa.array(events.day), pa.string())
    favourite = (FAVOURITES * rng.random(len(events.pair)) ** 2).astype(int)
    terminal = 100_000 + (ids[events.customer] * 31 + events.pair * 7_919 + favourite * 104_729) % 800_000
    lost = rng.random(len(terminal)) < model.known["terminal_missing_after"]
    return pa.table(
        {
            "customer_id": ids[events.customer],
            "tr_datetime": pc.binary_join_element_wise(day, time, " "),
            "mcc_code": model.pairs["mcc_code"].to_numpy()[events.pair],
            "tr_type": model.pairs["tr_type"].to_numpy()[events.pair],
            "amount": events.amount,
            "term_id": pa.array(terminal, mask=lost | (events.day < model.known["first_day_with_terminals"])),
        }
    )


def draw(model: Model, men: PerCustomer, rng: Generator) -> Events:
    """The histories of customers with the given labels (0 woman, 1 man), one customer after the other."""
    lengths = np.array([1 + np.searchsorted(model.length_cdf[label], rng.random(), side="right") for label in men])
    customer = np.repeat(np.arange(len(men)), lengths)
    pair = seasonal(model, customer, codes(model, men, customer, rng), rng)
    activity = rng.standard_gamma(model.known["day_shape"], (len(men), len(model.days))) * model.days
    slot = np.sort(pick(rng, activity, customer) + customer * len(model.days))
    midnight = rng.random(len(pair)) < model.pairs["midnight_share"].to_numpy()[pair]
    order = np.argsort(2 * slot + ~midnight, kind="stable")  # midnight events open their day
    pair, midnight = pair[order], midnight[order]
    first, lead = couples(model, customer, pair, midnight)  # put in an order that leans towards the label's
    towards = model.known["order_effect"] * (men[customer[first]] - 0.5)
    high_first = rng.random(len(first)) < expit(towards * np.abs(lead))
    second = first[(lead > 0) != high_first] + 1
    pair[second - 1], pair[second] = pair[second], pair[second - 1]
    hour = pick(rng, rng.standard_gamma(model.hour_alpha[men]), customer)
    place = np.maximum(hour * HOUR_PLACES + rng.integers(0, HOUR_PLACES, len(hour)), 1)
    place = np.sort((2 * slot + ~midnight) * DAY_PLACES + np.where(midnight, 0, place)) % DAY_PLACES
    second = first[(slot[first] == slot[first + 1]) & ~midnight[first]] + 1
    second = second[rng.random(len(second)) < BACKWARDS]
    place[second - 1], place[second] = place[second], place[second - 1]
    return Events(customer, pair, slot % len(model.days), place, amounts(model, men, customer, pair, rng))


def pick(rng: Generator, weights: Float[ndarray, "rows columns"], row: PerEvent) -> PerEvent:
    """A column for every entry of `row`, drawn with that row's weights."""
    edges = np.cumsum(weights, axis=1)
    edges = (edges / edges[:, -1:] + np.arange(len(weights))[:, None]).ravel()
    found = np.searchsorted(edges, rng.random(len(row)) + row, side="right")
    return np.clip(found - row * weights.shape[1], 0, weights.shape[1] - 1)


def codes(model: Model, men: PerCustomer, customer: PerEvent, rng: Generator) -> PerEvent:
    """Pairs drawn independently from each customer's own shares, a Dirichlet draw for each choice on the way."""
    shares = np.ones((len(men), len(model.pairs)))
    for choice in model.choices:
        draws = rng.standard_gamma(choice.alpha[men]) + np.finfo(float).tiny
        shares *= (draws / np.add.reduceat(draws, choice.parents, axis=1)[:, choice.parent_of])[:, choice.column]
    return pick(rng, shares, customer)


def seasonal(model: Model, customer: PerEvent, pair: PerEvent, rng: Generator) -> PerEvent:
    """Pairs in another order: a code outside the main ones has a season in the history, and events come in bursts."""
    code = model.choices[2].column[pair]
    key = customer * len(model.choices[2].starts) + code
    start = rng.random((customer[-1] + 1) * len(model.choices[2].starts))[key]
    season = np.where(model.pairs["main"].to_numpy()[pair], 1.0, model.known["season"])
    moment = (start + season * rng.random(len(pair))) % 1.0
    by_code = np.argsort(key + moment)
    joins = (np.diff(key[by_code], prepend=-1) == 0) & (rng.random(len(pair)) < model.known["burst"])
    leader = np.maximum.accumulate(np.where(joins, 0, np.arange(len(pair))))
    moment[by_code] = moment[by_code][leader]
    return pair[np.argsort(customer + moment, kind="stable")]


def couples(
    model: Model, customer: PerEvent, pair: PerEvent, midnight: Bool[ndarray, " events"]
) -> tuple[Int[ndarray, " couples"], Float[ndarray, " couples"]]:
    """Disjoint couples (0, 1), (2, 3), ... of each history, both at midnight or neither: first places, their leads."""
    starts = np.flatnonzero(np.diff(customer, prepend=-1))
    rank = np.arange(len(customer)) - np.repeat(starts, np.diff(starts, append=len(customer)))
    first = np.flatnonzero(rank[:-1] % 2 == 0)
    first = first[(customer[first] == customer[first + 1]) & (midnight[first] == midnight[first + 1])]
    lean = model.pairs["lean_in_couple"].to_numpy()[pair]
    return first, lean[first] - lean[first + 1]


def amounts(
    model: Model, men: PerCustomer, customer: PerEvent, pair: PerEvent, rng: Generator
) -> Float[ndarray, " events"]:
    """Log-normal amounts around the pair's mean and the customer's level, in whole kopecks of the bank's unit."""
    level = rng.normal(model.known["amount_effect"] * (men - 0.5), model.known["amount_spread"])
    noise = rng.standard_normal(len(pair)) * model.pairs["log_amount_sd"].to_numpy()[pair]
    size = np.exp(model.pairs["log_amount_mean"].to_numpy()[pair] + level[customer] + noise)
    sign, unit = (
        np.where(rng.random(len(pair)) < model.pairs["negative_share"].to_numpy()[pair], -1, 1),
        model.known["amount_units_per_rouble"],
    )
    return np.round(sign * np.maximum(np.rint(100 * size / unit), 1) * unit / 100, 2)


def log_odds(model: Model, events: Events, customers: int) -> Float[ndarray, " customers"]:
    """Log-odds of being a man given all of a customer's events, the prior included: the Bayes-optimal score.

    Exact except for rounding amounts to kopecks. Days, seasons and signs have the same factor under both labels.
    """
    men, midnight = model.men, events.place == 0
    mass = np.diff(model.length_cdf, axis=1, prepend=0.0)[:, np.bincount(events.customer, minlength=customers) - 1]
    hours = tally(events.customer[~midnight], events.place[~midnight] // HOUR_PLACES, customers, HOURS)
    pairs = tally(events.customer, events.pair, customers, len(model.pairs))
    chosen = [(np.add.reduceat(pairs, choice.starts, axis=1), choice.alpha) for choice in model.choices]
    result = np.log(men / (1 - men)) + np.log(mass[1] / mass[0])
    for counts, alpha in [(hours, model.hour_alpha), *chosen]:  # Dirichlet-multinomial; the sum of alpha is the same
        of_women, of_men = (np.sum(gammaln(counts + one) - gammaln(one), axis=1) for one in alpha)
        result += of_men - of_women
    first, lead = couples(model, events.customer, events.pair, midnight)
    towards = model.known["order_effect"] * lead / 2
    of_order = np.log(expit(towards) / expit(-towards))
    return result + amount_ratio(model, events, customers) + np.bincount(events.customer[first], of_order, customers)


def tally(customer: PerEvent, column: PerEvent, customers: int, columns: int) -> Int[ndarray, "customers columns"]:
    """How often each customer has each column."""
    return np.bincount(customer * columns + column, minlength=customers * columns).reshape(customers, columns)


def amount_ratio(model: Model, events: Events, customers: int) -> Float[ndarray, " customers"]:
    """Log-ratio of normal densities of a customer's mean residual, its level integrated out."""
    weight = model.pairs["log_amount_sd"].to_numpy()[events.pair] ** -2.0
    residual = np.log(np.abs(events.amount)) - model.pairs["log_amount_mean"].to_numpy()[events.pair]
    precision = np.bincount(events.customer, weight, customers)
    level = np.bincount(events.customer, weight * residual, customers) / precision
    distance = (level + model.known["amount_effect"] / 2) ** 2 - (level - model.known["amount_effect"] / 2) ** 2
    return distance / (2 * (model.known["amount_spread"] ** 2 + 1 / precision))
