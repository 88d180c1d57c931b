import pandas as pd
import pytest

from lib.data.description import DataError
from lib.data.histories import read
from study.speed import loading


@pytest.mark.parametrize("name", ["bank_folder", "visits_folder"])
def test_enlarged_events_are_the_same_under_new_customers(name, request, tmp_path):
    source = request.getfixturevalue(name)
    once = read(source)
    rows = 2 * once.found["events"] + 5
    loading.enlarge(source, tmp_path, rows)
    larger = read(tmp_path)
    assert larger.found["events"] == rows
    assert larger.found["labelled"] == 2 * once.found["labelled"]
    assert larger.numbers[: len(once.numbers)].tolist() == once.numbers.tolist()
    assert larger.lengths[: 2 * len(once.lengths)].tolist() == 2 * once.lengths.tolist()
    with pytest.raises(ValueError, match="ask for at least as many, not 3"):
        loading.enlarge(source, tmp_path, 3)


def test_every_way_of_loading_is_measured(bank_folder, tmp_path):
    found = pd.DataFrame(
        {
            call.__name__: loading.measured(call, bank_folder, tmp_path / "cache")
            for call in (loading.bare, loading.encoded, loading.mapped)
        }
    )
    assert list(found.index) == ["seconds", "cpu_seconds", "peak_mib"]
    assert (found.loc["cpu_seconds"] > 0).all()


def test_a_failure_in_the_other_process_is_raised_here(tmp_path):
    with pytest.raises(DataError, match="no transactions"):
        loading.cost(loading.encoded, tmp_path, tmp_path / "cache")


def test_the_command_prints_a_table(bank_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["loading", str(bank_folder), "--rows", "700"])
    monkeypatch.setattr(loading, "cost", loading.measured)
    assert loading.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("700 rows")
    assert [line.split()[0] for line in lines[2:]] == ["bare", "encoded", "mapped"]
