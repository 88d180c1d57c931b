"""Histories drawn from the calibrated model, and the exact log-odds of the label given a history.

A customer's codes, hours and amounts come from a hierarchy that integrates out in closed form: every choice on the way
to a code and the hour are Dirichlet-multinomial, amounts are log-normal with a normal level per customer. The labels
differ in the means of these distributions, in the length of the history and in the order in which two neighbouring
events stand. Everything else (days, seasons, bursts, minutes, signs, terminals) ignores the label given the codes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.special import expit, gammaln

from study.tasks.calibration import HOURS, Model

MINUTES = 60
SECONDS = 61  # the bank's seconds run from 0 to 60
HOUR_PLACES = MINUTES * SECONDS
DAY_PLACES = HOURS * HOUR_PLACES
BACKWARDS = 0.12  # of every second couple of neighbours within a day
PerEvent = Int[ndarray, " events"]
PerCustomer = Int[ndarray, " customers"]


class Events(NamedTuple):
    """Events of some customers in the order of the file."""

    customer: PerEvent  # numbered from 0, each in one run
    pair: PerEvent  # row of the model's pairs (MCC, type)
    day: PerEvent
    place: PerEvent  # of the second among the day's 24 x 60 x 61; 0 is midnight
    amount: Float[ndarray, " events"]  # signed, in the bank's unit


def draw(model: Model, men: PerCustomer, rng: np.random.Generator) -> Events:
    """The histories of customers with the given labels (0 woman, 1 man), one customer after the other."""
    lengths = np.array([1 + np.searchsorted(model.length_cdf[label], rng.random(), side="right") for label in men])
    customer = np.repeat(np.arange(len(men)), lengths)
    pair = seasonal(model, customer, codes(model, men, customer, rng), rng)
    activity = rng.standard_gamma(model.recipe.day_shape, (len(men), len(model.days))) * model.days
    slot = np.sort(pick(rng, activity, customer) + customer * len(model.days))
    midnight = rng.random(len(pair)) < model.pairs["midnight_share"].to_numpy()[pair]
    order = np.argsort(2 * slot + ~midnight, kind="stable")  # midnight events open their day
    pair, midnight = pair[order], midnight[order]
    pair = ordered(model, men, customer, pair, midnight, rng)
    place = places(model, men, customer, slot, midnight, rng)
    return Events(customer, pair, slot % len(model.days), place, amounts(model, men, customer, pair, rng))


def pick(rng: np.random.Generator, weights: Float[ndarray, "rows columns"], row: PerEvent) -> PerEvent:
    """A column for every entry of `row`, drawn with that row's weights."""
    edges = np.cumsum(weights, axis=1)
    edges = (edges / edges[:, -1:] + np.arange(len(weights))[:, None]).ravel()
    found = np.searchsorted(edges, rng.random(len(row)) + row, side="right")
    return np.clip(found - row * weights.shape[1], 0, weights.shape[1] - 1)


def codes(model: Model, men: PerCustomer, customer: PerEvent, rng: np.random.Generator) -> PerEvent:
    """Pairs drawn independently from each customer's own shares, a Dirichlet draw for each choice on the way."""
    shares = np.ones((len(men), len(model.pairs)))
    for choice in model.choices:
        draws = rng.standard_gamma(choice.alpha[men]) + np.finfo(float).tiny
        shares *= (draws / np.add.reduceat(draws, choice.parents, axis=1)[:, choice.parent_of])[:, choice.column]
    return pick(rng, shares, customer)


def seasonal(model: Model, customer: PerEvent, pair: PerEvent, rng: np.random.Generator) -> PerEvent:
    """Pairs in another order: a code outside the main ones has a season in the history, and events come in bursts."""
    code, recipe = model.choices[2].column[pair], model.recipe
    key = customer * len(model.choices[2].starts) + code
    start = rng.random((customer[-1] + 1) * len(model.choices[2].starts))[key]
    season = np.where(model.pairs["main"].to_numpy()[pair], 1.0, recipe.season)
    moment = (start + season * rng.random(len(pair))) % 1.0
    by_code = np.argsort(key + moment)
    joins = (np.diff(key[by_code], prepend=-1) == 0) & (rng.random(len(pair)) < recipe.burst)
    leader = np.maximum.accumulate(np.where(joins, 0, np.arange(len(pair))))
    moment[by_code] = moment[by_code][leader]
    return pair[np.argsort(customer + moment, kind="stable")]


def couples(customer: PerEvent, midnight: Bool[ndarray, " events"]) -> Int[ndarray, " couples"]:
    """First positions of the disjoint couples (0, 1), (2, 3), ... of each history, both at midnight or neither."""
    starts = np.flatnonzero(np.diff(customer, prepend=-1))
    rank = np.arange(len(customer)) - np.repeat(starts, np.diff(starts, append=len(customer)))
    first = np.flatnonzero(rank[:-1] % 2 == 0)
    return first[(customer[first] == customer[first + 1]) & (midnight[first] == midnight[first + 1])]


def ordered(
    model: Model,
    men: PerCustomer,
    customer: PerEvent,
    pair: PerEvent,
    midnight: Bool[ndarray, " events"],
    rng: np.random.Generator,
) -> PerEvent:
    """Pairs with each couple of neighbours put in an order, whatever it was, that leans towards the label's."""
    first, lean = couples(customer, midnight), model.pairs["lean_in_couple"].to_numpy()
    lead = lean[pair[first]] - lean[pair[first + 1]]
    high_first = rng.random(len(first)) < expit(model.order[men[customer[first]]] * np.abs(lead))
    return exchanged(pair, first[(lead > 0) != high_first])


def exchanged(values: PerEvent, first: Int[ndarray, " couples"]) -> PerEvent:
    """Values with each of the given positions exchanged with the next."""
    result = values.copy()
    result[first], result[first + 1] = values[first + 1], values[first]
    return result


def places(
    model: Model,
    men: PerCustomer,
    customer: PerEvent,
    slot: PerEvent,
    midnight: Bool[ndarray, " events"],
    rng: np.random.Generator,
) -> PerEvent:
    """Times of the day, sorted within a customer's day except for some neighbours, as in the bank's file."""
    hour = pick(rng, rng.standard_gamma(model.hour_alpha[men]), customer)
    place = np.maximum(hour * HOUR_PLACES + rng.integers(0, HOUR_PLACES, len(hour)), 1)
    place = np.sort((2 * slot + ~midnight) * DAY_PLACES + np.where(midnight, 0, place)) % DAY_PLACES
    second = couples(customer, midnight)
    second = second[(slot[second] == slot[second + 1]) & ~midnight[second]]
    return exchanged(place, second[rng.random(len(second)) < BACKWARDS])


def amounts(
    model: Model, men: PerCustomer, customer: PerEvent, pair: PerEvent, rng: np.random.Generator
) -> Float[ndarray, " events"]:
    """Log-normal amounts around the pair's mean and the customer's level, in whole kopecks of the bank's unit."""
    level = rng.normal(model.amount[men], model.recipe.amount_spread)
    noise = rng.standard_normal(len(pair)) * model.pairs["log_amount_sd"].to_numpy()[pair]
    size = np.exp(model.pairs["log_amount_mean"].to_numpy()[pair] + level[customer] + noise)
    kopecks = np.maximum(np.rint(100 * size / model.unit), 1)
    sign = np.where(rng.random(len(pair)) < model.pairs["negative_share"].to_numpy()[pair], -1, 1)
    return np.round(sign * kopecks * model.unit / 100, 2)


def log_odds(model: Model, events: Events, customers: int) -> Float[ndarray, " customers"]:
    """Log-odds of being a man given all of a customer's events, the prior included: the Bayes-optimal score.

    Exact except for rounding amounts to kopecks. Days, seasons and signs have the same factor under both labels.
    """
    men, midnight = model.men, events.place == 0
    lengths = np.bincount(events.customer, minlength=customers)
    mass = np.diff(model.length_cdf, axis=1, prepend=0.0)[:, lengths - 1]
    counts = tally(events.customer, events.pair, customers, len(model.pairs))
    hours = tally(events.customer[~midnight], events.place[~midnight] // HOUR_PLACES, customers, HOURS)
    result = np.log(men / (1 - men)) + np.log(mass[1] / mass[0]) + dirichlet_ratio(hours, model.hour_alpha)
    for choice in model.choices:
        result += dirichlet_ratio(np.add.reduceat(counts, choice.starts, axis=1), choice.alpha)
    return result + amount_ratio(model, events, customers) + order_ratio(model, events, customers)


def tally(customer: PerEvent, column: PerEvent, customers: int, columns: int) -> Int[ndarray, "customers columns"]:
    """How often each customer has each column."""
    return np.bincount(customer * columns + column, minlength=customers * columns).reshape(customers, columns)


def dirichlet_ratio(
    counts: Int[ndarray, "customers columns"], alpha: Float[ndarray, "2 columns"]
) -> Float[ndarray, " customers"]:
    """Log-ratio, men to women, of Dirichlet-multinomial likelihoods whose parameters have the same sum in both."""
    women, men = (np.sum(gammaln(counts + one) - gammaln(one), axis=1) for one in alpha)
    return men - women


def amount_ratio(model: Model, events: Events, customers: int) -> Float[ndarray, " customers"]:
    """Log-ratio of normal densities of a customer's mean residual, its level integrated out."""
    weight = model.pairs["log_amount_sd"].to_numpy()[events.pair] ** -2.0
    residual = np.log(np.abs(events.amount)) - model.pairs["log_amount_mean"].to_numpy()[events.pair]
    precision = np.bincount(events.customer, weight, customers)
    level = np.bincount(events.customer, weight * residual, customers) / precision
    distance = (level - model.amount[0]) ** 2 - (level - model.amount[1]) ** 2
    return distance / (2 * (model.recipe.amount_spread**2 + 1 / precision))


def order_ratio(model: Model, events: Events, customers: int) -> Float[ndarray, " customers"]:
    """Log-ratio of the orders of a customer's couples: logistic in the lead of the first over the second."""
    first, lean = couples(events.customer, events.place == 0), model.pairs["lean_in_couple"].to_numpy()
    lead = lean[events.pair[first]] - lean[events.pair[first + 1]]
    odds = np.log(expit(model.order[1] * lead) / expit(model.order[0] * lead))
    return np.bincount(events.customer[first], odds, customers)
