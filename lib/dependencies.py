"""Which of the study's modules a module or a notebook rests on, read from its imports."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from lib import storage

FLOORS = ("lib", "study", "workflow")


def modules(source: Path, skip: frozenset[str] = frozenset(), beside: Path | None = None) -> list[Path]:
    """Files of the study that a module or notebook imports, directly or through others, itself excluded, sorted.

    Names in `skip`, such as "lib.storage", are neither listed nor followed; modules in the folder `beside` count, too.
    """
    skipped, found = {_file(name, storage.ROOT) for name in skip}, set()
    waiting = [source]
    while waiting:
        file = waiting.pop()
        new = _imported(file, file.read_text(encoding="utf-8"), beside) - found - skipped
        found |= new
        waiting += new
    return sorted(found - {source})


def mechanism_files(name: str) -> list[Path]:
    """The file of a class that `lib.attention.mechanism.load_mechanism` loads, and what it imports from its folder."""
    place = Path(name.rpartition(":")[0]).absolute()
    source = _file(place.name.removesuffix(".py"), place.parent)
    if not source.exists():
        return []  # it is installed, or missing
    return [source, *(file for file in modules(source, beside=place.parent) if place.parent in file.parents)]


def code_hash(files: list[Path]) -> str:
    """Digest of what the files do: comments, documentation and layout do not enter."""
    return hashlib.sha256(b"".join(_code_digest(file.read_text(encoding="utf-8")) for file in files)).hexdigest()


@cache
def _code_digest(text: str) -> bytes:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            for each in [each for each in node.body if isinstance(each, ast.Expr)]:
                if isinstance(getattr(each.value, "value", None), str):
                    node.body.remove(each)
    return hashlib.sha256(ast.dump(tree).encode()).digest()


@cache
def _imported(source: Path, text: str, beside: Path | None) -> set[Path]:
    if source.suffix == ".ipynb":
        code = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join(line for cell in code for line in cell.splitlines() if not line.startswith("%"))  # no magics
    found: set[Path] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            level, names = 0, [(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # What is imported is a module of a package, or something inside a module or a package.
            level, package = node.level, node.module or ""
            names = [(f"{package}.{alias.name}".lstrip("."), package) for alias in node.names]
        else:
            continue
        for each in names:
            folder = storage.ROOT if each[0].split(".")[0] in FLOORS else beside
            folder = source.parents[level - 1] if level else folder
            files = [_file(name, folder) for name in each if folder]
            found |= set([file for file in files if file.exists()][:1])
    return found


def _file(name: str, folder: Path) -> Path:
    path = folder / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
