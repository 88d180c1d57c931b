"""A class of one's own is found by its name; what cannot be one is refused in a line."""

import pytest
import torch

from lib.attention.mechanism import MultiHeadAttention, load_mechanism
from lib.dependencies import mechanism_files

MINE = """from lib.attention.mechanism import MultiHeadAttention
class {name}(MultiHeadAttention):
    def attend(self, queries, keys, values, key_mask):
        return values
"""


@pytest.fixture
def package(tmp_path):
    """A package of the user's, whose module imports another; its name belongs to this test alone."""
    folder = tmp_path / tmp_path.name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "kernels.py").write_text("def one(x):\n    return x\n")
    (folder / "mine.py").write_text("from .kernels import one\nfrom lib import paths\n" + MINE.format(name="Mine"))
    return folder


def test_a_file_and_a_module_of_a_package_are_found(package, monkeypatch):
    name = package.name
    found = load_mechanism(f"{package.parent}/{name}.mine:Mine")
    assert issubclass(found, MultiHeadAttention)
    assert found(8, 2)(torch.ones(1, 3, 8)).output.shape == (1, 3, 8)
    (package / f"{name}_file.py").write_text(MINE.format(name="Other"))
    assert load_mechanism(f"{package}/{name}_file.py:Other").__name__ == "Other"
    monkeypatch.chdir(package)
    assert load_mechanism(f"{name}_file.py:Other").__name__ == "Other"


def test_what_a_mechanism_rests_on_is_its_file_and_what_that_imports_beside_it(package):
    files = mechanism_files(f"{package.parent}/{package.name}.mine:Mine")
    assert [file.name for file in files] == ["mine.py", "kernels.py"]
    assert mechanism_files("nowhere.at_all:Mine") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}/{name}.mine", "give package.module:Class or folder/file.py:Class"),
        ("{folder}/{name}.mine:Yours", "mine has no class Yours"),
        ("{folder}/{name}.nothing:Mine", "cannot be imported .ModuleNotFoundError"),
        ("{folder}/{name}/broken_{name}.py:Mine", "cannot be imported .SyntaxError"),
        ("{folder}/{name}/torch.py:Mine", "another module torch"),
        ("{folder}/{name}/other_{name}.py:Path", "must be a subclass of lib.attention.mechanism.MultiHeadAttention"),
        ("{folder}/{name}/other_{name}.py:Empty", "Empty must define attend"),
    ],
)
def test_what_is_no_mechanism_is_refused_in_one_line(package, name, message):
    (package / f"broken_{package.name}.py").write_text("class Mine(:\n")
    (package / "torch.py").write_text("")
    empty = "from pathlib import Path\nfrom lib.attention.mechanism import MultiHeadAttention\n"
    (package / f"other_{package.name}.py").write_text(empty + "class Empty(MultiHeadAttention):\n    pass\n")
    with pytest.raises(ValueError, match=message) as refused:
        load_mechanism(name.format(folder=package.parent, name=package.name))
    assert len(str(refused.value).splitlines()) == 1


def test_a_causal_form_is_refused_where_there_is_none():
    class Mine(MultiHeadAttention):
        def attend(self, queries, keys, values, key_mask):
            return values

    with pytest.raises(ValueError, match="Mine has no causal form"):
        Mine(8, 2, causal=True)
