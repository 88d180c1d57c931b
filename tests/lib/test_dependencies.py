import ast
import json

import pytest

from lib import dependencies, paths


def names(files):
    return dependencies.relative(files)


def test_imports_are_followed_in_modules_and_notebooks(tmp_path):
    (tmp_path / "a.py").write_text("import numpy\nfrom study.accuracy import evaluate\n")
    found = names(dependencies.modules(tmp_path / "a.py"))
    assert {"study/accuracy/evaluate.py", "lib/data/description.py", "lib/paths.py"} <= set(found)
    assert "study/sources.py" not in found
    cells = [{"cell_type": "markdown", "source": ["from lib import train"]}]
    cells.append(
        {
            "cell_type": "code",
            "source": ["%autoreload 2\n", "from lib.attention.softmax import AttentionOutput\n", "x = 1"],
        }
    )
    (tmp_path / "b.ipynb").write_text(json.dumps({"cells": cells}))
    assert names(dependencies.modules(tmp_path / "b.ipynb")) == [
        "lib/attention/numerics.py",
        "lib/attention/softmax.py",
    ]
    skipped = dependencies.modules(tmp_path / "a.py", skip=frozenset({"study.accuracy.evaluate"}))
    assert names(skipped) == []


@pytest.mark.parametrize(
    "line",
    [
        "from study.speed import fresh_process",
        "from study.speed import fresh_process as this_process, nothing",
        "from study.speed.fresh_process import MIB",
        "import study.speed.fresh_process",
        "import numpy, study.speed.fresh_process as this_process",
    ],
)
def test_every_form_of_import_names_the_module_and_not_its_package(tmp_path, line):
    (tmp_path / "a.py").write_text(f"{line}\nimport libs.paths\nfrom tests.lib import paths\n")
    assert names(dependencies.modules(tmp_path / "a.py")) == ["study/speed/fresh_process.py"]


def test_packages_run_no_code_of_their_own():
    # Imports are followed from module to module: code of a package would escape the graph.
    for file in [file for floor in dependencies.FLOORS for file in (paths.ROOT / floor).rglob("__init__.py")]:
        (docstring,) = ast.parse(file.read_text(encoding="utf-8")).body
        assert isinstance(docstring.value.value, str), file


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ('"""Module."""\n\nx   =   f("text")  # a comment\n"""What x is."""\n', True),
        ('x = f("other")\n', False),
        ('x = f("text")\nx\n', False),
    ],
)
def test_hash_sees_what_is_done_and_not_how_it_is_written_about(tmp_path, other, alike):
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text('x = f("text")\n')
    two.write_text(other)
    assert (dependencies.code_hash([one]) == dependencies.code_hash([two])) == alike
