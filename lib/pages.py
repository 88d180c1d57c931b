"""Executed notebooks as self-contained pages; the command line that writes the report's pages.

python -m lib.pages page reports/synthetic/notebooks/01_data.ipynb reports/synthetic/01_data.html
python -m lib.pages index synthetic
python -m lib.pages pdf reports/synthetic/index.html synthetic.pdf
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import nbformat
import pandas as pd
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from lib.paths import NOTEBOOKS, REPORTS
from lib.presentation.frame import framed, parts_of, themed, title_of
from lib.presentation.index import write_index
from lib.presentation.prose import PageText, text_html
from lib.presentation.report import html_table
from lib.provenance import without_folders
from lib.step import tell
from lib.storage import write_whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What a cell shows only because its last line happened to have a value.
ECHO = re.compile(r"^\s*[\[(<{]*(Axes|Figure|Text\(|None|<.* at 0x|<matplotlib|<function|<class|PosixPath)")
# Scripts and page-wide styles of an output; the style inside a drawing (text/css) stays.
ACTIVE = re.compile(r"<(script|style)(?![^>]*text/css).*?</\1\s*>", flags=re.DOTALL | re.IGNORECASE)


def code_html(source: str, name: str) -> str:
    """A code cell, folded."""
    colours = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True))
    return (
        f'<details class="code"><summary>Code <code>{escape(name)}</code></summary>'
        f"<pre><code>{colours.rstrip()}</code></pre></details>\n"
    )


def printed(text: str) -> str:
    """What a terminal would show: no colour codes, and only the last state of a line that was rewritten."""
    lines = [line.rstrip("\r").split("\r")[-1] for line in TERMINAL_COLOUR.sub("", text).split("\n")]
    return "\n".join(lines).strip("\n")


def output_html(output: nbformat.NotebookNode, alt: str) -> str:
    """One output as meant: no warnings, no widgets without a kernel, no value that a last line happened to have."""
    if output.output_type == "stream":
        text = printed(output.text)
        return f'<pre class="printed">{escape(text)}</pre>\n' if output.name == "stdout" and text else ""
    if output.output_type == "error":
        return f'<pre class="printed">{escape(output.ename)}: {escape(output.evalue)}</pre>\n'
    data = output.data
    if any("widget" in kind for kind in data):
        return ""
    if "text/html" in data:
        return themed(ACTIVE.sub("", data["text/html"])) + "\n"
    if "image/png" in data:
        picture = data["image/png"].replace("\n", "")
        image = f'<img src="data:image/png;base64,{picture}" alt="{escape(alt)}">'
        return f'<figure class="study-figure">{image}</figure>\n'
    text = printed(data.get("text/plain", ""))
    return "" if not text or ECHO.match(text) else f'<pre class="printed">{escape(text)}</pre>\n'


def parameter_rows(source: str) -> dict[str, tuple[str, str]]:
    """Name, value and comment of each assignment in a parameters cell; a path without its folders."""
    lines = source.splitlines()
    rows = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            comment = lines[statement.end_lineno - 1][statement.end_col_offset :].partition("#")[2].strip()
            value = without_folders(ast.literal_eval(statement.value))
            rows[statement.targets[0].id] = (repr(value), comment)
    return rows


def parameters_html(notebook: nbformat.NotebookNode) -> str:
    """The values this page was made with, and what each means."""
    rows: dict[str, tuple[str, str]] = {}
    for tag in ("parameters", "injected-parameters"):
        for cell in notebook.cells:
            if tag in cell.metadata.get("tags", []):
                for name, (value, comment) in parameter_rows(cell.source).items():
                    rows[name] = (value, comment or rows.get(name, ("", ""))[1])
    cells = [(name, value, comment) for name, (value, comment) in rows.items()]
    table = html_table(pd.DataFrame(cells, columns=["parameter", "value", "meaning"]), "What this page was made with")
    return f'<details class="code"><summary>Parameters of this run</summary>{table}</details>\n' if rows else ""


def notebook_html(notebook: nbformat.NotebookNode, renderer: PageText) -> str:
    """The notebook's cells in order; the parameters as a table in place of their cell."""
    parts, heading = [], "Figure"
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            parts.append(text_html(cell.source, renderer))
            heading = renderer.contents[-1].text if renderer.contents else heading
        elif cell.cell_type == "code" and "parameters" in tags:
            parts.append(parameters_html(notebook))
        elif cell.cell_type == "code" and "injected-parameters" not in tags:
            alt = cell.metadata.get("alt", heading)
            if cell.source.strip():
                parts.append(code_html(cell.source, cell.get("id", "")))
            parts.extend(output_html(output, alt) for output in cell.outputs)
    return "".join(parts)


def write_page(executed: Path, target: Path, notebooks: Path = NOTEBOOKS) -> None:
    """The page of one executed notebook."""
    notebook = nbformat.read(executed, as_version=4)
    renderer = PageText()
    body = notebook_html(notebook, renderer)
    parts, number = parts_of(notebooks), int(executed.stem[:2])
    eyebrow = f'<p class="eyebrow">Notebook {number} of {len(parts)}</p>\n'
    page = framed(eyebrow + body, renderer.contents, title_of(notebook), target.parent.name, parts, number)
    write_whole(target, page)


def print_page(page: Path, target: Path) -> None:
    """A page on paper, by headless Chromium. Raises FileNotFoundError where there is no browser or no page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser to print with; looked for {', '.join(BROWSERS)}")
    address, out = page.resolve(strict=True).as_uri(), f"--print-to-pdf={target.resolve()}"
    options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", "--virtual-time-budget=4000"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium has none for root
    subprocess.run([browser, *options, out, address], check=True, capture_output=True, timeout=300)


def main(arguments: list[str] | None = None) -> int:
    """Write one page, a study's index or a PDF; exit status 1 with one line when it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m lib.pages", description="Pages of the report.")
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("page", help="the page of one executed notebook")
    page.add_argument("executed", type=Path)
    page.add_argument("target", type=Path)
    index = commands.add_parser("index", help="the report's first page")
    index.add_argument("study", help="the report's folder name")
    index.add_argument("--parameters", help="JSON to show and to keep beside the report: what the study ran with")
    pdf = commands.add_parser("pdf", help="a page printed by headless Chromium")
    pdf.add_argument("html", type=Path)
    pdf.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "page":
            write_page(options.executed, options.target)
        elif options.command == "pdf":
            print_page(options.html, options.target)
        else:
            if options.parameters:
                write_whole(REPORTS / options.study / "parameters.json", options.parameters + "\n")
            write_index(REPORTS / options.study)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        tell(f"NO PAGE: {options.study if options.command == 'index' else options.target}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
