"""Text cells as HTML: formulas as MathML, headings with anchors, links that work inside the report."""

import re
from dataclasses import dataclass
from html import escape, unescape

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from lib.presentation.formulas import mathml
from lib.presentation.report import slug


@dataclass(frozen=True)
class Entry:
    """A line of the table of contents."""

    level: int
    anchor: str
    text: str


class PageText(IPythonRenderer):
    """Renders one page's text cells and collects its table of contents."""

    def __init__(self) -> None:
        super().__init__(escape=True, exclude_anchor_links=True)
        self.contents: list[Entry] = []

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """A heading; those of the second and third level get an anchor and a place in the contents."""
        if level == 1:
            return f"<h1>{re.sub(r'^[0-9]+ · ', '', text)}</h1>\n"
        plain = unescape(re.sub(r"<[^>]+>", "", text))
        anchor = self.unused(slug(plain))
        if level <= 3:
            self.contents.append(Entry(level, anchor, plain))
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text}{link}</h{level}>\n'

    def unused(self, anchor: str) -> str:
        """The anchor, numbered when another heading has it."""
        taken = {entry.anchor for entry in self.contents}
        numbered = (f"{anchor}-{number}" for number in range(2, len(taken) + 3))
        return anchor if anchor not in taken else next(name for name in numbered if name not in taken)

    def inline_math(self, body: str) -> str:
        """A formula in the line."""
        return mathml(body, display=False)

    def block_math(self, body: str) -> str:
        """A formula of its own, which scrolls when it is wider than the page."""
        return f'<span class="formula">{mathml(body, display=True)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        """Environments outside of dollar signs."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def table(self, text: str) -> str:
        """A table that scrolls when it is wider than the page."""
        return f'<div class="scroll"><table>{text}</table></div>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Notebooks become their pages; other files of the repository, which a report may lack, become plain text."""
        if url.startswith(("#", "https://", "http://")):
            return f'<a href="{escape(url)}">{text}</a>'
        notebook = re.fullmatch(r"(?:\./)?(\d\d_\w+)\.ipynb(#.*)?", url)
        if notebook:
            return f'<a href="{notebook[1]}.html{escape(notebook[2] or "")}">{text}</a>'
        return text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Pictures must be inside the page."""
        if not url.startswith("data:image/"):
            raise ValueError(f"picture {url!r}: only figures that the notebook draws can be part of a page")
        return f'<img src="{escape(url)}" alt="{escape(text)}">'


def text_html(source: str, renderer: PageText) -> str:
    """A text cell as HTML; a display formula leaves its paragraph."""
    html = MarkdownWithMath(renderer=renderer).render(source)
    alone = r'<p>\s*<span class="formula">(.*?)</span>\s*</p>'
    return re.sub(alone, r'<div class="formula">\1</div>', html, flags=re.DOTALL)
