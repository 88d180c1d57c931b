"""What all pages of the report share: navigation, style, scripts, and no outside request."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("theme.js", "page.js", "picker.js")


class Part(NamedTuple):
    """A notebook's page among its neighbours."""

    number: int
    href: str
    title: str


def parts_of(notebooks: Path) -> list[Part]:
    """The study's notebooks in order, each with the question in its first heading."""
    parts = []
    for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = re.search(r"^# (?:\d+ · )?(.+)$", first, flags=re.MULTILINE)
        parts.append(Part(int(path.stem[:2]), f"{path.stem}.html", title[1].strip() if title else path.stem))
    return parts


def source(name: str) -> Markup:
    """One of the scripts or the style beside the templates."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def allowed() -> Markup:
    """Our scripts as the browser's security policy names them: any other one, whatever brought it in, does not run."""
    digests = [hashlib.sha256(source(name).encode("utf-8")).digest() for name in SCRIPTS]
    return Markup(" ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests))


def page(template: str, **values: object) -> str:
    """A whole page; whatever is put into the template is escaped unless it is marked as HTML."""
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    made.globals.update(source=source, allowed=allowed, home=Part(0, "index.html", "The report"))
    return made.get_template(template).render(**values)
