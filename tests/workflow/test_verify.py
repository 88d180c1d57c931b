"""Two reports that say the same, and every way in which they may not."""

import json
import shutil

import pandas as pd
import pytest
from tiny_study import build, figure, rows

from lib.paths import REPORTS
from lib.storage import write_atomic
from study import report
from workflow import verify

MACHINE = {"processor": "one", "instructions": "AVX2", "threads": "1", "python": "3", "versions": {"torch": "2"}}


@pytest.fixture
def studies(tmp_path, capsys):
    """A report and its copy, made on the same machine."""
    published = build(tmp_path)
    write_atomic(published / "provenance.json", json.dumps(MACHINE))
    again = shutil.copytree(published, tmp_path / "again")
    return published, again


def verified(studies, monkeypatch, capsys, *options):
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["verify", *map(str, studies), *options])
    status = verify.main()
    return status, capsys.readouterr().out.splitlines()


def change_table(study, change):
    (path,) = verify.tables(study)
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_equal_reports_say_so_and_times_do_not_count(studies, monkeypatch, capsys):
    (studies[1] / "tables" / "08_comparison_machine.csv").write_text("other times\n")
    status, lines = verified(studies, monkeypatch, capsys)
    assert (status, len(lines)) == (0, 1)
    assert f"no differences among {len(verify.rows_of(studies[0]))} rows, byte for byte" in lines[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table: table.assign(value=table["value"].where(table.index != 4, table["value"] + 1e-6)), "came out"),
        (lambda table: table.drop(index=4), "only in the published report"),
        (lambda table: pd.concat([table, table.tail(1).assign(metric="new")]), "only in the new report"),
    ],
)
def test_a_row_that_differs_is_named(studies, monkeypatch, capsys, change, word):
    change_table(studies[1], change)
    status, lines = verified(studies, monkeypatch, capsys)
    assert status == 1
    assert "08_comparison gender" in lines[0]
    assert word in lines[0]
    assert lines[1] == "tables/08_comparison.csv: other bytes"
    assert len(lines) == 3


def test_on_another_machine_rows_agree_within_their_tolerance(studies, monkeypatch, capsys):
    write_atomic(studies[1] / "provenance.json", json.dumps(MACHINE | {"processor": "two"}))
    change_table(studies[1], lambda table: table.assign(value=table["value"] + 0.0007))
    (studies[1] / "claims" / "08_comparison.json").write_text("[]")
    status, lines = verified(studies, monkeypatch, capsys)
    assert status == 0
    rows = len(verify.rows_of(studies[0]))
    assert lines == [f"{studies[0]}: no differences among {rows} rows, each within its tolerance"]
    change_table(studies[1], lambda table: table.assign(value=table["value"] + 0.01))
    status, lines = verified(studies, monkeypatch, capsys)
    assert status == 1
    assert len(lines) == rows + 1


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
    compared = [key for key in keys if not verify.fitting(verify.LEFT_OUT, key)]
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(compared)
    assert len(compared) > 0.9 * len(keys)


def test_rows_left_out_are_counted_and_have_to_be_there(studies, monkeypatch, capsys):
    write_atomic(studies[1] / "provenance.json", json.dumps(MACHINE | {"processor": "two"}))
    compared = len(verify.rows_of(studies[0]))
    reads = rows("03_continuous_memory", {"density": 0.7}).assign(task="regulariser")
    for study, factor in zip(studies, (1, 2), strict=True):
        report.begin("03_continuous_memory", study.name, study.parent).save_rows(reads.assign(value=factor))
    status, lines = verified(studies, monkeypatch, capsys)
    assert status == 0
    assert f"no differences among {compared} rows" in lines[0]
    assert f"; {len(reads)} rows not compared: short trainings of a memory" in lines[0]
    (studies[1] / "tables" / "03_continuous_memory.csv").unlink()
    status, lines = verified(studies, monkeypatch, capsys)
    assert (status, len(lines)) == (1, len(reads) + 1)
    assert "03_continuous_memory regulariser" in lines[0]


def test_claims_and_figures_count_unless_they_are_of_the_machine(tmp_path, capsys):
    folders = []
    for folder, seconds in (("one", 1.0), ("two", 2.0)):
        page = report.begin("08_comparison", "tiny", tmp_path / folder)
        page.save_rows(rows(page.notebook, {"roc_auc": 0.7}))
        page.claim("faster", "{seconds} s", "no", when=True, machine=True, seconds=seconds)
        page.claim("better", "yes", "no", when=True)
        drawn = figure()
        drawn.axes[0].set_title(f"{seconds}")
        page.save_figure(drawn, "time", "Time.", "Lines.", machine=True)
        page.save_figure(figure(), "score", "Score.", "Lines.")
        folders.append(page.directory)
    assert verify.differences(*folders, exact=True) == []
    pages_alone = shutil.copytree(folders[0], tmp_path / "published", ignore=shutil.ignore_patterns("figures"))
    assert verify.differences(pages_alone, folders[1], exact=True) == []
    report.begin("08_comparison", "tiny", tmp_path / "two").save_rows(rows("08_comparison", {"roc_auc": 0.7}))
    assert verify.differences(*folders, exact=True) == [
        "claims/08_comparison.json: other bytes",
        "figures/08_score.json: other bytes",
        "figures/08_score.svg: other bytes",
    ]
