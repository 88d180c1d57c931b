"""Two processes train the model that one trains, and a killed one of them ends both, to go on from where they were."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import two_processes

from lib import paths
from lib.paths import ROOT
from lib.storage import intact, read_checksummed
from lib.training import loop
from lib.training.classifier import MECHANISMS
from lib.training.processes import ALONE, Processes, joined
from lib.training.runs import build_classifier, run_name

# Sums over a batch come in another order, so that gradients, clipped to norm 1, differ by some thousand roundings of
# 1e-16. Where a gradient is zero but for rounding, Adam divides the difference by no less than its epsilon of 1e-8,
# and a step of the rate 1e-3 differs by 1e-13 / 1e-8 * 1e-3; ten steps by ten times that. Single precision, with
# roundings of 1e-7, would leave the direction of such a step to chance: hence the double one.
TOLERANCE = 1e-7
SINGLE = 1e-6  # probabilities are kept in single precision


def together(folder, *arguments):
    """Two processes of `torchrun`, which keep what they make in the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"STUDY_KEPT": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def left(tmp_path_factory, bank_folder):
    """The folder that `two_processes.py` leaves."""
    folder = tmp_path_factory.mktemp("two_processes")
    done = together(folder, two_processes.__file__, str(folder), str(bank_folder))
    assert done.returncode != 0  # the second process killed itself
    assert "Signal 9 (SIGKILL)" in done.stderr, done.stderr[-3000:]
    return folder


def of_rank(left, name, rank):
    return torch.load(left / two_processes.WEIGHTS.format(name, rank), weights_only=True)


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("attention", MECHANISMS)
def test_two_processes_train_the_model_of_one(attention, left, histories):
    alone, first = two_processes.trained(histories, attention), of_rank(left, attention, 0)
    start = build_classifier(histories, two_processes.MODEL, 1).state_dict()
    assert (alone["head.weight"] - start["head.weight"]).abs().max() > 1e4 * TOLERANCE
    predicted = [each.pop("predictions") for each in (alone, first)]
    assert largest_difference(alone, first) < TOLERANCE
    assert (predicted[0] - predicted[1]).abs().max() < SINGLE


def test_random_features_are_redrawn_alike(left, histories):
    name = "encoder.layers.0.attention.projection"
    alone = two_processes.trained(histories, "performer")[name]
    assert all(torch.equal(alone, of_rank(left, "performer", rank)[name]) for rank in range(2))


@pytest.mark.parametrize("name", [*MECHANISMS, "pretrained", "dropout"])
def test_all_processes_hold_the_same_weights(name, left):
    first, second = (of_rank(left, name, rank) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_pretrain_the_model_of_one(left, histories, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(loop, "hide", two_processes.some_hidden)
    assert largest_difference(two_processes.pretrained(histories), of_rank(left, "pretrained", 0)) < TOLERANCE


def test_dropout_masks_differ_and_redraws_do_not(left):
    state = torch.load(io.BytesIO(read_checksummed(left / "dropout.checkpoint")), weights_only=True)
    (masks, draws), (other_masks, other_draws) = state["generators"]
    assert not torch.equal(masks, other_masks)
    assert torch.equal(draws, other_draws)


def test_a_killed_process_ends_all_and_the_command_goes_on_to_the_same_weights(left, bank_folder, tmp_path):
    (whole,) = (left / "uninterrupted").glob("[!.]*")
    (checkpoint,) = (left / "runs").glob("[!.]*")  # and no folder
    done_before = torch.load(io.BytesIO(read_checksummed(checkpoint)), weights_only=True)["history"]
    assert len(done_before) == two_processes.EPOCHS - 1
    out, options = tmp_path / "runs.json", f"--folds {two_processes.FOLDS} --fold 0 --epochs {two_processes.EPOCHS}"
    command = f"-m study.train performer {options} --source {bank_folder} --out {out}"
    done = together(left, *command.split())
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("s of training") == 1  # the first process alone speaks
    (resumed,) = (left / "runs").glob("[!.]*")
    assert json.loads(out.read_text()) == [resumed.name] == [whole.name]
    assert intact(resumed)
    weights = [torch.load(each / "weights.pt", weights_only=True) for each in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (whole / "predictions.csv").read_bytes() == (resumed / "predictions.csv").read_bytes()
    seconds = pd.read_csv(resumed / "history.csv")["seconds"]
    np.testing.assert_allclose(seconds[:-1], [row["seconds"] for row in done_before])
    assert json.loads((resumed / "configs.json").read_text())["processes"] == 2


def test_another_number_of_processes_makes_another_run(histories):
    arguments = (histories, 0, 3, two_processes.MODEL, two_processes.CONFIG, 0)
    alone, first, second = (run_name(*arguments, each) for each in (ALONE, Processes(0, 2), Processes(1, 2)))
    assert alone != first == second


def test_a_card_that_is_not_there_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="process 2 needs a graphics card, 2 are here"), joined("cuda"):
        pass
