"""A class of one's own is found by its name; what cannot be one is refused in a line."""

import pytest
import torch

from lib.attention.mechanism import load_mechanism
from lib.dependencies import mechanism_files

MINE = """from pathlib import Path
from lib.attention.mechanism import MultiHeadAttention
class Mine(MultiHeadAttention):
    def attend(self, queries, keys, values, key_mask):
        return values
class Empty(MultiHeadAttention):
    pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the user's in the current folder, with a module that imports another; its name is this test's."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / tmp_path.name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "kernels.py").write_text("def one(x):\n    return x\n")
    (folder / "mine.py").write_text("from .kernels import one\n" + MINE)
    (folder / f"{folder.name}_file.py").write_text(MINE)
    return folder


@pytest.mark.parametrize("name", ["{folder}.mine:Mine", "{path}.mine:Mine", "{folder}/{folder}_file.py:Mine"])
def test_a_file_and_a_module_of_a_package_are_found(package, name):
    found = load_mechanism(name.format(folder=package.name, path=package))
    assert found(8, 2)(torch.ones(1, 3, 8)).output.shape == (1, 3, 8)
    with pytest.raises(ValueError, match="Mine has no causal form"):
        found(8, 2, causal=True)


def test_what_a_mechanism_rests_on_is_its_file_and_what_that_imports_beside_it(package):
    assert [file.name for file in mechanism_files(f"{package}.mine:Mine")] == ["mine.py", "kernels.py"]
    assert mechanism_files("nowhere.at_all:Mine") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}.mine", "give package.module:Class or folder/file.py:Class"),
        ("{folder}.nothing:Mine", "cannot be imported .ModuleNotFoundError"),
        ("{folder}/broken_{folder}.py:Mine", "cannot be imported .SyntaxError"),
        ("{folder}/torch.py:Mine", "another module torch"),
        ("{folder}.mine:Yours", "mine must have a subclass Yours of lib.attention.mechanism.MultiHeadAttention"),
        ("{folder}.mine:Path", "must have a subclass Path"),
        ("{folder}.mine:Empty", "must have a subclass Empty of .* that defines attend"),
    ],
)
def test_what_is_no_mechanism_is_refused_in_one_line(package, name, message):
    (package / f"broken_{package.name}.py").write_text("class Mine(:\n")
    (package / "torch.py").write_text("")
    with pytest.raises(ValueError, match=message) as refused:
        load_mechanism(name.format(folder=package.name))
    assert len(str(refused.value).splitlines()) == 1
