"""Generated customers: files, likeness to the real data, difficulty, and log-odds by a slow literal computation."""

import gzip
import re
import subprocess
import sys
from math import exp, log

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from study.tasks.calibration import build, numbers
from study.tasks.synthetic import HOUR_PLACES, MINUTES, SECONDS, Events, calibrated, draw, generate, log_odds

FILES = ("gender_train.csv", "transactions.csv.gz", "truth.csv")
CUSTOMERS = 600
EFFECTS = [name for name in numbers("recipe") if name.endswith("_effect")]


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    generate(folder, CUSTOMERS, seed=5)
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    rows = pd.read_csv(folder / "transactions.csv.gz", dtype={"term_id": "string"})
    parts = rows["tr_datetime"].str.split("[ :]", expand=True, regex=True).astype(int)
    place = parts[1] * MINUTES * SECONDS + parts[2] * SECONDS + parts[3]
    return rows.assign(customer=pd.factorize(rows["customer_id"])[0], day=parts[0], second=parts[3], place=place)


@pytest.fixture(scope="module")
def events(model, rows):
    index = pd.MultiIndex.from_frame(model.pairs[["mcc_code", "tr_type"]])
    pair = index.get_indexer(pd.MultiIndex.from_frame(rows[["mcc_code", "tr_type"]]))
    return Events(rows["customer"].to_numpy(), pair, *(rows[name].to_numpy() for name in ("day", "place", "amount")))


def urn(columns, alpha):
    """Log-probability of a sequence, one predictive probability after the other (Polya's urn)."""
    seen, total = {}, 0.0
    for drawn, column in enumerate(columns):
        total += log((alpha[column] + seen.get(column, 0)) / (sum(alpha) + drawn))
        seen[column] = seen.get(column, 0) + 1
    return total


def literal_log_likelihood(model, label, pair, place, amount):
    """Everything of one history that depends on the label, event by event; no shared factor is dropped."""
    cdf, known = model.length_cdf[label], model.known
    total = log(cdf[len(pair) - 1] - (cdf[len(pair) - 2] if len(pair) > 1 else 0.0))
    for choice in model.choices:
        columns = choice.column[pair]
        for parent in set(choice.parent_of[columns]):
            children = np.flatnonzero(choice.parent_of == parent)
            inside = [int(column - children[0]) for column in columns if choice.parent_of[column] == parent]
            total += urn(inside, list(choice.alpha[label, children]))
    total += urn([int(p // HOUR_PLACES) for p in place if p > 0], list(model.hour_alpha[label]))
    sign = 1 if label else -1
    mean = model.pairs["log_amount_mean"].to_numpy()[pair] + sign * known["amount_effect"] / 2
    noise = model.pairs["log_amount_sd"].to_numpy()[pair] ** 2
    covariance = np.diag(noise) + known["amount_spread"] ** 2
    total += multivariate_normal(mean, covariance).logpdf(np.log(np.abs(amount)))
    lean = model.pairs["lean_in_couple"].to_numpy()[pair]
    for first in range(0, len(pair) - 1, 2):
        if (place[first] == 0) == (place[first + 1] == 0):
            total -= log(1 + exp(-sign * known["order_effect"] / 2 * (lean[first] - lean[first + 1])))
    return total


def test_truth_is_a_literal_computation_from_the_file_alone(model, folder, events):
    """Both sum some thousand terms of size ten in double precision: 1e-8 leaves a factor of a thousand."""
    truth = pd.read_csv(folder / "truth.csv")["log_odds"]
    lengths = np.bincount(events.customer)
    short = np.flatnonzero(lengths < 150)[:12]
    assert len(short) == 12
    for customer in short:
        mine = events.customer == customer
        history = events.pair[mine], events.place[mine], events.amount[mine]
        women, men_ = (literal_log_likelihood(model, label, *history) for label in (0, 1))
        assert truth[customer] == pytest.approx(log(model.men / (1 - model.men)) + men_ - women, abs=1e-8)
    np.testing.assert_allclose(log_odds(model, events, CUSTOMERS), truth, atol=1e-9)


def test_without_effects_a_history_says_nothing():
    model = build(dict.fromkeys(EFFECTS, 0.0))
    found = log_odds(model, draw(model, np.array([0, 1, 0, 1]), np.random.default_rng(0)), 4)
    np.testing.assert_allclose(found, log(model.men / (1 - model.men)), atol=1e-9)


@pytest.mark.parametrize("effect", [*EFFECTS, None])
def test_all_effects_together_and_every_one_alone_are_calibrated_and_informative(effect):
    """Given the history the label is Bernoulli of the sigmoid: the sum is within four of its standard deviations.

    And men's mean log-odds are above women's by four errors.
    """
    strength = 0.3 if effect in ("order_effect", "amount_effect") else 2.0
    model = build(dict.fromkeys(EFFECTS, 0.0) | {effect: strength} if effect else None)
    men = np.arange(400) % 2
    odds = log_odds(model, draw(model, men, np.random.default_rng(1)), 400) - log(model.men / (1 - model.men))
    probability = expit(odds)
    assert abs(np.sum(men - probability)) < 4 * np.sqrt(np.sum(probability * (1 - probability)))
    error = np.sqrt(odds[men == 1].var() / 200 + odds[men == 0].var() / 200)
    assert odds[men == 1].mean() - odds[men == 0].mean() > 4 * error


def test_draws_are_in_the_order_of_the_file(model, events):
    same_customer = np.diff(events.customer) == 0
    assert (np.diff(events.day)[same_customer] >= 0).all()
    same_day = same_customer & (np.diff(events.day) == 0)
    assert not ((events.place[1:] == 0) & (events.place[:-1] > 0) & same_day).any()
    assert 0 <= events.day.min() <= events.day.max() < len(model.days)
    assert (events.amount != 0).all()


def test_files_are_in_the_bank_s_format(folder, rows):
    lines = gzip.decompress((folder / "transactions.csv.gz").read_bytes()).decode().split("\n")
    assert lines[0] == "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id"
    assert lines[-1] == ""
    row = re.compile(r"\d{8},\d{1,3} [012]\d:[0-5]\d:[0-6]\d,\d{3,4},\d{4},-?\d+(\.\d{1,2})?,(\d{6})?")
    assert all(row.fullmatch(line) for line in lines[1:-1])
    labels, truth = (pd.read_csv(folder / name) for name in ("gender_train.csv", "truth.csv"))
    assert (list(labels), list(truth)) == (["customer_id", "gender"], ["customer_id", "log_odds"])
    assert rows["customer_id"].drop_duplicates().tolist() == truth["customer_id"].tolist()
    assert truth["customer_id"].nunique() == CUSTOMERS
    assert labels["customer_id"].is_unique
    assert set(labels["customer_id"]) <= set(truth["customer_id"])
    assert abs(len(labels) / CUSTOMERS - 0.8) < 4 * np.sqrt(0.8 * 0.2 / CUSTOMERS)


def test_marginals_are_the_real_ones(model, rows):
    """Each mean is over customers, within four standard errors between customers, of the real data's number.

    Real customers with few events are left to the ratio: numerators and denominators are summed before dividing.
    """
    customer, late = rows["customer"], rows["day"] >= model.known["first_day_with_terminals"]
    same = customer.diff() == 0
    ratios = {
        "events_per_customer": (customer >= 0, None),
        "midnight_share": (rows["place"] == 0, customer >= 0),
        "positive_share": (rows["amount"] > 0, customer >= 0),
        "second_60_share": (rows["second"] == 60, customer >= 0),
        "same_day_share": (same & (rows["day"].diff() == 0), same),
        "terminal_missing_after": (late & rows["term_id"].isna(), late),
        "same_mcc_as_previous": (same & (rows["mcc_code"].diff() == 0), same),
    }
    for name, (numerator, denominator) in ratios.items():
        top = numerator.groupby(customer).sum().to_numpy()
        bottom = np.ones(len(top)) if denominator is None else denominator.groupby(customer).sum().to_numpy()
        ratio = top.sum() / bottom.sum()
        error = np.sqrt(np.sum((top - ratio * bottom) ** 2)) / bottom.sum()
        assert abs(ratio - model.known[name]) < 4 * error, name
    assert rows.loc[~late, "term_id"].isna().all()


def test_a_bag_of_codes_finds_the_real_difficulty():
    """The real data gives 0.832 and 0.838 on 338 labelled customers; the mean of eight draws is to be that ± 0.02."""
    scores, folds = [], StratifiedKFold(5, shuffle=True, random_state=0)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.003))
    for seed in range(8):
        ((table, people),) = calibrated(338, seed)
        codes = table.select(["customer_id", "mcc_code", "tr_type"]).to_pandas()
        bag = np.log1p(np.hstack([pd.crosstab(codes["customer_id"], codes[key]) for key in ("mcc_code", "tr_type")]))
        men = people.sort_values("customer_id")["gender"].to_numpy()
        found = cross_val_predict(regression, bag, men, cv=folds, method="predict_proba")[:, 1]
        scores.append(roc_auc_score(men, found))
        assert scores[-1] < roc_auc_score(people["gender"], people["log_odds"])
    assert np.mean(scores) == pytest.approx(0.835, abs=0.02)


def test_same_seed_same_bytes_in_another_process_and_more_customers_keep_the_earlier_chunks(tmp_path, folder):
    code = (
        "import pathlib, sys; from study.tasks import synthetic; synthetic.generate(pathlib.Path(sys.argv[1]), 12, 3)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "first")], check=True)
    for name, size, seed in (("second", 12, 3), ("other", 12, 4), ("fewer", 500, 5)):
        generate(tmp_path / name, size, seed)
    for file in FILES:
        first, second, other = ((tmp_path / name / file).read_bytes() for name in ("first", "second", "other"))
        assert first == second != other
    fewer, more = (gzip.decompress((at / "transactions.csv.gz").read_bytes()) for at in (tmp_path / "fewer", folder))
    assert more.startswith(fewer)
