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
    code = ["%autoreload 2\n", "from lib.attention.mechanism import AttentionOutput\n", "x = 1"]
    cells = [{"cell_type": "markdown", "source": ["from lib import train"]}, {"cell_type": "code", "source": code}]
    (tmp_path / "b.ipynb").write_text(json.dumps({"cells": cells}))
    found = names(dependencies.modules(tmp_path / "b.ipynb"))
    assert "lib/attention/mechanism.py" in found
    assert all(name.startswith("lib/attention/") for name in found)
    skipped = dependencies.modules(tmp_path / "a.py", skip=frozenset({"study.accuracy.evaluate"}))
    assert names(skipped) == []


@pytest.mark.parametrize(
    "line",
    [
        "from study.speed import fresh_process",
        "from study.speed import fresh_process as this_process",
        "from study.speed.fresh_process import MIB",
        "import study.speed.fresh_process",
        "import numpy, study.speed.fresh_process as this_process",
    ],
)
def test_every_form_of_import_names_the_module_and_not_its_package(tmp_path, line):
    (tmp_path / "a.py").write_text(f"{line}\nimport libs.paths\nfrom tests.lib import paths\n")
    assert names(dependencies.modules(tmp_path / "a.py")) == ["study/speed/fresh_process.py"]


def test_a_package_is_named_where_something_is_imported_from_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "lib" / "shapes").mkdir(parents=True)
    (tmp_path / "lib" / "shapes" / "__init__.py").write_text("Mask = int\n")
    (tmp_path / "lib" / "shapes" / "wide.py").write_text("from lib.shapes import Mask\n")
    (tmp_path / "a.py").write_text("from lib.shapes import wide\n")
    assert names(dependencies.modules(tmp_path / "a.py")) == ["lib/shapes/__init__.py", "lib/shapes/wide.py"]
    (tmp_path / "lib" / "shapes" / "wide.py").write_text("x = 1\n")
    assert names(dependencies.modules(tmp_path / "a.py")) == ["lib/shapes/wide.py"]


def test_packages_import_nothing_of_the_study():
    # Whatever imports a module runs its package too, which is not followed.
    for floor in dependencies.FLOORS:
        assert not [file for file in (paths.ROOT / floor).rglob("__init__.py") if dependencies.modules(file)]


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
