"""Endless histories whose answer is known: what only counts, order, content or time can tell.

Every batch is fresh, so that nothing can be memorised. An event has two codes, as a merchant and a class of amounts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lib.data.histories import signed_log
from study.tasks.calibration import Model, build
from study.tasks.synthetic import DAY_PLACES, draw, log_odds

CLASSES, MERCHANTS = 8, 512  # of amounts, and in recall by content
ASKED = 16  # last events of a history, each of which asks for an earlier one
PERSISTENCE = 16  # events for which a class holds in recall by time
CODES, STEP = 8, 0.15  # of the task of order, and the share of events that go on to the next code beyond chance
Past, Asked, Days = Int[ndarray, "batch past"], Int[ndarray, "batch asked"], Float[ndarray, "batch length"]


class Examples(NamedTuple):
    """Histories, the answers, and how many events ago each stood or the Bayes log-odds that it is 1."""

    categories: Int[ndarray, "batch length kinds"]
    numbers: Float[ndarray, "batch length 1"]
    days: Days
    answers: Asked
    distances: Asked | None = None
    log_odds: Float[ndarray, " batch"] | None = None


@dataclass(frozen=True)
class Task:
    """How to draw histories of a length; each of the last `asked` events asks, or (zero) the history as a whole."""

    draw: Callable[[np.random.Generator, int, int], Examples]
    cardinalities: tuple[int, ...]
    classes: int = 2
    asked: int = 0


def counts(rng: np.random.Generator, size: int, length: int) -> Examples:
    """Customers of the calibrated generator, and the log-odds of being a man given the events that are shown."""
    model = equally_long(length)
    men = (rng.random(size) < model.men).astype(int)
    events = draw(model, men, rng)
    codes = [1 + model.pairs[kind].factorize(sort=True)[0][events.pair] for kind in ("mcc_code", "tr_type")]
    day = (events.day + events.place / DAY_PLACES).reshape(size, length)
    return Examples(
        np.stack(codes, -1).reshape(size, length, 2),
        signed_log(events.amount).reshape(size, length, 1),
        (day.max(1, keepdims=True) - day).astype(np.float32),
        men[:, None],
        log_odds=log_odds(model, events, size),
    )


@cache
def equally_long(length: int) -> Model:
    """The calibrated generator with histories of one length, whatever the label."""
    at_length = np.arange(1, length + 1) >= length
    return replace(build(), length_cdf=np.stack([at_length, at_length]).astype(float))


def order(rng: np.random.Generator, size: int, length: int) -> Examples:
    """Two Markov chains, each the other's reversal: all codes are equally frequent in both, and one walks back."""
    steps = np.full(CODES, (1 - STEP) / CODES)
    steps[1] += STEP
    kind = rng.integers(0, 2, (size, 1))
    moves = rng.choice(CODES, (size, length), p=steps) * np.where(kind, -1, 1)
    code = np.cumsum(np.hstack([rng.integers(0, CODES, (size, 1)), moves[:, 1:]]), axis=1) % CODES
    moved, logs = np.diff(code, axis=1) % CODES, np.log(steps)
    odds = (logs[-moved] - logs[moved]).sum(1)  # exact: all starts are equally likely, the steps independent
    codes, numbers = np.stack([1 + code, np.ones_like(code)], -1), np.zeros((size, length, 1), np.float32)
    return Examples(codes, numbers, ages(size, length), kind, log_odds=odds)


def recall_content(rng: np.random.Generator, size: int, length: int) -> Examples:
    """Every event is another merchant with a class; the last events repeat some merchants and hide their class."""
    past = length - ASKED
    merchants = np.argsort(rng.random((size, MERCHANTS)), axis=1)[:, :past] + 1
    classes = rng.integers(1, CLASSES + 1, (size, past))
    places = np.argsort(rng.random((size, past)), axis=1)[:, :ASKED]
    return recalled(merchants, classes, places, np.take_along_axis(merchants, places, 1), ages(size, length))


def recall_time(rng: np.random.Generator, size: int, length: int) -> Examples:
    """A class holds for a run of events, then another; the last events have the age of the one that they ask for."""
    past = length - ASKED
    runs = (np.arange(past) + rng.integers(0, PERSISTENCE, (size, 1))) // PERSISTENCE
    classes = np.take_along_axis(rng.integers(1, CLASSES + 1, (size, past // PERSISTENCE + 2)), runs, 1)
    places, days = rng.integers(0, past, (size, ASKED)), ages(size, length)
    days[:, past:] = length - 1 - places
    return recalled(np.full_like(runs, 1), classes, places, np.full_like(places, 2), days)


def ages(size: int, length: int) -> Days:
    """One event a day, the last one today."""
    return np.tile(np.arange(length - 1, -1, -1, dtype=np.float32), (size, 1))


def recalled(merchants: Past, classes: Past, places: Asked, questions: Asked, days: Days) -> Examples:
    """Histories that end with questions, where the class 0 hides it, for the classes at the given places."""
    codes = np.hstack([merchants, questions]), np.hstack([classes, np.zeros_like(questions)])
    answers = np.take_along_axis(classes, places, 1) - 1
    distances = np.arange(merchants.shape[1], days.shape[1]) - places
    return Examples(np.stack(codes, -1), np.zeros((*days.shape, 1), np.float32), days, answers, distances)


TASKS = {
    "counts": Task(counts, (185, 43)),
    "order": Task(order, (CODES + 1, 2)),
    "recall_content": Task(recall_content, (MERCHANTS + 1, CLASSES + 1), CLASSES, ASKED),
    "recall_time": Task(recall_time, (3, CLASSES + 1), CLASSES, ASKED),
}
