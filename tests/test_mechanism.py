"""A mechanism from a folder outside the clone joins the study, and one that breaks the contract is refused."""

import json
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import small_study

from lib import storage
from lib.storage import ROOT
from study.mechanisms import chosen, named, of_each
from workflow.options import parse

LINEAR = ROOT / "docs" / "linear_attention.py"
PYTHON = f"""[[ $1 != -m || $2 != workflow.engine ]] || {{ echo "given $STUDY_MECHANISMS" >&2; exit; }}
exec {sys.executable} "$@"
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of the user's, with linear attention in it."""
    folder = tmp_path / "the user's"
    folder.mkdir()
    shutil.copy(LINEAR, folder / "own_linear.py")
    return folder


def test_the_page_shows_the_example():
    _, _, code = LINEAR.read_text(encoding="utf-8").partition('"""\n\n')
    assert code in (ROOT / "docs" / "mechanism.md").read_text(encoding="utf-8")


def test_names_are_made_absolute(tmp_path):
    options = parse(["--mechanism", "own.py:A", "--mechanism", "package.module:B"], tmp_path)
    assert options.mechanisms == [f"{tmp_path}/own.py:A", f"{tmp_path}/package.module:B"]


def test_a_profile_lists_mechanisms_too(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "ROOT", tmp_path)
    (tmp_path / "study.yaml").write_text("quick: {mechanisms: [own.py:A, /b.py:B]}\ndefault: {}\n")
    assert chosen("quick", '["/c.py:C", "/b.py:B"]') == [f"{tmp_path}/own.py:A", "/b.py:B", "/c.py:C"]
    assert chosen("default", "[]") == []


def test_tables_call_a_class_by_its_words_and_no_two_alike():
    assert named(["/a/b.py:LinearAttention", "c.d:ELUAttention2"]) == {
        "linear_attention": "/a/b.py:LinearAttention",
        "elu_attention2": "c.d:ELUAttention2",
    }
    for clash in (["a.b:Performer"], ["a.b:Mine", "c.d:Mine"]):
        with pytest.raises(ValueError, match="there is another mechanism called"):
            named(clash)
    assert of_each(["gru", "each_plain"]) == ["gru", "softmax_plain", "performer_plain", "infinite_former_plain"]


def test_a_run_is_given_the_mechanisms_that_keep_the_contract(elsewhere, tmp_path):
    clone = small_study.copy(tmp_path / "clone", commands={"python": PYTHON})
    command = [clone / "run_all.sh", "--mechanism", "own_linear.py:LinearAttention"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert f'given ["{elsewhere}/own_linear.py:LinearAttention"]' in done.stderr
    broken = (elsewhere / "own_linear.py").read_text().replace("keys = keys * key_mask[:, None, :, None]", "pass")
    (elsewhere / "own_linear.py").write_text(broken)
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*own_linear.py:LinearAttention breaks the contract .*; see docs/\S+\n", done.stderr)


def test_its_trainings_are_steps(elsewhere):
    name = f"{elsewhere}/own_linear.py:LinearAttention"
    given = os.environ | {"STUDY_MECHANISMS": json.dumps([name]), "STUDY_NAME": "own", "STUDY_PROFILE": "quick"}
    command = [sys.executable, *"-m snakemake --cores 2 --dry-run --printshellcmds".split()]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = set(re.findall(r"study.train (linear_attention\w*)", done.stdout + done.stderr))
    assert steps == {"linear_attention", "linear_attention_plain"}


MEASURES = {"lengths": [128, 256], "source_lengths": [128], "sweep_length": 128, "batches": [1], "batch_events": 128}
MEASURES |= {"head_dims": [8], "feature_counts": [8], "basis_counts": [8], "stream_events": 512, "fit_from": 128}
MEASURES |= {"rounds": 1, "seconds": 0.0, "stream_seconds": 0.0}
COMPARED = {"folds": 2, "epochs": 1, "event_limits": [32]}
TASKS = ("counts", "order", "recall_content", "recall_time")
MAPPED = {"task_lengths": {task: [32] for task in TASKS}, "task_steps": dict.fromkeys(TASKS, 1), "task_features": [16]}
MAPPED |= {"processes": 1, "try_it": False}
SCRIPT = """import json, sys
from functools import partial
from pathlib import Path
from test_unmeasured import run
from study import report
from workflow.front_page import write_report
study, given = Path(sys.argv[1]), json.loads(sys.argv[2])
study.mkdir(parents=True)
report.begin = partial(report.begin, reports=study.parent)
for name, parameters in given.items():
    run(name, study, parameters)
(study / "data.json").write_text(json.dumps({"labelled": 24, "events": 600}))
(study / "parameters.json").write_text(json.dumps({"folds": 2, "repeats": 1}))
write_report(study)
"""


def test_it_is_in_the_tables_and_on_the_front_page(elsewhere, bank_folder, tmp_path):
    """The notebooks that compare mechanisms, with hardly any training, beside the mechanisms of the study."""
    name, study = f"{elsewhere}/own_linear.py:LinearAttention", tmp_path / "reports" / "own"
    given = {
        "07_speed_and_memory": MEASURES,
        "08_comparison": COMPARED | {"source": str(bank_folder)},
        "09_tasks": MAPPED,
    }
    kept = {"STUDY_KEPT": str(tmp_path / "kept"), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TQDM_DISABLE": "1"}
    environment = os.environ | kept | {"STUDY_MECHANISMS": json.dumps([name]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, study, json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for notebook in given:
        tables = [pd.read_csv(path) for path in (study / "tables").glob(f"{notebook}*.csv")]
        assert {"softmax", "linear_attention"} <= {model for table in tables for model in table["model"]}
    assert (study / "index.html").read_text(encoding="utf-8").count("linear attention") >= 3
