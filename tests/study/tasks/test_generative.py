"""Drawn histories follow the model, and the log-odds are those of a slow literal computation."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal

from study.tasks.calibration import RECIPE, build
from study.tasks.generative import HOUR_PLACES, draw, log_odds

CUSTOMERS = 600


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def drawn(model):
    rng = np.random.default_rng(0)
    men = (rng.random(CUSTOMERS) < model.men).astype(int)
    return men, draw(model, men, rng)


def urn(columns, alpha):
    """Log-probability of a sequence, one predictive probability after the other (Polya's urn)."""
    seen, total = {}, 0.0
    for drawn, column in enumerate(columns):
        total += log((alpha[column] + seen.get(column, 0)) / (sum(alpha) + drawn))
        seen[column] = seen.get(column, 0) + 1
    return total


def literal_log_likelihood(model, label, pair, place, amount):
    """Everything of one history that depends on the label, event by event; no shared factor is dropped."""
    cdf = model.length_cdf[label]
    total = log(cdf[len(pair) - 1] - (cdf[len(pair) - 2] if len(pair) > 1 else 0.0))
    for choice in model.choices:
        columns = choice.column[pair]
        for parent in set(choice.parent_of[columns]):
            children = np.flatnonzero(choice.parent_of == parent)
            inside = [int(column - children[0]) for column in columns if choice.parent_of[column] == parent]
            total += urn(inside, list(choice.alpha[label, children]))
    total += urn([int(p // HOUR_PLACES) for p in place if p > 0], list(model.hour_alpha[label]))
    mean = model.pairs["log_amount_mean"].to_numpy()[pair] + model.amount[label]
    noise = model.pairs["log_amount_sd"].to_numpy()[pair] ** 2
    covariance = np.diag(noise) + model.recipe.amount_spread**2
    total += multivariate_normal(mean, covariance).logpdf(np.log(np.abs(amount)))
    lean = model.pairs["lean_in_couple"].to_numpy()[pair]
    for first in range(0, len(pair) - 1, 2):
        if (place[first] == 0) == (place[first + 1] == 0):
            total -= log(1 + exp(-model.order[label] * (lean[first] - lean[first + 1])))
    return total


def test_log_odds_equal_a_literal_computation(model, drawn):
    """Both sum some thousand terms of size ten in double precision: 1e-8 leaves a factor of a thousand."""
    _, events = drawn
    odds = log_odds(model, events, CUSTOMERS)
    short = [c for c in range(CUSTOMERS) if (events.customer == c).sum() < 150][:12]
    assert len(short) == 12
    for customer in short:
        mine = events.customer == customer
        history = events.pair[mine], events.place[mine], events.amount[mine]
        women, men_ = (literal_log_likelihood(model, label, *history) for label in (0, 1))
        assert odds[customer] == pytest.approx(log(model.men / (1 - model.men)) + men_ - women, abs=1e-8)


def test_log_odds_are_calibrated(model, drawn):
    """Given the history the label is Bernoulli of the sigmoid; sums are within four of their standard deviations."""
    men, events = drawn
    odds = log_odds(model, events, CUSTOMERS)
    for chosen in (odds < 0, odds >= 0):
        probability = expit(odds[chosen])
        spread = np.sqrt(np.sum(probability * (1 - probability)))
        assert abs(np.sum(men[chosen] - probability)) < 4 * spread


def test_without_effects_a_history_says_nothing():
    effects = {name: 0.0 for name in RECIPE.__dataclass_fields__ if name.endswith("_effect")}
    model = build(replace(RECIPE, **effects))
    events = draw(model, np.array([0, 1, 0, 1]), np.random.default_rng(0))
    np.testing.assert_allclose(log_odds(model, events, 4), log(model.men / (1 - model.men)), atol=1e-9)


@pytest.mark.parametrize("effect", ["group", "lean", "mcc", "type", "hour", "length", "order", "amount"])
def test_every_effect_alone_is_calibrated_and_informative(effect):
    """With one effect at full strength: calibrated as above, and men's mean log-odds above women's by four errors."""
    effects = {name: 0.0 for name in RECIPE.__dataclass_fields__ if name.endswith("_effect")}
    strength = 0.3 if effect in ("order", "amount") else 2.0
    model = build(replace(RECIPE, **effects | {f"{effect}_effect": strength}))
    men = np.arange(400) % 2
    odds = log_odds(model, draw(model, men, np.random.default_rng(1)), 400) - log(model.men / (1 - model.men))
    probability = expit(odds)
    assert abs(np.sum(men - probability)) < 4 * np.sqrt(np.sum(probability * (1 - probability)))
    error = np.sqrt(odds[men == 1].var() / 200 + odds[men == 0].var() / 200)
    assert odds[men == 1].mean() - odds[men == 0].mean() > 4 * error


def test_draws_are_in_the_order_of_the_file(model, drawn):
    _, events = drawn
    same_customer = np.diff(events.customer) == 0
    assert set(np.diff(events.customer)) <= {0, 1}
    assert (np.diff(events.day)[same_customer] >= 0).all()
    same_day = same_customer & (np.diff(events.day) == 0)
    assert not ((events.place[1:] == 0) & (events.place[:-1] > 0) & same_day).any()
    assert events.day.min() >= 0
    assert events.day.max() < len(model.days)
    assert (events.amount != 0).all()
