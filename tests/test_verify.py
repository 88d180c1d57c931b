"""Two reports that say the same, and every way in which they may not."""

import json
import shutil

import pandas as pd
import pytest
import torch
from tiny_study import build, figure, rows

from lib import train, verify
from lib.presentation import report
from lib.storage import write_whole
from lib.train import TrainConfig
from lib.training.model import ModelConfig

MACHINE = {"processor": "one", "instructions": "AVX2", "threads": "1", "python": "3", "versions": {"torch": "2"}}


@pytest.fixture
def studies(tmp_path, capsys):
    """A report and its copy, made on the same machine."""
    published = build(tmp_path)
    write_whole(published / "provenance.json", json.dumps(MACHINE))
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
    assert "no differences among 9 rows, byte for byte" in lines[0]


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


def test_on_another_machine_rows_agree_within_the_tolerance(studies, monkeypatch, capsys):
    write_whole(studies[1] / "provenance.json", json.dumps(MACHINE | {"processor": "two"}))
    change_table(studies[1], lambda table: table.assign(value=table["value"] + 0.01))
    (studies[1] / "claims" / "08_comparison.json").write_text("[]")
    assert verified(studies, monkeypatch, capsys, "--tolerance", "0.0101")[0] == 0
    status, lines = verified(studies, monkeypatch, capsys, "--tolerance", "0.0099")
    assert status == 1
    assert len(lines) == 9 + 1


def test_equal_bits_are_promised_by_processor_threads_and_the_packages_of_both():
    assert verify.same_machine(MACHINE, MACHINE | {"versions": {"torch": "2", "cluster": "1"}})
    assert not verify.same_machine(MACHINE, MACHINE | {"versions": {"torch": "3"}})
    for name in ("processor", "instructions", "threads", "python"):
        assert not verify.same_machine(MACHINE, MACHINE | {name: "other"})


def test_the_tolerance_is_relative_above_one(studies):
    table = verify.rows_of(studies[0])
    large = table.assign(value=1000.0)
    assert verify.differing_rows(large, large.assign(value=1009.0), 0.01) == []
    assert len(verify.differing_rows(large, large.assign(value=1011.0), 0.01)) == len(table)
    assert len(verify.differing_rows(large, large.assign(value=float("nan")), 0.01)) == len(table)


@pytest.mark.parametrize("where", [{"experiment": "02_kernel_error"}, {"task": "memory"}])
def test_ill_conditioned_rows_have_a_wider_tolerance(studies, where):
    table = verify.rows_of(studies[0]).assign(value=0.1)
    unstable = table.assign(**where)
    assert verify.differing_rows(unstable, unstable.assign(value=0.34), 0.01) == []
    assert len(verify.differing_rows(unstable, unstable.assign(value=0.36), 0.01)) == len(table)
    assert len(verify.differing_rows(table, table.assign(value=0.34), 0.01)) == len(table)


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
    assert verify.differences(*folders, None) == []
    pages_alone = shutil.copytree(folders[0], tmp_path / "published", ignore=shutil.ignore_patterns("figures"))
    assert verify.differences(pages_alone, folders[1], None) == []
    report.begin("08_comparison", "tiny", tmp_path / "two").save_rows(rows("08_comparison", {"roc_auc": 0.7}))
    assert verify.differences(*folders, None) == [
        "claims/08_comparison.json: other bytes",
        "figures/08_score.json: other bytes",
        "figures/08_score.svg: other bytes",
    ]


def test_nothing_to_compare_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tables"):
        verify.rows_of(tmp_path)


def test_one_and_two_threads_agree_within_the_tolerance(histories):
    probabilities = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model, _ = train.train(histories, histories.labelled, ModelConfig(), TrainConfig(epochs=3), 0, "threads")
        probabilities.append(train.predict(model, histories, histories.labelled, 64)[:, 1])
    torch.set_num_threads(1)
    assert abs(probabilities[0] - probabilities[1]).max() <= verify.TOLERANCE
