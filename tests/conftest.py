"""A small set of transactions in the bank's format, for the tests that need data."""

import numpy as np
import pandas as pd
import pytest
import small_study
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from lib.data.histories import read
from study.bank import EVENTS, LABELS, describe

LONG = ("test_cluster", "test_survival", "test_disk", "test_lock", "test_notebooks")
torch.set_num_threads(1)
# How long an example takes says something of the machine and nothing of the code.
settings.register_profile("study", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("study")


def pytest_collection_modifyitems(items):
    """Tests of minutes come first, so that all processes end together."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def bank_folder(tmp_path_factory):
    """24 labelled and 4 unlabelled customers with 1 to 60 events; men buy one code more often than women."""
    folder = tmp_path_factory.mktemp("bank")
    generator = np.random.default_rng(0)
    rows = []
    for customer in range(28):
        for _ in range([1, 5, 20, 60][customer % 4]):
            code = generator.choice([5541, 5411, 6011], p=[0.6, 0.2, 0.2] if customer % 2 else [0.1, 0.6, 0.3])
            day, hour, minute, second = (generator.integers(top) for top in (457, 24, 60, 61))
            when = f"{day} {hour:02}:{minute:02}:{second:02}"
            rows.append((1000 + customer, when, code, 1010, -float(generator.integers(1, 10**6)), "T1"))
    columns = ["customer_id", "tr_datetime", "mcc_code", "tr_type", "amount", "term_id"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / EVENTS, index=False)
    labels = pd.DataFrame({"customer_id": range(1000, 1024), "gender": [customer % 2 for customer in range(24)]})
    labels.to_csv(folder / LABELS, index=False)
    return folder


@pytest.fixture(scope="session")
def histories(bank_folder):
    return read(bank_folder, describe(bank_folder), "checksum")


@pytest.fixture(scope="session")
def visits_folder(tmp_path_factory):
    """45 labelled patients of three outcomes and 3 without, described in `dataset.yaml`; each outcome has its ward."""
    folder = tmp_path_factory.mktemp("visits")
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(48):
        for _ in range([2, 10, 30, 60][patient % 4]):
            ward = generator.integers(300) if generator.random() < 0.3 else 1000 + patient % 3
            when = np.datetime64("2024-01-01T00:00:00") + np.timedelta64(int(generator.integers(366 * 1440)), "m")
            pressure, bill = generator.normal(120, 10), generator.lognormal(4)
            rows.append((f"p{patient:02}", str(when).replace("T", " "), ward, f"Dr {patient % 7}", pressure, bill, "-"))
    columns = ["patient", "admitted", "ward", "physician", "pressure", "bill", "remark"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "visits.csv", index=False)
    outcomes = 15 * ["recovered", "left", "ill again"]
    labels = pd.DataFrame({"patient": [f"p{patient:02}" for patient in range(45)], "outcome": outcomes})
    labels.to_csv(folder / "outcomes.csv", index=False)
    (folder / "dataset.yaml").write_text(
        "events: visits.csv\nlabels: outcomes.csv\ncustomer: patient\ntime: admitted\nlabel: outcome\n"
        "categories: [ward, physician]\nnumbers: [pressure, bill]\n"
    )
    return folder


@pytest.fixture(scope="session")
def visits(visits_folder):
    return read(visits_folder, describe(visits_folder), "checksum")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, worker_id):
    """The small study after a run that nothing stopped, in an odd folder and with variables that lead astray.

    Made once for all processes of the tests.
    """
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    folder = base / "{0} ü ' y"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            done = small_study.run(small_study.copy(folder), **small_study.misleading(base))
            page = f"{folder}/reports/synthetic/index.html\n"
            assert (done.returncode, done.stdout) == (0, page), done.stderr[-3000:]
    return folder
