"""The stored notebooks keep the house rules: stripped, numbered, parametrised, folded, prose without typed results."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from papermill import inspect_notebook

from lib.storage import NOTEBOOKS
from workflow.pages import formula
from workflow.step import default_parameters, notebooks_in

PATHS = notebooks_in(NOTEBOOKS)
REPORTED = {"caption", "alt", "holds", "fails"}
LEVELS = {"95 %", "80 %"}  # of intervals, of quantiles, and of the power of a test: chosen, not measured
AUTORELOAD = '%load_ext autoreload\n%autoreload {2 if study == "by_hand" else 0}\n'


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def typed_results(text: str) -> list[str]:
    """Decimals and percentages outside formulas, code, links and the level of an interval, which is chosen."""
    left_out = (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$]+\$", r"`[^`]*`", r"\]\([^)]*\)", r"https?://\S+")
    for pattern in (*left_out, r"95 %(?= [\w-]*\s?interval)"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return re.findall(r"\d+[.,]\d+|\d+(?:[.,]\d+)?\s*(?:%|per cent)", text)


def reported_results(cell: nbformat.NotebookNode, chosen: set[str]) -> list[str]:
    """Typed results in a code cell's captions, descriptions and claims, fields and `chosen` numbers left out."""
    calls = ast.walk(ast.parse(without_magics(cell.source)))
    said = [ast.unparse(node.value) for node in calls if isinstance(node, ast.keyword) and node.arg in REPORTED]
    numbers = [number for text in said for number in typed_results(re.sub(r"\{[^{}]*\}", " ", text))]
    return [number for number in numbers if number.replace(",", "") not in chosen]


def without_magics(source: str) -> str:
    """The cell as Python: lines that begin with % or ! belong to the notebook."""
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in source.splitlines())


def settings(source: str) -> set[str]:
    """The numbers in a cell's code, and the levels that are chosen."""
    nodes = ast.walk(ast.parse(without_magics(source)))
    return LEVELS | {str(node.value) for node in nodes if isinstance(node, ast.Constant)}


def test_it_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(notebook))
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata
    assert {key for cell in notebook.cells for key in cell.metadata} <= {"tags", "jupyter"}


def test_it_opens_with_its_number(path, notebook):
    assert int(path.stem[:2]) == PATHS.index(path) + 1
    assert re.match(rf"# {path.stem[:2]} · \S", notebook.cells[0].source)


def test_its_parameters_are_commented_literals(path, notebook):
    (cell,) = tagged(notebook, "parameters")
    defaults = default_parameters(cell.source)
    assert defaults["study"] == "by_hand"  # never over a report that run_all.sh made
    assert defaults["seed"] == 0
    comments = {name: parameter["help"] for name, parameter in inspect_notebook(str(path)).items()}
    assert comments.keys() == defaults.keys()
    assert all(comments.values())


def test_it_sets_up_once_reloads_by_hand_alone_and_concludes_last(path, notebook):
    cells = code_cells(notebook)
    (parameters,), (setup,), (conclusion,) = (tagged(notebook, tag) for tag in ("parameters", "setup", "conclusion"))
    assert (cells[0], cells[1], cells[-1]) == (parameters, setup, conclusion)
    assert setup.source.startswith(AUTORELOAD)
    assert "report.begin(" in setup.source
    assert f'"{path.stem}"' in setup.source
    assert "claim(" in conclusion.source


def test_what_only_files_results_is_folded(notebook):
    under = False
    for cell in notebook.cells:
        under |= cell.source.startswith("## Rows and claims")
        folded = "plumbing" in cell.metadata.get("tags", [])
        plain = cell.cell_type == "code" and (under or "conclusion" in cell.metadata.get("tags", []))
        assert folded or not plain, f"{cell.id} is plumbing: tag it"
        assert cell.metadata.get("jupyter", {}) == ({"source_hidden": True} if folded else {}), cell.id


def test_a_parameter_means_the_same_in_every_notebook():
    meanings = {}
    for each in PATHS:
        for name, parameter in inspect_notebook(str(each)).items():
            about = "" if name == "seed" else parameter["help"]  # what is drawn differs
            meanings.setdefault(name, set()).add((parameter["default"], about))
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


def test_its_code_is_short_and_defines_equations_alone(notebook):
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(without_magics(cell.source))):
            assert not isinstance(node, ast.ClassDef), f"{cell.id} defines a class"
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 10, f"{cell.id}: {node.name} is too long"
        assert not re.search(r"sys\.path|import \*", cell.source), cell.id
        # A closing bracket is not a line, nor is a magic, and parameters need one each.
        written = [line for line in cell.source.splitlines() if re.search(r"^[^%]*\w", line)]
        assert "parameters" in cell.metadata.get("tags", []) or len(written) < 20, f"{cell.id} is too long"


MECHANISMS = {
    "02_kernel_error": "positive_features",
    "03_continuous_memory": "ridge_update",
    "04_train_softmax": "layer.attend(",
    "05_train_performer": "favor_attention(",
    "06_train_infinite_former": "layer.step(",
    "08_comparison": "evaluate.comparisons(",
    "09_tasks": "walks.log_odds",
}


@pytest.mark.parametrize(("name", "fast"), MECHANISMS.items())
def test_the_equation_stands_beside_the_library_and_is_asserted_equal(name, fast):
    visible = [
        cell.source
        for cell in code_cells(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
        if not {"plumbing", "setup"} & set(cell.metadata.get("tags", []))
    ]
    assert any("def " in source for source in visible)
    assert any(fast in source and "assert" in source for source in visible)


def test_its_text_captions_and_claims_have_no_typed_results(notebook):
    """A number that the notebook's code has too is a setting."""
    cells = code_cells(notebook)
    chosen = set().union(*(settings(cell.source) for cell in cells))
    found = {cell.id: reported_results(cell, chosen) for cell in cells}
    found |= {cell.id: typed_results(cell.source) for cell in notebook.cells if cell.cell_type == "markdown"}
    assert {name: numbers for name, numbers in found.items() if numbers} == {}


def test_its_formulas_can_be_shown(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|`[^`]*`", " ", cell.source, flags=re.DOTALL)
            for display, inline in re.findall(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$]+?)\$", text, flags=re.DOTALL):
                latex = display or inline
                assert not re.search(r"\\math\w+\s+\w", latex), f"{cell.id}: {latex} needs braces around its letter"
                unknown = re.findall(r"\\[A-Za-z]+", formula(latex, display=bool(display)).striptags())
                assert unknown == [], f"{cell.id}: {latex}"
