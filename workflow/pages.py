"""The report's pages: every executed notebook as one self-contained file, by nbconvert, and the front page.

python -m workflow.pages report synthetic         (all pages of reports/synthetic, of notebooks that ran to their end)
python -m workflow.pages pdf reports/synthetic/index.html synthetic.pdf
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
from markupsafe import Markup
from nbconvert.exporters import TemplateExporter
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from traitlets.config import Config

from lib.paths import NOTEBOOKS, REPORTS
from lib.storage import write_atomic
from study.provenance import without_folders
from workflow.frame import TEMPLATES, Part, page, parts_of
from workflow.step import tell
from workflow.text import PageText

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# What a cell shows only because its last line happened to have a value.
ECHO = re.compile(r"^\s*[\[(<{]*(Axes|Figure|Text\(|None|<.* at 0x|<matplotlib|<function|<class|PosixPath)")
# Scripts and page-wide styles of an output; the style inside a drawing (text/css) stays.
ACTIVE = re.compile(r"<(script|style)(?![^>]*text/css).*?</\1\s*>", flags=re.DOTALL | re.IGNORECASE)
PREPARED = {
    "TagRemovePreprocessor": {"remove_cell_tags": {"injected-parameters"}},
    "CoalesceStreamsPreprocessor": {"enabled": True},  # of a line that was written again, its last state
    # Of an output's forms the first is shown, and of a widget, which needs a kernel, nothing.
    "NbConvertBase": {
        "display_data_priority": ["application/vnd.jupyter.widget-view+json", "text/html", "image/png", "text/plain"]
    },
}


def parameters(notebook: nbformat.NotebookNode) -> dict[str, tuple[object, str]]:
    """Value and comment of each parameter that the notebook ran with: its own, replaced by what it was given."""
    found: dict[str, tuple[object, str]] = {}
    for tag in ("parameters", "injected-parameters"):
        for cell in notebook.cells:
            lines = cell.source.splitlines()
            for statement in ast.parse(cell.source).body if tag in cell.metadata.get("tags", []) else []:
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    name, line = statement.targets[0].id, lines[statement.end_lineno - 1].encode()
                    comment = line[statement.end_col_offset :].decode().partition("#")[2].strip()
                    found[name] = ast.literal_eval(statement.value), comment or found.get(name, (None, ""))[1]
    return found


def write_page(executed: Path, target: Path, parts: list[Part]) -> dict[str, object]:
    """Write the page of one executed notebook; give the parameters that it ran with."""
    notebook = nbformat.read(executed, as_version=4)
    text, number, ran_with = PageText(), int(executed.stem[:2]), parameters(notebook)
    places = {"template_name": TEMPLATES.name, "extra_template_basedirs": [str(TEMPLATES.parent)]}
    exporter = TemplateExporter(Config(PREPARED), file_extension=".html", **places)
    exporter.register_filter("markdown2html", MarkdownWithMath(renderer=text).render)
    exporter.environment.globals.update(
        parameters={name: (without_folders(value), about) for name, (value, about) in ran_with.items()},
        heading=lambda: text.contents[-1].text if text.contents else "Figure",
        is_echo=ECHO.match,
        without_scripts=partial(ACTIVE.sub, ""),
    )
    body = Markup(exporter.from_notebook_node(notebook)[0])
    title = next((part.title for part in parts if part.number == number), executed.stem)
    given = {"title": title, "study": target.parent.name, "number": number, "contents": text.contents, "parts": parts}
    write_atomic(target, page("frame.html.j2", body=body, **given))
    return {name: value for name, (value, _) in ran_with.items()}


def write_report(study: Path, notebooks: Path = NOTEBOOKS) -> None:
    """All pages of a study: those of the notebooks that ran to their end, and its front page."""
    from workflow.front_page import write_front_page

    parts = parts_of(notebooks)
    executed = [path for path in sorted((study / "notebooks").glob("[0-9]*.ipynb")) if ".partial" not in path.suffixes]
    ran_with = {}
    for path in executed:
        try:
            ran_with[path.stem] = write_page(path, study / f"{path.stem}.html", parts)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    write_front_page(study, ran_with, parts)


def print_page(html: Path, target: Path) -> None:
    """A page on paper, by headless Chromium. Raises FileNotFoundError where there is no browser or no page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser to print with; looked for {', '.join(BROWSERS)}")
    address, out = html.resolve(strict=True).as_uri(), f"--print-to-pdf={target.resolve()}"
    options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", "--virtual-time-budget=4000"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium has none for root
    subprocess.run([browser, *options, out, address], check=True, capture_output=True, timeout=300)


def main(arguments: list[str] | None = None) -> int:
    """Write a report's pages or a PDF; exit status 1 with one line when it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m workflow.pages", description="Pages of the report.")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="all pages of a report")
    report.add_argument("study", help="the report's folder name")
    report.add_argument("--parameters", help="JSON to show and to keep beside the report: what the study ran with")
    pdf = commands.add_parser("pdf", help="a page printed by headless Chromium")
    pdf.add_argument("html", type=Path)
    pdf.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "pdf":
            print_page(options.html, options.target)
        else:
            if options.parameters:
                write_atomic(REPORTS / options.study / "parameters.json", options.parameters + "\n")
            write_report(REPORTS / options.study)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        tell(f"NO PAGE: {options.study if options.command == 'report' else options.target}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
