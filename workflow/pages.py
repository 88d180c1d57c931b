"""Every executed notebook as one self-contained page, by nbconvert; navigation, style and scripts of all pages."""

import ast
import base64
import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbconvert.exporters import TemplateExporter
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from traitlets.config import Config

from lib.storage import write_atomic
from study.provenance import without_folders
from workflow.execute import notebooks_in
from workflow.text import PageText

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("theme.js", "page.js", "picker.js")
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


class Part(NamedTuple):
    """A notebook's page among its neighbours."""

    number: int
    href: str
    title: str


def parts_of(notebooks: Path) -> list[Part]:
    """The study's notebooks in order, each with the question in its first heading."""
    parts = []
    for path in notebooks_in(notebooks):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = re.search(r"^# (?:\d+ · )?(.+)$", first, flags=re.MULTILINE)
        parts.append(Part(int(path.stem[:2]), f"{path.stem}.html", title[1].strip() if title else path.stem))
    return parts


def source(name: str) -> Markup:
    """One of the scripts or the style beside the templates."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def embedded(svg: str) -> Markup:
    """A drawing as the address of a picture, whose identifiers are its own."""
    return Markup(f"data:image/svg+xml;base64,{base64.b64encode(svg.encode('utf-8')).decode('ascii')}")


def in_full(text: str) -> str:
    """The text with 1e-06 as 0.000001."""
    return re.sub(r"\b\d+(\.\d+)?e-\d+\b", lambda found: f"{float(found[0]):.15f}".rstrip("0"), text)


def allowed() -> Markup:
    """Our scripts as the browser's security policy names them: any other one, whatever brought it in, does not run."""
    digests = [hashlib.sha256(source(name).encode("utf-8")).digest() for name in SCRIPTS]
    return Markup(" ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests))


def filled(template: str, **values: object) -> str:
    """A template with these values, which are escaped in pages unless they are marked as HTML."""
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=".html" in template, undefined=StrictUndefined)
    made.globals.update(
        in_full=in_full, source=source, allowed=allowed, embedded=embedded, home=Part(0, "index.html", "The report")
    )
    return made.get_template(template).render(**values)


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
        parameters={name: (in_full(repr(without_folders(value))), about) for name, (value, about) in ran_with.items()},
        heading=lambda: text.contents[-1].text if text.contents else "Figure",
        is_echo=ECHO.match,
        without_scripts=partial(ACTIVE.sub, ""),
    )
    body = Markup(exporter.from_notebook_node(notebook)[0])
    title = next((part.title for part in parts if part.number == number), executed.stem)
    given = {"title": title, "study": target.parent.name, "number": number, "contents": text.contents, "parts": parts}
    write_atomic(target, filled("frame.html.j2", body=body, **given))
    return {name: value for name, (value, _) in ran_with.items()}
