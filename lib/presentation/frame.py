"""What all pages of the report share: navigation, style, script, the font of the formulas, and no outside request."""

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lib.presentation import formulas
from lib.presentation.prose import Entry

LIBRARY = Path(__file__).parent
SCRIPTS = ["theme.js", "page.js", "picker.js"]
# Inks and greys of drawings that would vanish on a dark page: they follow its theme.
THEMED = {"#1b1f24": "var(--ink)", "#000000": "var(--ink)", "#333333": "var(--ink)"}
THEMED |= {"#555555": "var(--muted)", "#dfe2e6": "var(--line)"}


@dataclass(frozen=True)
class Part:
    """A notebook's page among its neighbours."""

    number: int
    href: str
    title: str


def title_of(notebook: nbformat.NotebookNode) -> str:
    """The question in the notebook's first heading, without its number."""
    source = notebook.cells[0].source if notebook.cells else ""
    heading = re.search(r"^# (?:\d+ · )?(.+)$", source, flags=re.MULTILINE)
    return heading[1].strip() if heading else "Untitled"


def parts_of(notebooks: Path) -> tuple[Part, ...]:
    """The study's notebooks in order, by their stored sources."""
    paths = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    titles = [title_of(nbformat.read(path, as_version=4)) for path in paths]
    named = zip(paths, titles, strict=True)
    return tuple(Part(int(path.stem[:2]), f"{path.stem}.html", title) for path, title in named)


def themed(html: str) -> str:
    """Drawings whose ink, grid and background follow the page; colour maps keep their light background."""

    def redraw(found: re.Match[str]) -> str:
        svg = found[0].replace('style="fill: #ffffff"', 'style="fill: none"', 1)
        for colour, variable in THEMED.items():
            svg = svg.replace(f": {colour}", f": {variable}")
        return svg

    return re.sub(r'<svg class="drawn".*?</svg>', redraw, html, flags=re.DOTALL)


def environment() -> Environment:
    """The templates beside this module; whatever is put into them is escaped unless it is marked as HTML."""
    return Environment(loader=FileSystemLoader(LIBRARY), autoescape=True, undefined=StrictUndefined)


def script(name: str) -> str:
    """One of the scripts beside this module."""
    return (LIBRARY / name).read_text(encoding="utf-8")


def allowed(scripts: list[str]) -> str:
    """The scripts as the browser's security policy names them: any other one, whatever brought it in, does not run."""
    digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in scripts]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)


def framed(body: str, contents: list[Entry], title: str, study: str, parts: tuple[Part, ...], number: int) -> str:
    """A whole page about `body`, with the part of the mathematical font that it needs; number 0 is the index."""
    places = [0, *(part.number for part in parts)]
    place = places.index(number) if number in places else 0
    around = [Part(0, "index.html", "The report"), *parts]
    wanted = formulas.characters(body)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            body=Markup(body),
            contents=contents,
            title=title,
            study=study,
            parts=parts,
            number=number,
            previous=around[place - 1] if place > 0 else None,
            following=around[place + 1] if place + 1 < len(around) else None,
            font=Markup(formulas.math_font(frozenset(wanted))) if wanted else None,
            style=Markup((LIBRARY / "page.css").read_text(encoding="utf-8")),
            first_script=Markup(script("theme.js")),
            script=Markup(script("page.js")),
            allowed=Markup(allowed([script(name) for name in SCRIPTS])),
            has_code='<details class="code' in body,
        )
    )
