"""Which of the study's modules a module or a notebook rests on, read from its imports."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from lib import paths

FLOORS = ("lib", "study", "workflow")


def modules(source: Path, skip: frozenset[str] = frozenset(), beside: Path | None = None) -> list[Path]:
    """Files of the study that a module or notebook imports, directly or through others, itself excluded, sorted.

    Names in `skip`, such as "lib.paths", are neither listed nor followed. Modules in the folder `beside`, of which the
    source is one, count too.
    """
    skipped, found = set(map(_file, skip)), set()
    waiting = [source]
    while waiting:
        file = waiting.pop()
        new = _imported(file, _written(file), beside) - found - skipped
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


def relative(files: list[Path]) -> list[str]:
    """The files as paths from the repository root."""
    return [str(file.relative_to(paths.ROOT)) for file in files]


def code_hash(files: list[Path]) -> str:
    """Digest of what the files do: comments, documentation and layout do not enter."""
    return hashlib.sha256(b"".join(_code_digest(file, _written(file)) for file in files)).hexdigest()


class _Undocumented(ast.NodeTransformer):
    """Code without the statements that are nothing but text."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)


def _written(file: Path) -> tuple[int, int]:
    """When the file was last written, and its size: as long as both stay the same, a file is parsed once."""
    return file.stat().st_mtime_ns, file.stat().st_size


@cache
def _code_digest(file: Path, written: tuple[int, int]) -> bytes:
    done = _Undocumented().visit(ast.parse(file.read_text(encoding="utf-8")))
    return hashlib.sha256(ast.dump(done).encode()).digest()


@cache
def _imported(source: Path, written: tuple[int, int], beside: Path | None) -> set[Path]:
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        code = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join(line for cell in code for line in cell.splitlines() if not line.startswith("%"))  # no magics
    found: set[Path] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = {alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # What is imported is a module of a package, or something inside a module or a package.
            module = node.module or ""
            names = {f"{module}.{alias.name}".lstrip("."): module for alias in node.names}
        else:
            continue
        for name, package in names.items():
            folders = [source.parents[node.level - 1]] if getattr(node, "level", 0) else [paths.ROOT, beside]
            for folder in filter(None, folders):
                if folder == paths.ROOT and name.split(".")[0] not in FLOORS:
                    continue
                found |= set([file for file in (_file(name, folder), _file(package, folder)) if file.exists()][:1])
    return found


def _file(name: str, folder: Path | None = None) -> Path:
    path = (folder or paths.ROOT) / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
