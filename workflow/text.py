"""Text cells as HTML: headings with anchors, links that work inside the report, formulas as drawings."""

import re
from functools import cache
from html import escape, unescape
from itertools import count
from typing import NamedTuple

from nbconvert.filters.markdown_mistune import IPythonRenderer

from study.report import slug

EM = 18.0
"""Size of letters for which formulas are drawn; pages scale them."""


class Entry(NamedTuple):
    """A line of the table of contents."""

    level: int
    anchor: str
    text: str


class PageText(IPythonRenderer):
    """Renders one page's text cells and collects its headings."""

    def __init__(self) -> None:
        super().__init__(escape=True)
        self.contents: list[Entry] = []

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """A heading; all but the title get an anchor, numbered when another heading has it."""
        if level == 1:
            return f"<h1>{re.sub(r'^[0-9]+ · ', '', text)}</h1>\n"
        plain = unescape(re.sub(r"<[^>]+>", "", text))
        taken = {entry.anchor for entry in self.contents}
        numbered = (slug(plain) + (f"-{number}" if number > 1 else "") for number in count(1))
        anchor = next(name for name in numbered if name not in taken)
        self.contents.append(Entry(level, anchor, plain))
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text}{link}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        """A formula in the line."""
        return formula(body, display=False)

    def block_math(self, body: str) -> str:
        """A formula of its own, which scrolls when it is wider than the page."""
        return f'<span class="formula">{formula(body, display=True)}</span>'

    def table(self, text: str) -> str:
        """A table that scrolls when it is wider than the page."""
        return f'<div class="scroll"><table>{text}</table></div>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Notebooks become their pages; other files of the repository, which a report may lack, become plain text."""
        page = re.sub(r"^(?:\./)?(\d\d_\w+)\.ipynb(?=#|$)", r"\1.html", url)
        inside = page != url or url.startswith(("#", "https://", "http://"))
        return f'<a href="{escape(page)}">{text}</a>' if inside else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Pictures must be inside the page."""
        if not url.startswith("data:image/"):
            raise ValueError(f"picture {url!r}: only figures that the notebook draws can be part of a page")
        return f'<img src="{escape(url)}" alt="{escape(text)}">'


@cache
def formula(latex: str, display: bool) -> str:
    r"""The formula drawn in the colour of the text, and as MathML for those who listen.

    Raises ValueError for LaTeX that would be drawn otherwise than meant: what cannot be read, commands that are not
    known, and letters such as `\mathbb E` that need their braces.
    """
    import ziamath

    bare = re.search(r"\\math\w+\s+\w", latex)
    if bare:
        raise ValueError(f"formula {latex!r}: {bare[0]!r} needs braces around its letter")
    ziamath.config.svg2, ziamath.config.precision = False, 2
    try:
        drawn = ziamath.Latex(latex.strip(), size=EM, inline=not display, color="currentColor")
        spoken, svg = drawn.mathmlstr(), drawn.svg()
    except Exception as error:  # of many kinds, and none with a word of the formula
        raise ValueError(f"formula {latex!r} cannot be read: {type(error).__name__} {error}".strip()) from error
    unknown = re.search(r"\\[A-Za-z]+", unescape(re.sub(r"<[^>]+>", " ", spoken)))
    if unknown:
        raise ValueError(f"formula {latex!r}: {unknown[0]} is not known")
    box = re.search(r'viewBox="([^"]+)"', svg)[1]
    _, top, width, height = (float(number) / EM for number in box.split())
    place = f"width: {width:.3f}em; height: {height:.3f}em; vertical-align: {-top - height:.3f}em"
    opened = f'<svg aria-hidden="true" viewBox="{escape(box)}" style="{place}">'
    drawing = re.sub("^<svg [^>]*>", opened, svg.strip())
    return f'<span class="math">{drawing}<span class="spoken"><math>{spoken}</math></span></span>'
