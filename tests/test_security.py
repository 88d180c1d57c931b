"""Nothing that is loaded can run code, and nothing is fetched in the clear."""

import ast
import json
import re
from pathlib import Path

from lib.storage import NOTEBOOKS, ROOT

FLOORS = [path for floor in ("lib", "study", "workflow") for path in sorted((ROOT / floor).rglob("*.py"))]
SOURCES = [*FLOORS, *sorted(NOTEBOOKS.glob("*.ipynb"))]
RUN_CODE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "jsonpickle"}
UNPICKLE = {"read_pickle", "to_pickle", "load_module", "package_importer"}
NAMES_NOT_PLACES = ("http://www.w3.org/",)  # of XML languages: never fetched


def code_of(path: Path) -> str:
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code").splitlines()
    return "\n".join(line for line in lines if not line.startswith("%"))


def unsafe_loads(code: str) -> list[str]:
    """Imports and calls that could run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {each.arg: ast.unparse(each.value) for each in node.keywords}
            unsafe = called == "torch.load" and options.get("weights_only") != "True"
            unsafe |= options.get("allow_pickle", "False") != "False"
            unsafe |= called.split(".")[-1] in UNPICKLE or called in ("eval", "exec", "yaml.load")
            found += [ast.unparse(node)] if unsafe else []
    return found


def test_nothing_loaded_can_run_code_and_nothing_is_fetched_in_the_clear():
    for path in SOURCES:
        assert unsafe_loads(code_of(path)) == [], path
        addresses = re.findall(r"\b(?:http|ftp)://[^\s\"')]+", path.read_text(encoding="utf-8"))
        assert [address for address in addresses if not address.startswith(NAMES_NOT_PLACES)] == [], path


def test_what_could_run_code_is_recognised():
    unsafe = ["import pickle", "from joblib import load", "torch.load(path)", "torch.load(path, weights_only=False)"]
    unsafe += ["np.load(path, allow_pickle=True)", "pd.read_pickle(path)", "eval(text)"]
    assert [len(unsafe_loads(code)) for code in unsafe] == [1] * len(unsafe)
