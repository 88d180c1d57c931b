"""A copy of the study that runs for real within seconds: one notebook, two trainings, this environment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lib.storage import ROOT
from workflow import verify

LIMIT = 600.0  # seconds that a run may take on a loaded machine

PARAMETERS = """study = "by_hand"
source = "synthetic"
customers = 40
folds = 2
repeats = 1
epochs = 3
"""
BODY = """import os, sys, torch, lib
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import cross_validate
from study import report
from study.accuracy.evaluate import out_of_fold
from study.sources import prepare
threads = [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")]
print(torch.get_num_threads(), *threads, sys.flags.optimize, lib.__path__[0])
page = report.begin("04_train_softmax", study)
histories = prepare(source, customers)
runs = cross_validate(histories, ModelConfig(), TrainConfig(epochs=epochs), folds, range(repeats))
rows = out_of_fold(histories, "softmax", runs, folds)
rows = rows.assign(task="gender", axis="customer", x=rows["position"], metric="probability", split=rows["fold"])
page.save_rows(rows.rename(columns={"class_1": "value"}))
"""
CLAIM = """import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot(rows["class_1"])
page.save_figure(fig, "probabilities", "Probabilities.", "A line.")
page.claim("trained", "The mean is {mean}.", "no", when=True, mean=float(rows["class_1"].mean()))
"""
STUDY = """default: &small
  {customers: 40, folds: 2, repeats: 1, epochs: 3, controls: [], control_repeats: 0, notebooks: {}}
quick: *small
"""
COMMANDS = {"python": f'exec {sys.executable} "$@"'}


def copy(folder: Path, name: str = "04_train_softmax", body: str = BODY, commands: dict = COMMANDS) -> Path:
    """The study in `folder`, whose only notebook runs the two cells; only number 04 waits for trainings."""
    ignored = shutil.ignore_patterns("__pycache__")
    for floor in ("lib", "study", "workflow"):
        shutil.copytree(ROOT / floor, folder / floor, ignore=ignored)
    shutil.copytree(ROOT / "data" / "facts", folder / "data" / "facts")
    for file in ("run_all.sh", "requirements.txt", "requirements-torch.txt"):
        shutil.copy(ROOT / file, folder)
    (folder / "study.yaml").write_text(STUDY)
    (folder / "notebooks").mkdir()
    cells = [
        new_markdown_cell("# 04 · A small study", id="question"),
        new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
        new_code_cell(body, id="training"),
        new_code_cell(CLAIM, id="conclusion", metadata={"tags": ["conclusion"]}),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / f"{name}.ipynb")
    own_environment(folder, commands)
    return folder


def own_environment(folder: Path, commands: dict[str, str]) -> None:
    """An environment of the given shell commands, which `run_all.sh` takes for finished; `lib` is the copy's own."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name, command in commands.items():
        path = folder / ".venv" / "bin" / name
        path.write_text(f'#!/usr/bin/env bash\nexport PYTHONPATH="{folder}"\n{command}\n')
        path.chmod(0o755)
    kernel = Path("share", "jupyter", "kernels", "python3", "kernel.json")
    spec = json.loads((sys.prefix / kernel).read_text())
    spec["argv"][0] = str(folder / ".venv" / "bin" / "python")
    (folder / ".venv" / kernel).parent.mkdir(parents=True)
    (folder / ".venv" / kernel).write_text(json.dumps(spec))
    made_from = "requirements.txt requirements-torch.txt workflow/environment.py"
    stamp = f'echo "$(cat {made_from} | sha256sum) $PWD" >.venv/stamp'
    subprocess.run(["bash", "-c", stamp], cwd=folder, check=True)


def again(study: Path, folder: Path) -> Path:
    """The study as it stands, with all that it has made, in another place."""
    shutil.copytree(study, folder, ignore=shutil.ignore_patterns(".venv"))
    own_environment(folder, COMMANDS)
    return folder


def results(study: Path) -> dict[str, bytes]:
    """Tables, claims and figures of the study."""
    return verify.compared_files(study / "reports" / "synthetic")


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    """One run of the study, with what it said."""
    command = ["./run_all.sh", "--quick", *options]
    environment = os.environ | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, env=environment)


def misleading(folder: Path) -> dict[str, str]:
    """Variables that lead Python and Jupyter astray: another `lib`, another kernel `python3` in two places."""
    (folder / "astray" / "lib").mkdir(parents=True)
    for name in ("lib/__init__.py", "start.py"):
        (folder / "astray" / name).write_text("print('astray')\nraise SystemExit('astray')\n")
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Astray", "language": "python", "env": {"OMP_NUM_THREADS": "7"}}
    for place in ("astray", "home/.local/share/jupyter"):
        file = folder / place / "kernels" / "python3" / "kernel.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(spec))
    astray = str(folder / "astray")
    python = {"PYTHONPATH": astray, "PYTHONOPTIMIZE": "2", "PYTHONSTARTUP": f"{astray}/start.py"}
    jupyter = {"JUPYTER_PATH": astray, "JUPYTER_PREFER_ENV_PATH": "0", "HOME": str(folder / "home")}
    return python | jupyter


def broken_files(report: Path) -> list[Path]:
    """Files of the report that are empty or end in the middle."""
    json_ends = (b"]\n", b"}\n")
    ends = {".html": b"</html>", ".csv": b"\n", ".json": json_ends, ".svg": b"</svg>\n", ".ipynb": b"}"}
    whole = [path for path in report.rglob("*.*") if path.suffix in ends and ".partial." not in path.name]
    return [path for path in whole if not path.read_bytes().endswith(ends[path.suffix])]
