import dataclasses

import optuna
import pandas as pd
import pytest

from lib.training import runs
from lib.training.loop import TrainConfig
from study import tune
from study.accuracy.search import RECIPE


@pytest.fixture
def command(bank_folder, tmp_path, monkeypatch):
    """`study.tune` on 24 customers, two folds, one epoch; the options come on top. Returns its table."""
    monkeypatch.setenv("STUDY_KEPT", str(tmp_path))
    monkeypatch.setattr(tune.paths, "PROCESSED", tmp_path / "processed")
    monkeypatch.setattr(tune.paths, "RUNS", tmp_path / "runs")

    def run(*options: str) -> pd.DataFrame:
        out = tmp_path / "tuning" / "search.csv"
        small = ("--source", str(bank_folder), "--epochs", "1", "--folds", "2", "--out", str(out))
        monkeypatch.setattr("sys.argv", ["tune", *small, "--mechanisms", "softmax", "performer", *options])
        assert tune.main() == 0
        return pd.read_csv(out)

    return run


def test_the_recipe_comes_first_and_more_candidates_keep_the_first():
    tried = tune.candidates(9, 3)
    assert tried[:4] == tune.candidates(4, 3)
    assert tried[0] == {name: RECIPE[name] for name in tune.SPACE}
    assert tried[1] != tune.candidates(2, 4)[1]
    for name, space in tune.SPACE.items():
        values = [each[name] for each in tried[1:]]
        assert all(space.low <= value <= space.high for value in values)
        assert len(set(values)) == 8


def test_a_candidates_values_reach_the_training(histories, monkeypatch):
    seen = []

    def diverging(histories, customers, model, recipe, seed, title):
        seen.append((model, recipe))
        raise FloatingPointError

    monkeypatch.setattr(tune.data, "prepare", lambda *origin: histories)
    monkeypatch.setattr(runs, "train", diverging)
    candidate = tune.candidates(2, 0)[1]
    found = tune.attempt(tune.Plan("synthetic", 24, 0, 3, 2), "performer", candidate)
    assert (found.probabilities == 0.5).all()
    assert found.diverged == 2
    assert len(seen) == 2
    for model, recipe in seen:
        values = dataclasses.asdict(model) | dataclasses.asdict(recipe)
        assert {name: values[name] for name in candidate} == candidate
        assert (model.attention, recipe.epochs, recipe.weight_decay) == ("performer", 3, TrainConfig.weight_decay)


def test_a_search_goes_on_with_the_same_candidates_for_every_mechanism(command, tmp_path, capsys):
    first = command("--trials", "1")
    found = command("--trials", "2")
    assert found["mechanism"].tolist() == ["softmax"] * 2 + ["performer"] * 2 + ["mean"] * 2
    assert found["trial"].tolist() == [0, 1] * 3
    of_each = [rows[list(tune.SPACE)].to_numpy().tolist() for _, rows in found.groupby("mechanism")]
    assert of_each[0] == of_each[1] == of_each[2]
    assert of_each[0] == [list(each.values()) for each in tune.candidates(2, 1000)]
    assert set(found["searched"]) == {"24 customers of a folder of events"}
    # Measured seconds never come out twice: what was kept was not made again.
    kept = found[found["trial"] == 0].reset_index(drop=True)
    assert kept["cpu_seconds"].tolist() == first["cpu_seconds"].tolist()
    storage = f"sqlite:///{tmp_path / 'runs' / 'search.sqlite3'}"
    assert [summary.n_trials for summary in optuna.get_all_study_summaries(storage)] == [2, 2]
    mechanisms = found[found["mechanism"] != "mean"]
    means = mechanisms.groupby("trial")["roc_auc"].mean()
    assert found.loc[found["mechanism"] == "mean", "roc_auc"].tolist() == pytest.approx(means.tolist(), abs=1e-5)
    assert capsys.readouterr().err.count("ROC-AUC") == 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--trials", "0"], "--trials 0: give at least 1"),
        (["--jobs", "0"], "--jobs 0: give at least 1"),
        (["--mechanisms", "sofmax"], "invalid choice: 'sofmax'"),
    ],
)
def test_wrong_options_are_one_error(command, options, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*options)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_data_that_cannot_be_searched_are_one_error(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command("--folds", "13", "--trials", "1")
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: the rarest label has 12 customers, 13 folds need 13; label more customers of it"]
