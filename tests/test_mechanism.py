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
import yaml

from lib.paths import ROOT
from study.mechanisms import named, of_each
from study.report import MODEL_STYLE, OWN_COLOURS
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


def test_the_example_is_short_and_the_page_shows_it():
    code = LINEAR.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 30
    shown = (ROOT / "docs" / "mechanism.md").read_text(encoding="utf-8")
    assert code.partition('"""\n\n')[2] in shown


def test_names_are_made_absolute(tmp_path):
    options = parse(["--mechanism", "own.py:A", "--mechanism", "package.module:B"], tmp_path)
    assert options.mechanisms == [f"{tmp_path}/own.py:A", f"{tmp_path}/package.module:B"]


def test_tables_call_a_class_by_its_words_and_no_two_alike():
    assert named('["/a/b.py:LinearAttention", "c.d:ELUAttention2"]') == {
        "linear_attention": "/a/b.py:LinearAttention",
        "elu_attention2": "c.d:ELUAttention2",
    }
    for clash in ('["a.b:Performer"]', '["a.b:Mine", "c.d:Mine"]'):
        with pytest.raises(ValueError, match="there is another mechanism called"):
            named(clash)
    assert of_each(["gru", "each_plain"]) == ["gru", "softmax_plain", "performer_plain", "infinite_former_plain"]


def test_colours_are_kept_free_for_them():
    assert not set(OWN_COLOURS) & {style["color"] for style in MODEL_STYLE.values()}


def test_a_run_is_given_the_mechanisms_that_keep_the_contract(elsewhere, tmp_path):
    clone = tmp_path / "clone"
    for floor in ("lib", "study", "workflow"):
        shutil.copytree(ROOT / floor, clone / floor, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_all.sh", "requirements.txt", "requirements-torch.txt", "study.yaml"):
        shutil.copy(ROOT / name, clone)
    small_study.own_environment(clone, {"python": PYTHON})
    command = [clone / "run_all.sh", "--mechanism", "own_linear.py:LinearAttention"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert f'given ["{elsewhere}/own_linear.py:LinearAttention"]' in done.stderr
    broken = (elsewhere / "own_linear.py").read_text().replace("keys = keys * key_mask[:, None, :, None]", "pass")
    (elsewhere / "own_linear.py").write_text(broken)
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*own_linear.py:LinearAttention breaks the contract .*; see docs/\S+\n", done.stderr)


def test_its_trainings_are_steps_that_run_again_when_its_file_changes(elsewhere):
    name = f"{elsewhere}/own_linear.py:LinearAttention"
    given = os.environ | {"STUDY_MECHANISMS": json.dumps([name]), "STUDY_NAME": "own", "STUDY_PROFILE": "quick"}
    command = [sys.executable, *"-m snakemake --cores 2 --dry-run --printshellcmds".split()]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = set(re.findall(r"study.train (linear_attention\w*)", done.stdout + done.stderr))
    controls = yaml.safe_load((ROOT / "study.yaml").read_text())["quick"]["controls"]
    each = {control.replace("each", "linear_attention") for control in controls if control.startswith("each_")}
    assert steps == {"linear_attention", "linear_attention_plain"} | each


MEASURES = {"heads": 2, "head_dim": 8, "features": 8, "basis": 8, "segment": 32, "rounds": 1, "block_seconds": 0.001}
MEASURES |= {"lengths": [256, 512], "source_lengths": [256], "sweep_length": 256, "batches": [1], "batch_events": 256}
MEASURES |= {"head_dims": [8], "feature_counts": [8], "basis_counts": [8], "stream_events": 128, "stream_segment": 32}
MEASURES |= {"profile_customers": 8, "profile_epochs": 1, "fit_from": 256, "goal_from": 256}
COMPARED = {"folds": 2, "repeats": 1, "epochs": 1, "event_limits": [32], "label_counts": [], "controls": []}
STEPS = {"counts": 1, "order": 1, "recall_content": 1, "recall_time": 1}
LENGTHS = {"counts": [32], "order": [16], "recall_content": [32], "recall_time": [32]}
TASKS = {"task_lengths": LENGTHS, "task_steps": STEPS, "task_features": [16], "processes": 1, "try_it": False}
GIVEN = {"07_speed_and_memory": MEASURES, "08_comparison": COMPARED, "09_tasks": TASKS}
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
    given = {notebook: parameters | {"source": str(bank_folder)} for notebook, parameters in GIVEN.items()}
    given["09_tasks"].pop("source")
    kept = {"STUDY_KEPT": str(tmp_path / "kept"), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TQDM_DISABLE": "1"}
    environment = os.environ | kept | {"STUDY_MECHANISMS": json.dumps([name]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, study, json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for notebook in GIVEN:
        tables = [pd.read_csv(path) for path in (study / "tables").glob(f"{notebook}*.csv")]
        assert {"softmax", "linear_attention"} <= {model for table in tables for model in table["model"]}
    shown = (study / "index.html").read_text(encoding="utf-8")
    assert shown.count("linear attention") >= 3
