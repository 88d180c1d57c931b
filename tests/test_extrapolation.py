"""The tables of docs/scaling.md are what is worked out by hand, and the committed ones are the committed report's."""

import json
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import extrapolation
from lib.paths import ROOT
from lib.presentation import report
from workflow.readme import END, with_answers

PUBLISHED = "reports/sberbank_sample"
SPEED = "07_speed_and_memory"
EVENTS_EACH, TRAINED_EACH, MEMORY = 100.0, 75.0, 2.0**30
RECORD = {
    "commit": "0123456789abcdef",
    "processor": "abacus",
    "instructions": "beads",
    "cores": 2,
    "memory_gib": 1.0,
    "threads": "1",
    "data": {"events": 1000, "customers": 10},
    "parameters": {"profile": "tiny", "epochs": 4, "folds": 3, "repeats": 2},
}


def found(model: str, task: str, split: str, axis: str, x: float | None, **values: float) -> pd.DataFrame:
    """Rows of one place of one mechanism."""
    facts = {"experiment": SPEED, "task": task, "model": model, "seed": "-", "split": split, "axis": axis, "x": x}
    return pd.DataFrame([facts | {"metric": metric, "value": value} for metric, value in values.items()])


def speed_rows() -> pd.DataFrame:
    """A softmax whose time grows with the square and which slows along a stream; a Performer that does neither."""
    parts = [
        found(model, "visits", "training", "epoch_profile", None, events_per_second=value).assign(seed=str(seed))
        for model, speeds in {"softmax": (500, 1000, 750), "performer": (3000, 3000, 3000)}.items()
        for seed, value in enumerate(speeds)
    ]
    for model, power in {"softmax": (2, 1, 7 / 3), "performer": (0.9, 0.8, 1)}.items():
        powers = dict(zip(("", "_low", "_high"), power, strict=True))
        growth = {f"time_ms_exponent{end}": value for end, value in powers.items()}
        growth |= {"peak_memory_mib_exponent": 1, "peak_memory_mib_exponent_low": -1}
        growth |= {"peak_memory_mib_exponent_high": 4 / 3}
        parts.append(found(model, "attention", "training", "growth", None, **growth))
        for length, time in ((10, 9.0), (1000, 1.0)):
            times = {"time_ms": time, "time_ms_low": time / 2, "time_ms_high": 2 * time, "peak_memory_mib": 1}
            parts.append(found(model, "attention", "training", "length", length, **times))
    for power in range(7):
        mark = 2**power
        middle = 0.5 if mark == 1 else 0.75 * mark  # of the events since the mark before
        slower = {"event_us": middle, "event_us_low": middle / 2, "event_us_high": 2 * middle, "state_kib": mark}
        steady = {"event_us": 3, "event_us_low": 3, "event_us_high": 3, "state_kib": 5}
        for model, values in {"softmax": slower, "performer": steady}.items():
            parts.append(found(model, "stream", "forward", "events_streamed", mark, **values))
    parts.append(found("infinite_former_uniform", "attention", "training", "basis", 16, time_ms=1))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A report of a few rows."""
    folder = tmp_path_factory.mktemp("reports") / "tiny"
    report.Page(SPEED, folder).save_rows(speed_rows(), machine=True)
    costs = [found(model, "visits", "-", "final", None, peak_memory_mib=8) for model in ("softmax", "performer")]
    comparison = report.Page("08_comparison", folder)
    comparison.save_rows(pd.concat(costs, ignore_index=True).assign(experiment=comparison.notebook), machine=True)
    (folder / "provenance.json").write_text(json.dumps(RECORD))
    return folder


@pytest.fixture(scope="module")
def rows(study) -> pd.DataFrame:
    return extrapolation.labelled(report.load_rows("tiny", reports=study.parent))


def test_a_value_is_said_with_its_range_in_the_unit_of_its_middle():
    assert extrapolation.said(np.array([90.0, 45.0, 7200.0]), extrapolation.SECONDS) == "1.5 (0.75 to 120) min"
    assert extrapolation.said(np.array([90.0, 90.1, 89.9]), extrapolation.SECONDS) == "1.5 min"
    assert extrapolation.said(3e-9, extrapolation.SECONDS) == "0.003 µs"
    assert extrapolation.said(123456.0) == "120,000"


def test_an_event_of_the_bank_takes_four_codes_two_numbers_and_a_day():
    text, arrays = extrapolation.event_bytes()
    assert arrays == 4 * 1 + 2 * 4 + 8
    assert len("1,0 0:0:0,1,1,1,\n") < text < len("123456789,456 23:59:59,5411,1010,-123456789.99,12345678901\n")


def test_volumes_are_products():
    lines = extrapolation.volumes(EVENTS_EACH, text=50.0, arrays=20.0, memory=MEMORY)
    assert [list(line.values()) for line in (lines[0], lines[-1])] == [
        ["100,000", "100", "10,000,000", "480 MiB", "190 MiB", "230 MiB", "0.19"],
        ["100,000", "1,000,000", "100,000,000,000", "4.5 TiB", "1.8 TiB", "2.2 TiB", "1,900"],
    ]


def test_trainings_are_linear_in_customers(rows):
    lines = extrapolation.trainings(rows, TRAINED_EACH, RECORD["parameters"])
    assert [(line["mechanism"], line["customers"]) for line in lines[2:4]] == [
        ("softmax", "100,000,000"),
        ("Performer", "100,000"),
    ]
    # 7.5 million events at 750 a second, 500 to 1000; four epochs; two repeats of three trainings on two thirds.
    assert list(lines[0].values())[2:] == [
        "2.8 (2.1 to 4.2) h",
        "11 (8.3 to 17) h",
        "1.9 (1.4 to 2.8) days",
        "8 MiB",
    ]
    assert lines[3]["an epoch"] == "42 min"


def test_what_ends_first_comes_first(rows):
    lines = extrapolation.limits(rows, EVENTS_EACH, TRAINED_EACH, 20.0, MEMORY)
    assert [line["customers, at most"] for line in lines] == [
        "450,000",  # 2^30 / 2400
        "540,000",  # 2^30 / 2000
        "860,000 (580,000 to 1,200,000)",
        "3,500,000",
    ]
    assert "softmax" in lines[2]["as long as"]


def test_a_layer_grows_from_the_longest_length_by_the_fitted_power_and_at_least_linearly(rows):
    softmax, performer = extrapolation.layers(rows)
    assert (softmax["mechanism"], softmax["call"], softmax["measured to"]) == ("softmax", "training", "1,000")
    assert softmax["power of time"] == "2 (1 to 2.3)"
    assert softmax["time"] == "17 (0.0083 to 330) min"  # a thousandfold: 1000 s, from 0.5 s to 20,000 s
    assert softmax["100,000 such calls, one core"] == "3.2 (0.0016 to 63) years"
    assert softmax["power of peak memory"] == "1 (−1 to 1.3)"
    assert softmax["peak memory"] == "1,000 (1,000 to 10,000) MiB"
    assert performer["power of time"] == "0.9 (0.8 to 1)"
    assert performer["time"] == "1 (0.5 to 2) s"


def test_a_stream_that_slows_down_takes_half_of_its_last_events_cost_each(rows):
    softmax, performer = extrapolation.streams(rows)
    assert list(softmax.values()) == [
        "softmax",
        "64",
        "1",
        "1 (0.5 to 2) s",
        "5.8 (2.9 to 12) days",
        "980 MiB",
    ]
    assert list(performer.values()) == ["Performer", "64", "0", "3 µs", "3 s", "5 KiB"]


def test_the_page_gets_its_tables_between_its_marks_and_nothing_else(study, tmp_path):
    page = tmp_path / "scaling.md"
    page.write_text(f"# Title\n\n{extrapolation.START}\nold\n{END}\n\nThe rest.\n", encoding="utf-8")
    made = []
    for _ in range(2):
        extrapolation.main([str(study)], page)
        made.append(page.read_text(encoding="utf-8"))
    assert made[0] == made[1]
    assert made[0].startswith(
        f"# Title\n\n{extrapolation.START}\nFrom the report `tiny` (profile tiny, commit 0123456789)"
    )
    assert made[0].endswith(f"|\n{END}\n\nThe rest.\n")
    assert "| softmax | 100,000 | 2.8 (2.1 to 4.2) h |" in made[0]
    assert made[0].count("\n### ") == 5


def test_a_report_without_what_is_needed_gets_one_line(study, tmp_path, capsys):
    poor = shutil.copytree(study, tmp_path / "poor")
    report.Page(SPEED, poor).save_rows(speed_rows().query("task != 'stream'"), machine=True)
    for folder, message in ((poor, "no rows for: The same layer fed"), (tmp_path / "nowhere", "no rows of")):
        with pytest.raises(SystemExit) as stopped:
            extrapolation.main([str(folder)], tmp_path / "never.md")
        assert stopped.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("NO TABLES: ")
        assert message in said
    assert not (tmp_path / "never.md").exists()


def test_the_committed_page_is_made_from_the_committed_report(tmp_path):
    page = ROOT / "docs" / "scaling.md"
    assert with_answers(page.read_text(encoding="utf-8"), "made", extrapolation.START)
    done = subprocess.run(["git", "archive", "HEAD", "docs", PUBLISHED], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no committed report, or no repository")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(tmp_path, filter="data")
    page = tmp_path / "docs" / "scaling.md"
    before = page.read_bytes()
    extrapolation.main([str(tmp_path / PUBLISHED)], page)
    assert page.read_bytes() == before
