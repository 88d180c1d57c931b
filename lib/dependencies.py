"""Which of the study's modules a module or a notebook rests on, read from its imports."""

import ast
import hashlib
import json
from pathlib import Path

from lib import paths

FLOORS = ("lib", "study", "workflow")


def modules(source: Path, skip: frozenset[str] = frozenset()) -> list[Path]:
    """Files of the study that a module or notebook imports, directly or through others, itself excluded, sorted.

    Names in `skip`, such as "lib.paths" or "study.speed.memory", are neither listed nor followed.
    """
    found: set[str] = set()
    waiting = [source]
    while waiting:
        for name in _imported(waiting.pop()) - found - skip:
            found.add(name)
            waiting.append(_file(name))
    return sorted(map(_file, found))


def code_hash(files: list[Path]) -> str:
    """Digest of what the files do: comments, documentation and layout do not enter."""
    digest = hashlib.sha256()
    for file in files:
        done = _Undocumented().visit(ast.parse(file.read_text(encoding="utf-8")))
        digest.update(ast.dump(done).encode())
    return digest.hexdigest()


class _Undocumented(ast.NodeTransformer):
    """Code without its documentation: statements that are nothing but text."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)


def _imported(source: Path) -> set[str]:
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
        text = "\n".join(line for line in lines if not line.startswith("%"))  # a magic is no Python
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            # What is imported is a module of a package or something inside a module.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] in FLOORS and _file(name).exists()}


def _file(name: str) -> Path:
    return paths.ROOT / f"{name.replace('.', '/')}.py"


def relative(files: list[Path]) -> list[str]:
    """The files as paths from the repository root."""
    return [str(file.relative_to(paths.ROOT)) for file in files]
