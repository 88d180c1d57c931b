"""The written files: their format, their likeness to the real data, their difficulty, their planted truth."""

import gzip
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from study.tasks.calibration import build, targets
from study.tasks.generative import MINUTES, SECONDS, Events, log_odds
from study.tasks.realism import bag_of_codes_score
from study.tasks.synthetic import calibrated, generate

FILES = ("gender_train.csv", "transactions.csv.gz", "truth.csv")
CUSTOMERS = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    generate(folder, CUSTOMERS, seed=5)
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    return read(folder)


def read(folder):
    rows = pd.read_csv(folder / "transactions.csv.gz", dtype={"term_id": "string"})
    parts = rows["tr_datetime"].str.split("[ :]", expand=True, regex=True).astype(int)
    place = parts[1] * MINUTES * SECONDS + parts[2] * SECONDS + parts[3]
    return rows.assign(customer=pd.factorize(rows["customer_id"])[0], day=parts[0], second=parts[3], place=place)


def test_more_customers_keep_the_earlier_chunks(tmp_path, folder):
    generate(tmp_path, 500, seed=5)
    fewer, more = (gzip.decompress((place / "transactions.csv.gz").read_bytes()) for place in (tmp_path, folder))
    assert more.startswith(fewer)


def test_files_are_in_the_bank_s_format(folder):
    lines = gzip.decompress((folder / "transactions.csv.gz").read_bytes()).decode().split("\n")
    assert lines[0] == "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id"
    assert lines[-1] == ""
    row = re.compile(r"\d{8},\d{1,3} [012]\d:[0-5]\d:[0-6]\d,\d{3,4},\d{4},-?\d+(\.\d{1,2})?,(\d{6})?")
    assert all(row.fullmatch(line) for line in lines[1:-1])
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert (folder / "gender_train.csv").read_text().startswith("customer_id,gender\n")


def test_customers_labels_and_truth_belong_together(folder, rows):
    labels, truth = (pd.read_csv(folder / name) for name in ("gender_train.csv", "truth.csv"))
    assert rows["customer_id"].drop_duplicates().tolist() == truth["customer_id"].tolist()
    assert truth["customer_id"].is_unique
    assert truth["customer_id"].size == CUSTOMERS
    assert set(labels["customer_id"]) <= set(truth["customer_id"])
    assert labels["customer_id"].is_unique
    error = np.sqrt(0.8 * 0.2 / CUSTOMERS)
    assert abs(len(labels) / CUSTOMERS - 0.8) < 4 * error


def test_truth_is_a_function_of_the_file_alone(folder, rows):
    model = build()
    index = pd.MultiIndex.from_frame(model.pairs[["mcc_code", "tr_type"]])
    pair = index.get_indexer(pd.MultiIndex.from_frame(rows[["mcc_code", "tr_type"]]))
    columns = [rows[name].to_numpy() for name in ("customer", "day", "place", "amount")]
    again = log_odds(model, Events(columns[0], pair, *columns[1:]), CUSTOMERS)
    np.testing.assert_allclose(again, pd.read_csv(folder / "truth.csv")["log_odds"], atol=1e-9)


def test_marginals_are_the_real_ones(rows):
    """Each mean is over customers, within four standard errors between customers, of the real data's number.

    Real customers with few events are left to the ratio: numerators and denominators are summed before dividing.
    """
    known, customer = targets(), rows["customer"]
    same = customer.diff() == 0
    gap = rows["day"].diff()
    late = rows["day"] >= known["first_day_with_terminals"]
    ratios = {
        "events_per_customer": (pd.Series(1.0, rows.index), None),
        "midnight_share": (rows["place"] == 0, customer >= 0),
        "positive_share": (rows["amount"] > 0, customer >= 0),
        "second_60_share": (rows["second"] == 60, customer >= 0),
        "same_day_share": (same & (gap == 0), same),
        "terminal_missing_after": (late & rows["term_id"].isna(), late),
        "same_mcc_as_previous": (same & (rows["mcc_code"].diff() == 0), same),
    }
    for name, (numerator, denominator) in ratios.items():
        top = numerator.astype(float).groupby(customer).sum().to_numpy()
        bottom = np.ones(len(top)) if denominator is None else denominator.groupby(customer).sum().to_numpy()
        ratio = top.sum() / bottom.sum()
        error = np.sqrt(np.sum((top - ratio * bottom) ** 2)) / bottom.sum()
        assert abs(ratio - known[name]) < 4 * error, name
    assert rows.loc[~late, "term_id"].isna().all()


def test_a_bag_of_codes_finds_the_real_difficulty():
    """The real data gives 0.832 and 0.838 on 338 labelled customers; the mean of twelve draws is to be that ± 0.02."""
    scores = []
    for seed in range(12):
        ((table, people),) = calibrated(338, seed, labelled_share=1.0)
        rows = table.to_pandas()
        bag = np.log1p(np.hstack([pd.crosstab(rows["customer_id"], rows[key]) for key in ("mcc_code", "tr_type")]))
        gender = people.sort_values("customer_id")["gender"].to_numpy()
        scores.append(bag_of_codes_score(bag, gender, seed=0))
        assert scores[-1] < roc_auc_score(people["gender"], people["log_odds"])
    assert np.mean(scores) == pytest.approx(0.835, abs=0.02)


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="customers is 0"):
        generate(tmp_path, 0, 0)


def test_same_seed_same_bytes_in_another_process_too_and_another_seed_others(tmp_path):
    command = [sys.executable, "-m", "study.tasks.synthetic", "--customers", "12", "--seed", "3"]
    subprocess.run([*command, "--out", str(tmp_path / "first")], check=True)
    for name, seed in (("second", 3), ("other", 4)):
        generate(tmp_path / name, 12, seed)
    for file in FILES:
        first, second, other = ((tmp_path / name / file).read_bytes() for name in ("first", "second", "other"))
        assert first == second
        assert first != other
