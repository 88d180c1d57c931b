"""The front of the study: options of run_all.sh, the workflow's graph, one source of truth for versions."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from lib import bank
from lib.paths import NOTEBOOKS, ROOT


def run(*arguments, **environment):
    return subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300
    )


def test_help_names_every_option():
    done = run("./run_all.sh", "--help")
    assert done.returncode == 0
    for option in ("--data", "--quick", "--fresh", "--out", "--setup", "--help"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--qiuck"], "unknown option --qiuck"),
        (["--data"], "--data needs a value"),
        (["--data", "/nowhere"], "/nowhere: no such folder"),
        (["--data", "lib"], "no transactions.csv"),
        (["--out", "../elsewhere"], "--out ../elsewhere"),
    ],
)
def test_wrong_arguments_get_one_line_and_status_2(arguments, message):
    done = run("./run_all.sh", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_a_bad_file_gets_one_line_and_status_2(bank_folder, tmp_path):
    (tmp_path / bank.EVENTS).write_text((bank_folder / bank.EVENTS).read_text() + "1,0 25:00:00,1,1,1,\n")
    (tmp_path / bank.LABELS).write_text((bank_folder / bank.LABELS).read_text())
    done = run(sys.executable, "-m", "lib.data", str(tmp_path))
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*line 604, column tr_datetime: '0 25:00:00'; .*\n", done.stderr)


def test_every_package_is_pinned_once_and_explained():
    direct = dict(line.split("==") for line in (ROOT / "requirements.in").read_text().splitlines() if "==" in line)
    pinned = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    assert direct.items() <= pinned.items()
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in direct if not re.search(rf"\b{name}\b", readme)]
    assert missing == []
    assert "-r requirements.txt" in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]


def test_the_readme_knows_every_module():
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in sorted((ROOT / "lib").glob("*.py")) if path.name not in readme] == ["__init__.py"]


@pytest.mark.parametrize("profile", ["default", "quick"])
def test_the_studys_parameters_exist_in_its_notebooks(profile):
    parameters = yaml.safe_load((ROOT / "study.yaml").read_text())[profile]
    for name, own in parameters["notebooks"].items():
        cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
        declared = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
        unknown = [key for key in own if f"\n{key} = " not in f"\n{declared}"]
        assert unknown == []


def test_the_graph_has_every_training_notebook_and_page():
    done = run(
        *f"{sys.executable} -m snakemake --cores 2 --dry-run --quiet rules host".split(),
        *"--config data=synthetic study=never_built profile=default".split(),
    )
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    assert counts["train"] == "9"
    assert counts["page"] == str(len(list(NOTEBOOKS.glob("*.ipynb"))))
    assert counts["index"] == "1"
