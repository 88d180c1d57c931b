import json

import pytest

from lib import dependencies, storage


def imports(source, **options):
    return [str(file.relative_to(storage.ROOT)) for file in dependencies.modules(source, **options)]


def test_imports_are_followed_in_modules_and_notebooks(tmp_path):
    (tmp_path / "a.py").write_text("import numpy\nfrom study.accuracy import evaluate\n")
    found = imports(tmp_path / "a.py")
    assert {"study/accuracy/evaluate.py", "lib/data/description.py", "lib/storage.py"} <= set(found)
    assert "study/sources.py" not in found
    code = ["%autoreload 2\n", "from lib.attention.mechanism import AttentionOutput\n", "x = 1"]
    cells = [{"cell_type": "markdown", "source": ["from lib import x"]}, {"cell_type": "code", "source": code}]
    (tmp_path / "b.ipynb").write_text(json.dumps({"cells": cells}))
    found = imports(tmp_path / "b.ipynb")
    assert "lib/attention/mechanism.py" in found
    assert all(name.startswith("lib/attention/") for name in found)
    assert imports(tmp_path / "a.py", skip=frozenset({"study.accuracy.evaluate"})) == []


@pytest.mark.parametrize("line", ["from study.speed import fresh_process", "import numpy, study.speed.fresh_process"])
def test_every_form_of_import_names_the_module_and_not_its_package(tmp_path, line):
    (tmp_path / "a.py").write_text(f"{line}\nimport libs.paths\nfrom tests.lib import paths\n")
    assert imports(tmp_path / "a.py") == ["study/speed/fresh_process.py"]


def test_a_package_is_named_where_something_is_imported_from_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "ROOT", tmp_path)
    package = tmp_path / "lib" / "shapes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("Mask = int\n")
    (package / "wide.py").write_text("from lib.shapes import Mask\n")
    (tmp_path / "a.py").write_text("from lib.shapes import wide\n")
    assert imports(tmp_path / "a.py") == ["lib/shapes/__init__.py", "lib/shapes/wide.py"]
    (package / "wide.py").write_text("x = 1\n")
    assert imports(tmp_path / "a.py") == ["lib/shapes/wide.py"]


def test_packages_import_nothing_of_the_study():
    # Whatever imports a module runs its package too, which is not followed.
    for floor in dependencies.FLOORS:
        assert not [file for file in (storage.ROOT / floor).rglob("__init__.py") if dependencies.modules(file)]


def test_hash_sees_what_is_done_and_not_how_it_is_written_about(tmp_path):
    written = ['x = f("text")\n', 'x = f("other")\n', 'x = f("text")\nx\n']
    written += ['"""Module."""\n\nx   =   f("text")  # a comment\n"""What x is."""\n']
    for number, text in enumerate(written):
        (tmp_path / str(number)).write_text(text)
    one, other, more, documented = (dependencies.code_hash([tmp_path / str(number)]) for number in range(4))
    assert one == documented
    assert len({one, other, more}) == 3
