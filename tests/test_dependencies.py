import json

from lib import dependencies, paths


def names(files):
    return [file.stem for file in files]


def test_imports_are_followed_in_modules_and_notebooks(tmp_path):
    (tmp_path / "a.py").write_text("import numpy\nfrom lib import evaluate\n")
    found = names(dependencies.modules(tmp_path / "a.py"))
    assert {"evaluate", "data", "bank", "paths"} <= set(found)
    assert "train" not in found
    cells = [{"cell_type": "markdown", "source": ["from lib import train"]}]
    cells.append({"cell_type": "code", "source": ["from lib.softmax import Attended\n", "x = 1"]})
    (tmp_path / "b.ipynb").write_text(json.dumps({"cells": cells}))
    assert names(dependencies.modules(tmp_path / "b.ipynb")) == ["softmax"]
    assert "evaluate" not in names(dependencies.modules(tmp_path / "a.py", skip=frozenset({"evaluate"})))


def test_hash_sees_code_and_not_layout(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    first = dependencies.code_hash([tmp_path / "a.py"])
    (tmp_path / "a.py").write_text("# a comment\nx   =   1\n")
    assert dependencies.code_hash([tmp_path / "a.py"]) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert dependencies.code_hash([tmp_path / "a.py"]) != first


def test_relative_paths_start_at_the_root():
    assert dependencies.relative([paths.ROOT / "lib" / "data.py"]) == ["lib/data.py"]
