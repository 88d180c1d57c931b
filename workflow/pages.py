"""Every executed notebook as one self-contained page, by nbconvert; navigation, style and scripts of all pages."""

import hashlib
import re
from ast import literal_eval
from base64 import b64encode
from functools import cache
from html import escape
from pathlib import Path

import nbformat
import ziamath
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbconvert.exporters import TemplateExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from papermill.translators import PythonTranslator

from lib.storage import write_atomic
from study.provenance import without_folders
from study.report import slug
from workflow.step import notebooks_in

TEMPLATES = Path(__file__).parent / "templates"
EM = 18.0  # size of letters for which formulas are drawn; pages scale them
ziamath.config.svg2, ziamath.config.precision = False, 2


def parts_of(notebooks: Path) -> list[dict[str, object]]:
    """Number, name and the question in the first heading of each of the study's notebooks, in order."""
    firsts = {path.stem: nbformat.read(path, as_version=4).cells[0].source for path in notebooks_in(notebooks)}
    titles = {name: re.sub(r"^# \d+ · ", "", first.splitlines()[0]) for name, first in firsts.items()}
    return [{"number": int(name[:2]), "name": name, "title": title} for name, title in titles.items()]


def source(name: str) -> Markup:
    """One of the scripts or the style beside the templates."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def allowed() -> Markup:
    """Our scripts as the browser's security policy names them: any other one, whatever brought it in, does not run."""
    digests = [hashlib.sha256(source(name).encode()).digest() for name in ("theme.js", "page.js", "picker.js")]
    return Markup(" ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests))


def filled(template: str, **values: object) -> str:
    """A template with these values, which are escaped in pages unless they are marked as HTML."""
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=".html" in template, undefined=StrictUndefined)
    return made.get_template(template).render(source=source, allowed=allowed, **values)


@cache
def formula(latex: str, display: bool = True) -> Markup:
    """The formula drawn in the colour of the text, and as MathML for those who listen."""
    drawn = ziamath.Latex(latex.strip(), size=EM, inline=not display, color="currentColor")
    svg = drawn.svg().strip()
    box = re.search(r'viewBox="([^"]+)"', svg)[1]
    _, top, width, height = (float(number) / EM for number in box.split())
    place = f"width: {width:.3f}em; height: {height:.3f}em; vertical-align: {-top - height:.3f}em"
    drawing = re.sub("^<svg [^>]*>", f'<svg aria-hidden="true" viewBox="{escape(box)}" style="{place}">', svg)
    return Markup(f'<span class="math">{drawing}<span class="spoken"><math>{drawn.mathmlstr()}</math></span></span>')


class PageText(IPythonRenderer):
    """Renders one page's text cells, formulas as drawings, and collects level, anchor and text of its headings."""

    def __init__(self) -> None:
        super().__init__(escape=True)
        self.contents: list[tuple[int, str, str]] = []

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """A heading; all but the title, which loses its number, get an anchor."""
        if level == 1:
            return f"<h1>{re.sub(r'^[0-9]+ · ', '', text)}</h1>\n"
        plain = Markup(text).striptags()
        anchor = slug(plain)
        self.contents.append((level, anchor, plain))
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text}{link}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        return formula(body, display=False)

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{formula(body)}</span>'


def parameters(notebook: nbformat.NotebookNode) -> dict[str, tuple[str, str]]:
    """Value and comment of each parameter that the notebook ran with: its own, or what it was given instead."""
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    own = PythonTranslator.inspect(cell)
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    values = {each.name: literal_eval(each.default) for each in own} | given
    return {each.name: (repr(without_folders(values[each.name])), each.help) for each in own}


def write_page(study: Path, part: dict[str, object], parts: list[dict[str, object]]) -> None:
    """Write the page of one executed notebook of a study."""
    notebook, text = nbformat.read(study / "notebooks" / f"{part['name']}.ipynb", as_version=4), PageText()
    places = {"template_name": TEMPLATES.name, "extra_template_basedirs": [str(TEMPLATES.parent)]}
    exporter = TemplateExporter(file_extension=".html", **places)
    exporter.register_filter("markdown2html", MarkdownWithMath(renderer=text).render)
    exporter.environment.globals["parameters"] = parameters(notebook)
    body = Markup(exporter.from_notebook_node(notebook)[0])
    page = filled("frame.html.j2", study=study.name, part=part, parts=parts, body=body, contents=text.contents)
    write_atomic(study / f"{part['name']}.html", page)
