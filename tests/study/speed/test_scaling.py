"""The analysis of sweeps, on data whose exponents and cross-overs are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.speed.scaling import (
    CLAIMS,
    agreement,
    analysis_rows,
    crossing,
    crossovers,
    exponents,
    result_rows,
    skipped,
    source_claims,
    source_study,
)

LENGTHS = [256, 512, 1024, 2048, 4096, 8192]
# Logarithms up to 9 carry errors of 9 · 2⁻⁵³; interpolation and exponential pass on a few hundred of them at most.
EXACT = 1e-12


def sweep(laws, rounds=3, direction="forward", drift=lambda number: 1.0):
    """Rows as `measure` gives them: time and memory of each mechanism by its law, over lengths and rounds."""
    rows = []
    for mechanism, law in laws.items():
        for length in LENGTHS:
            for number in range(rounds):
                metrics = {"time_ms": law(length) * drift(number)}
                metrics |= {"time_ms_low": metrics["time_ms"] * 0.9, "time_ms_high": metrics["time_ms"] * 1.1}
                metrics |= {"peak_memory_mib": law(length) / 7} if number == 0 else {}
                rows += [("attention", mechanism, direction, length, number, *pair) for pair in metrics.items()]
    return pd.DataFrame(rows, columns=["scope", "mechanism", "direction", "length", "round", "metric", "value"])


LAWS = {
    "explicit_softmax": lambda length: 2e-3 * length**2,
    "softmax": lambda length: 1e-3 * length**2,
    "performer": lambda length: 1.0 * length,
    "infinite_former": lambda length: 2.0 * length,
}


def test_exponents_of_power_laws():
    found = exponents(sweep(LAWS), 512).set_index(["model", "metric"])
    for model, power in (("explicit_softmax", 2), ("softmax", 2), ("performer", 1), ("infinite_former", 1)):
        for metric, points in (("time_ms", 5 * 3), ("peak_memory_mib", 5)):
            row = found.loc[(model, metric)]
            assert row[["exponent", "low", "high"]].to_numpy(float) == pytest.approx([power] * 3, abs=1e-6)
            assert row["points"] == points


def test_exponent_interval_is_the_regressions():
    rng = np.random.default_rng(0)
    noisy = sweep({"performer": lambda length: length}, drift=lambda _: rng.lognormal(0, 0.1))
    times = noisy[noisy["metric"] == "time_ms"]
    x, y = np.log(times["length"]), np.log(times["value"])
    slope, offset = np.polyfit(x, y, 1)
    spread = np.sqrt(((y - slope * x - offset) ** 2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    margin = stats.t.ppf(0.975, len(x) - 2) * spread
    row = exponents(noisy, 0).set_index("metric").loc["time_ms"]
    assert row[["exponent", "low", "high"]].to_numpy(float) == pytest.approx([slope, slope - margin, slope + margin])


def test_growth_needs_three_points():
    found = exponents(sweep(LAWS, rounds=1), 8192)
    assert set(found["points"]) == {1}
    assert found[["exponent", "low", "high"]].isna().all(axis=None)
    assert analysis_rows(found, crossovers(sweep(LAWS)).iloc[:0], "07", "attention").empty


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({length: 1000 / length for length in LENGTHS}, 1000),
        ({1: 0.5, 2: 2.0, 4: 0.5, 8: 4.0, 16: 0.25}, 8 * 2**0.5),  # the last one counts
        ({1: 0.9, 2: 0.5}, 0),
        ({1: 0.9, 2: 1.0}, np.inf),
    ],
)
def test_crossing_of_power_laws_is_exact(ratios, expected):
    assert crossing(pd.Series(ratios)) == pytest.approx(expected, rel=EXACT)


def test_crossovers_of_every_pair():
    # A machine that slows down slows down for all: ratios within a round, and so cross-overs, do not move.
    found = crossovers(sweep(LAWS, drift=lambda number: 1 + number)).set_index(["against", "model"])
    assert len(found) == 6
    expected = {
        ("explicit_softmax", "performer"): 500,
        ("explicit_softmax", "infinite_former"): 1000,
        ("softmax", "performer"): 1000,
        ("softmax", "infinite_former"): 2000,
    }
    for pair, length in expected.items():
        row = found.loc[pair]
        assert row[["crossover_length", "low", "high"]].to_numpy(float) == pytest.approx([length] * 3, rel=EXACT)
        assert row["pays"]
    assert found.loc[("softmax", "performer"), "faster"] == "from 1,000 events on (95 % interval 1,000 to 1,000)"
    always = found.loc[("explicit_softmax", "softmax")]
    assert always["pays"]
    assert always["crossover_length"] == 256
    assert always["faster"] == "at all lengths from 256 events on"
    never = found.loc[("performer", "infinite_former")]
    assert not never["pays"]
    assert never["crossover_length"] == 8192
    assert never["faster"] == "at no length up to 8,192 events"


def test_crossover_interval_by_hand():
    # Rounds cross at 1000 / 1.1, 1000 and 1100: logarithms −δ, 0, δ around log 1000, deviation δ, t of 2 degrees.
    factors = (1 / 1.1, 1.0, 1.1)
    slow, fast = (sweep({model: LAWS[model]}) for model in ("softmax", "performer"))
    fast["value"] *= fast["round"].map(dict(enumerate(factors)))
    row = crossovers(pd.concat([slow, fast])).iloc[0]
    margin = 4.302652729911275 * np.log(1.1) / 3**0.5
    expected = [1000, 1000 * np.exp(-margin), 1000 * np.exp(margin)]
    assert row[["crossover_length", "low", "high"]].to_numpy(float) == pytest.approx(expected, rel=1e-9)


def test_a_single_round_leaves_the_interval_open():
    row = crossovers(sweep(LAWS, rounds=1)).set_index(["against", "model"]).loc[("softmax", "performer")]
    assert (row["low"], row["high"]) == (256, 8192)


def test_result_rows_take_the_median_and_the_widest_quartiles():
    rows = result_rows(sweep({"softmax": LAWS["softmax"]}, drift=lambda number: 1 + number), "07_speed_and_memory")
    assert not rows.duplicated(["task", "model", "seed", "split", "axis", "x", "metric"]).any()
    values = rows[rows["x"] == 1024].set_index("metric")["value"]
    base = 1e-3 * 1024**2
    assert values["time_ms"] == pytest.approx(2 * base)
    assert values["time_ms_low"] == pytest.approx(0.9 * base)
    assert values["time_ms_high"] == pytest.approx(3 * 1.1 * base)
    assert values["peak_memory_mib"] == pytest.approx(base / 7)


def test_analysis_rows_are_unique_and_carry_the_numbers():
    rows = sweep(LAWS)
    table = analysis_rows(exponents(rows, 256), crossovers(rows), "07_speed_and_memory", "attention")
    assert not table.duplicated(["model", "split", "axis", "metric"]).any()
    chosen = table[(table["axis"] == "against_softmax") & (table["model"] == "performer")].set_index("metric")["value"]
    assert chosen["crossover_length"] == pytest.approx(1000)
    assert chosen["pays"] == 1


def test_rows_along_another_setting():
    rows = sweep({"softmax": LAWS["softmax"]}).assign(batch=4)
    found = result_rows(rows[rows["length"] == 1024], "07_speed_and_memory", "batch")
    assert set(found["axis"]) == {"batch"}
    assert set(found["x"]) == {4}
    assert found.set_index("metric")["value"]["time_ms"] == pytest.approx(1e-3 * 1024**2)


def test_runs_agree_where_their_intervals_overlap():
    pairs = {"against": "softmax", "model": ["performer", "infinite_former"], "split": "forward"}
    first = pd.DataFrame({**pairs, "low": [100.0, 300.0], "high": [200.0, 400.0]})
    second = pd.DataFrame({**pairs, "low": [200.0, 401.0], "high": [250.0, 500.0]})
    assert agreement(first, second)["agree"].tolist() == [True, False]
    rows = sweep(LAWS)
    assert agreement(crossovers(rows), crossovers(rows))["agree"].all()


def test_what_was_skipped_is_listed_in_the_unit_of_its_reason():
    rows = pd.DataFrame(
        {
            "mechanism": ["softmax", "explicit_softmax", "performer"],
            "direction": "forward",
            "length": 1024,
            "metric": ["skipped_time", "skipped_memory", "time_ms"],
            "value": [8.0, 3.0 * 2**20, 5.0],
        }
    )
    table = skipped(rows)
    assert table[["mechanism", "needed", "unit"]].to_numpy().tolist() == [
        ["softmax", 8.0, "seconds"],
        ["explicit_softmax", 3.0, "MiB"],
    ]


def test_source_claims_against_both_softmaxes():
    laws = LAWS | {"performer": lambda length: 5.0 * length}
    rows = sweep(laws)
    table = source_claims(result_rows(rows, "x"), exponents(rows, 256), crossovers(rows))
    found = table.set_index(["against", "model", "claim"])
    # Cross-overs at 2,500 (as claimed) and 5,000; saving at 8,192 of 0.002 · 8192 / 5 = 3.3, claimed are 6.0.
    later = CLAIMS["crossover_length"]
    assert found.loc[("explicit_softmax", "performer", later), "here"] == pytest.approx(2500)
    assert found.loc[("softmax", "performer", later), "here"] == pytest.approx(5000)
    assert not found.loc[("softmax", "performer", later), "reproduced"]
    saving = found.loc[("explicit_softmax", "performer", CLAIMS["time_ms_ratio"])]
    assert saving["here"] == pytest.approx(8192 * 2e-3 / 5)
    assert not saving["reproduced"]
    assert found.loc[("softmax", "softmax", CLAIMS["time_ms_exponent"]), "reproduced"]
    assert found.loc[("softmax", "infinite_former", CLAIMS["peak_memory_mib_exponent"]), "reproduced"]
    assert len(table) == 2 * 12


def test_claims_about_lengths_that_were_not_measured_are_open():
    rows = sweep(LAWS)
    rows = rows[rows["length"] < 8192]
    table = source_claims(result_rows(rows, "x"), exponents(rows, 256), crossovers(rows))
    assert table.loc[table["length"] == 8192, ["here", "reproduced"]].isna().all(axis=None)
    assert table.loc[table["length"].isna(), ["here", "reproduced"]].notna().all(axis=None)
    assert len(table) == 2 * len(source_study().query("axis == 'claim'"))


def test_published_curves_agree_with_the_claims_they_carry():
    source = source_study()
    curves = source[source["axis"] == "length"].pivot(index=["metric", "x"], columns="model", values="value")
    claims = source[source["axis"] == "claim"].set_index(["model", "metric"])["value"]
    for model in ("performer", "infinite_former"):
        for metric in ("time_ms", "peak_memory_mib"):
            at = curves.loc[(metric, 8192)]
            # Read off a figure to two digits: each of the two numbers is good to one in 40 or better.
            assert at["softmax"] / at[model] == pytest.approx(claims[(model, f"{metric}_ratio")], rel=2 / 40)
