"""The table to choose by, on rows whose best choice is known."""

import pandas as pd
import pytest

from study.speed.choosing import NONE, NOT_MEASURED, choice_rows, choice_table, choices

# Milliseconds and MiB of a call.
COSTS = {
    256: {"softmax": (1.0, 1.0), "performer": (2.0, 2.0), "explicit_softmax": (0.5, 9.0)},
    4096: {"softmax": (90.0, 4.0), "performer": (10.0, 16.0), "infinite_former": (10.5, 8.0)},
}


@pytest.fixture
def rows():
    found = []
    for length, costs in COSTS.items():
        for mechanism, (milliseconds, memory) in costs.items():
            head = ("forward", length, 1, mechanism)
            found.append((*head, 0, "peak_memory_mib", memory))
            for number, factor in enumerate((0.99, 1.0, 1.01)):
                times = {"time_ms": 1, "time_ms_low": 0.95, "time_ms_high": 1.05}
                found += [(*head, number, metric, milliseconds * factor * end) for metric, end in times.items()]
    found.append(("forward", 65536, 1, "softmax", 0, "skipped_time", 99.0))
    return pd.DataFrame(found, columns=["direction", "length", "batch", "mechanism", "round", "metric", "value"])


def test_the_fastest_that_fits_with_all_that_its_spread_overlaps(rows):
    found = choices(rows, [2, 8, 64]).set_index(["length", "limit_mib"])
    assert found.loc[(256, 64), "take"] == "softmax"
    assert found.loc[(4096, 64), "take"] == "performer or infinite_former"
    assert found.loc[(4096, 64), "times_faster_than_softmax"] == pytest.approx(9)
    assert found.loc[(4096, 8), "take"] == "infinite_former"
    assert found.loc[(4096, 8), "peak_memory_mib"] == 8
    assert found.loc[(4096, 2), "take"] == NONE
    assert set(found.loc[65536, "take"]) == {NOT_MEASURED}


def test_a_column_per_limit_in_the_order_given(rows):
    table = choice_table(choices(rows, [8, 64, 1024]))
    assert list(table.columns) == ["within 8 MiB", "within 64 MiB", "within 1,024 MiB"]
    assert table.loc[("forward", 4096, 1), "within 64 MiB"] == "Performer or ∞-former"


def test_rows_name_their_case_once(rows):
    table = choice_rows(choices(rows, [2, 64]), "07_speed_and_memory")
    keys = ["task", "model", "split", "axis", "x", "metric"]
    assert not table.duplicated(keys).any()
    assert table.set_index(["x", "axis"]).loc[(4096, "within_64_mib"), "value"] == pytest.approx(9)
