"""How times are written."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from lib.data.description import Description
from lib.data.reading import Delimited, clock_of, numbered, stamps
from study.bank import CLOCK


def seconds(text):
    return int(np.datetime64(text, "s").astype(int))


DAY = "2024-05-31"
CELLS = {  # cells, unit, what they say as written, and how much later than that the instant is, in seconds
    "days": (["0.0", "-1.5", "2.25", "3.5e-05"], None, [0, -129600, 194400, 3], [0.5, 0.5, 0.5, 0.524]),
    "days, said": (["20"], "days", [1728000], [0.5]),
    "small days": (["1.23456789012e-05"], None, [1], [0.5666667]),
    "dates": (["1970-01-02", "1969-12-31 23:59:59", f"{DAY} 18:03:59.9"], None, [86400, -1, 1717178639], [0, 0, 0.9]),
    "compact dates": (["20240531", "19700102"], None, [seconds(DAY), 86400], [0, 0]),
    "compact times": (["20240531180359", f"{DAY} 18:03:59.5"], None, 2 * [1717178639], [0, 0.5]),
    "basic ISO": (["20240531T180359Z", "20240531T180359+0200"], None, 2 * [1717178639], [0, -7200]),
    "zones": (
        [f"{DAY}T18:03:59.25+03:00", f"{DAY} 18:03:59Z", f"{DAY} 18:03:59 UTC", f"{DAY} 18:03:59 -05"],
        None,
        4 * [1717178639],
        [0.25 - 10800, 0, 0, 18000],
    ),
    "nanoseconds": ([f"{DAY} 18:03:59.000000001"], None, [1717178639], [1e-9]),
    "epoch seconds": (["1717178639.25", "-1"], "s", [1717178639, -1], [0.25, 0]),
    "epoch milliseconds": (["1717178639001", "1717178639000.0"], "ms", 2 * [1717178639], [0.001, 0]),
    "epoch microseconds": (["1717178639000001"], "us", [1717178639], [1e-6]),
    "epoch nanoseconds": (["1717178639000000001"], "ns", [1717178639], [1e-9]),
}


def read(tmp_path, cells, unit):
    """The clock that is chosen for the cells, times as written, instants in seconds, and which are valid."""
    (tmp_path / "file.csv").write_text("\n".join(["when", *cells]))
    file = Delimited(tmp_path / "file.csv", Description("", "", "", "", "", ()))
    clock = clock_of(file, "when", unit)
    ((_, batch),) = file.batches({"when": clock.kind})
    return clock, *clock.read(batch["when"])


@pytest.mark.parametrize(("cells", "unit", "said", "later"), CELLS.values(), ids=CELLS)
def test_times_by_hand(tmp_path, cells, unit, said, later):
    clock, written, instants, valid = read(tmp_path, cells, unit)
    assert valid.all()
    assert written.tolist() == said
    beyond = (instants - written * clock.parts) / clock.parts
    assert beyond.tolist() == pytest.approx(later, abs=1.1e-6 if clock.parts < 10**9 else 1e-12)


NUMBERS = {"s": "1717178639", "ms": "1717178639000", "us": "1717178639000000", "ns": "1717178639000000000"}


@pytest.mark.parametrize(("unit", "cell"), NUMBERS.items())
def test_numbers_too_large_for_days_are_recognised(tmp_path, unit, cell):
    clock, *_, valid = read(tmp_path, [cell, "-1e6", "1e6", "nan", "inf"], None)
    assert not valid.any()
    assert f"write `time_unit: {unit}` in" in clock.remedy(float(cell))
    assert "give a number of days" in clock.remedy(float("nan"))


@pytest.mark.parametrize("zone", ["UTC", "+03:00"])
def test_parquets_instants_are_written_in_their_zone(zone):
    instant = int(datetime.datetime(2024, 5, 31, 22, tzinfo=datetime.UTC).timestamp())
    written, instants, _ = stamps(zone, 10**6).read(pa.array([instant * 10**6], pa.timestamp("us", zone)))
    assert written.tolist() == [instant + (10800 if zone == "+03:00" else 0)]
    assert instants.tolist() == [instant * 10**6]


@pytest.mark.parametrize(
    ("clock", "monday"), [(stamps(None, 10**6), "1970-01-05"), (CLOCK, "3 00:00:00"), (numbered("s"), "345600")]
)
def test_monday_is_0(clock, monday):
    written, *_ = clock.read(pa.array([monday]).cast(clock.kind))
    assert (written[0] // 86400 + clock.weekday) % 7 == 0
