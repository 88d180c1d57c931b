"""Two reports that say the same, and every way in which they may not."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from tiny_study import comparison_rows, figure, rows

from lib.storage import REPORTS, write_atomic
from study import report
from workflow import verify

MACHINE = {"processor": "one", "instructions": "AVX2", "threads": "1", "python": "3", "versions": {"torch": "2"}}


@pytest.fixture
def studies(tmp_path):
    """A report and its copy, made on the same machine."""
    published = tmp_path / "tiny"
    page = report.begin("08_comparison", published.name, tmp_path)
    page.save_rows(comparison_rows(page.notebook))
    page.save_rows(rows(page.notebook, {"training_seconds": 3.0}), machine=True)
    page.claim("better", "yes", "no", when=True)
    page.claim("faster", "1 s", "no", when=True, machine=True)
    page.save_figure(figure(), "score", "Score.", "Lines.")
    page.save_figure(figure(), "time", "Time.", "Lines.", machine=True)
    write_atomic(published / "provenance.json", json.dumps(MACHINE))
    return published, shutil.copytree(published, tmp_path / "again")


@pytest.fixture
def verified(studies, monkeypatch, capsys):
    """Exit status and lines of a comparison of the two."""

    def run():
        monkeypatch.setattr("sys.argv", ["verify", *map(str, studies)])
        return verify.main(), capsys.readouterr().out.splitlines()

    return run


def change_table(study, change):
    path = study / "tables" / "08_comparison.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_equal_reports_say_so_and_times_do_not_count(studies, verified):
    for path in [*studies[1].glob("*/*_machine.*"), studies[1] / "figures" / "08_time.svg"]:
        path.write_text("others\n")
    shutil.rmtree(studies[0] / "figures")  # as pages are published
    count = len(verify.rows_of(studies[0]))
    assert verified() == (0, [f"{studies[0]}: no differences among {count} rows, byte for byte"])


def test_claims_and_figures_of_other_bytes_are_named(studies):
    for name in ("claims/08_comparison.json", "figures/08_score.json", "figures/08_score.svg"):
        (studies[1] / name).write_bytes((studies[0] / name).read_bytes() + b" ")
    named = [line.partition(": ")[0] for line in verify.differences(*studies, exact=True)]
    assert named == ["claims/08_comparison.json", "figures/08_score.json", "figures/08_score.svg"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table: table.assign(value=table["value"].where(table.index != 4, table["value"] + 1e-6)), "came out"),
        (lambda table: table.drop(index=4), "only in the published report"),
        (lambda table: pd.concat([table, table.tail(1).assign(metric="new")]), "only in the new report"),
    ],
)
def test_a_row_that_differs_is_named(studies, verified, change, word):
    change_table(studies[1], change)
    status, lines = verified()
    assert (status, len(lines)) == (1, 3)
    assert "08_comparison gender" in lines[0]
    assert word in lines[0]
    assert lines[1] == "tables/08_comparison.csv: other bytes"


def test_on_another_machine_rows_agree_within_their_tolerance(studies, verified):
    write_atomic(studies[1] / "provenance.json", json.dumps(MACHINE | {"processor": "two"}))
    read = rows("03_continuous_memory", {"density": 0.7}).assign(task="regulariser")
    for study, factor in zip(studies, (1, 2), strict=True):
        report.begin("03_continuous_memory", study.name, study.parent).save_rows(read.assign(value=factor))
    change_table(studies[1], lambda table: table.assign(value=table["value"] + 0.0007))
    (studies[1] / "claims" / "08_comparison.json").write_text("[]")
    count = len(verify.rows_of(studies[0])) - len(read)
    ends = f"each within its tolerance; {len(read)} rows only have to be there"
    assert verified() == (0, [f"{studies[0]}: no differences among {count} rows, {ends}"])
    change_table(studies[1], lambda table: table.assign(value=table["value"] + 0.01))
    (studies[1] / "tables" / "03_continuous_memory.csv").unlink()
    status, lines = verified()
    assert (status, len(lines)) == (1, count + len(read) + 1)


def test_equal_bits_are_promised_by_processor_threads_and_the_packages_of_both():
    assert verify.same_machine(MACHINE, MACHINE | {"versions": {"torch": "2", "cluster": "1"}})
    assert not verify.same_machine(MACHINE, MACHINE | {"versions": {"torch": "3"}})
    for name in ("processor", "instructions", "threads", "python"):
        assert not verify.same_machine(MACHINE, MACHINE | {name: "other"})


def test_no_tolerance_hides_an_error_that_matters():
    """In the published rows: of half a value and 0.011, of p-values 0.06."""
    rows = verify.rows_of(REPORTS / "quick").sort_values(verify.KEYS, ignore_index=True)
    assert verify.differing_rows(rows, rows, exact=False) == []
    planted = (0.5 * rows["value"].abs() + 0.011).mask(rows["metric"] == "p_value", 0.06)
    lines = verify.differing_rows(rows, rows.assign(value=rows["value"] + planted), exact=False)
    keys = rows[verify.KEYS].agg(" ".join, axis=1)
    compared = [key for key in keys if np.inf not in verify.tolerance(key)]
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(compared)
    assert len(compared) > 0.9 * len(keys)
