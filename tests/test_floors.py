"""Arrows point downwards: lib knows nothing of the study, the study nothing of the workflow; attention needs torch."""

import ast
import sys

import pytest

from lib.storage import ROOT

TOOLS = {"IPython", "ipywidgets", "matplotlib", "nbconvert", "nbformat", "papermill", "plotly", "seaborn", "snakemake"}
REFUSED = {"lib": {"study", "workflow"} | TOOLS, "study": {"workflow"}}
ATTENTION = {"torch", "jaxtyping", "lib.attention"} | sys.stdlib_module_names


def imported(text, path="lib/attention/module.py"):
    """Full names of what a module imports, with its line; relative imports are those of its folder."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*folder, *filter(None, [node.module])])
            names += [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
    return names


def upward(path, text):
    """Imports of the module at the path that its floor does not allow."""
    refused = REFUSED.get(path.split("/")[0], set())
    found = []
    for name, line in imported(text, path):
        foreign = path.startswith("lib/attention/") and not any(f"{name}.".startswith(f"{own}.") for own in ATTENTION)
        if foreign or name.split(".")[0] in refused:
            found.append(f"{path}, line {line}: must not import {name}")
    return found


def test_every_module_imports_from_its_floor_or_below():
    files = [file for floor in ("lib", "study") for file in (ROOT / floor).rglob("*.py")]
    assert ROOT / "lib/attention/softmax.py" in files
    assert not [fault for file in files for fault in upward(str(file.relative_to(ROOT)), file.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("lib/storage.py", "def f():\n    from study import train", "storage.py, line 2: must not import study.train"),
        ("lib/data/reading.py", "import matplotlib.pyplot as plt", "must not import matplotlib.pyplot"),
        ("lib/data/reading.py", "from ...workflow import step", "must not import workflow.step"),
        ("study/train.py", "from workflow.step import main", "must not import workflow.step.main"),
        ("lib/attention/softmax.py", "import numpy as np", "must not import numpy"),
        ("lib/attention/softmax.py", "from lib.training import loop", "must not import lib.training.loop"),
        ("lib/attention/softmax.py", "from lib import attention_of_others", "must not import lib.attention_of_others"),
    ],
)
def test_an_arrow_upwards_is_named(path, text, named):
    (fault,) = upward(path, text)
    assert fault.endswith(named)
