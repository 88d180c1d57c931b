"""LaTeX formulas as native MathML, and the part of a mathematical font that a page's formulas need."""

import base64
import io
import re
import unicodedata
from functools import cache
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from latex2mathml.converter import convert

FONT_PACKAGE, FONT_FILE = "ziamath", "fonts/STIXTwoMath-Regular.ttf"  # STIX Two Math, SIL Open Font License
# latex2mathml passes these through half understood, so that they would print wrongly without an error.
UNSUPPORTED = [r"\operatorname*", r"\begin{align", r"\begin{split", r"\begin{gather", r"\tag", r"\label"]

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
LIMITS = {"msub": "munder", "msubsup": "munderover"}
LARGE = {"∑", "∏", "⋃", "⋂", "⨁"}
NAMED_LARGE = {"max", "min", "lim", "sup", "inf", "argmax", "argmin"}
WIDE = {"^": "\u0302", "―": "\u203e", "¯": "\u203e"}


def mathml(latex: str, display: bool) -> str:
    r"""The formula as a `math` element with its LaTeX as alternative text.

    Raises ValueError for LaTeX that would not print as meant: the commands above, and any that the converter leaves
    as a backslash word; `\mathbb E` and the like need their braces.
    """
    latex = latex.strip()
    known_bad = [command for command in UNSUPPORTED if command in latex]
    bare = re.findall(r"\\(?:mathbb|mathbf|mathcal|mathrm|boldsymbol|hat|bar|tilde|widehat)\s+[A-Za-z0-9]", latex)
    if known_bad or bare:
        raise ValueError(f"formula {latex!r}: {(known_bad + bare)[0]!r} is not supported here; split it or add braces")
    spelled = re.sub(r"\\arg(?![A-Za-z])", r"\\operatorname{arg}", latex)
    spelled = re.sub(r"\\mathrm\{([A-Za-z])\}", r"\\text{\1}", spelled)
    markup = convert(spelled, display="block" if display else "inline")
    left = re.findall(r"\\[A-Za-z]+", unescape(re.sub(r"<[^>]+>", " ", markup)))
    if left:
        raise ValueError(f"formula {latex!r}: {left[0]} is not known")
    root = ElementTree.fromstring(markup.replace(f' xmlns="{NAMESPACE}"', ""))
    root.set("alttext", latex)
    for element in list(root.iter()):
        repair(element)
    return ElementTree.tostring(root, encoding="unicode")


def repair(element: ElementTree.Element) -> None:
    """Say in MathML Core what the converter leaves out: limits, wide accents, bold letters, space about functions."""
    if element.tag in LIMITS and (element[0].text in LARGE or element[0].text in NAMED_LARGE):
        element.tag = LIMITS[element.tag]
        if element[0].text in NAMED_LARGE:
            element[0].set("movablelimits", "true")
    if element.tag == "mover" and element[1].text in WIDE and letters(element[0]) + (element[1].text == "―") > 1:
        element.set("accent", "true")
        element[1].text = WIDE[element[1].text]
        element[1].set("stretchy", "true")
    variant = element.get("mathvariant")
    if variant in ("bold", "bold-italic") and element.text:
        del element.attrib["mathvariant"]
        element.text = "".join(bold(char, variant) for char in element.text)
    if element.tag == "mo" and is_name(element):
        element.attrib.update({"lspace": "0", "rspace": "0"})
    for number, child in reversed(list(enumerate(element))):
        if element.tag in ("mrow", "math") and is_name(core(child)):
            if number + 1 < len(element) and not starts_with_operator(element[number + 1]):
                element.insert(number + 1, ElementTree.Element("mspace", width="0.167em"))
            if number and element[number - 1].tag not in ("mo", "mspace"):
                element.insert(number, ElementTree.Element("mspace", width="0.167em"))


def starts_with_operator(element: ElementTree.Element) -> bool:
    """Whether a bracket, another operator or a space comes first, which brings its own distance."""
    if element.tag in ("mrow", "msup", "msub") and len(element):
        return starts_with_operator(element[0])
    return element.tag in ("mo", "mspace") and not is_name(element)


def letters(element: ElementTree.Element) -> int:
    """How many characters the element shows."""
    return len("".join(element.itertext()))


def core(element: ElementTree.Element) -> ElementTree.Element:
    """The base beneath sub- and superscripts."""
    scripted = {"msub", "msup", "msubsup", "munder", "munderover"}
    return core(element[0]) if element.tag in scripted and len(element) else element


def is_name(element: ElementTree.Element) -> bool:
    """Whether the element is a function's name such as log, exp or max."""
    return element.tag in ("mi", "mo") and len(element.text or "") > 1 and (element.text or "").isalpha()


def bold(char: str, variant: str) -> str:
    """The mathematical bold form of a letter or digit: browsers want it in the character, not in an attribute."""
    name = unicodedata.name(char, "")
    kind = "BOLD ITALIC" if variant == "bold-italic" and not name.startswith("DIGIT") else "BOLD"
    plain = re.sub("^(LATIN|GREEK) ", "", name).replace(" LETTER", "")
    try:
        return unicodedata.lookup(f"MATHEMATICAL {kind} {plain}")
    except KeyError:
        return char


def characters(html: str) -> set[str]:
    """The characters inside the `math` elements of a page, and those a stretched or accented form may ask for."""
    inside = "".join(re.findall(r"<math .*?</math>", html, flags=re.DOTALL))
    return set(unescape(re.sub(r"<[^>]+>", "", inside))) | (
        set("√−′^~¯0123456789") | set(WIDE.values()) if inside else set()
    )


@cache
def math_font(wanted: frozenset[str]) -> str:
    """A data address of STIX Two Math with the wanted characters, their slanted forms and all their stretched sizes."""
    options = Options()
    options.flavor = "woff"
    options.layout_features = ["ssty", "kern", "mark", "mkmk", "ccmp", "dtls", "flac"]
    options.hinting = False
    options.notdef_outline = True
    options.name_IDs = [0, 1, 2, 13, 14]
    options.drop_tables = [*options.drop_tables, "DSIG"]
    # Found, not imported: the package would draw formulas, and all that is wanted of it is the font.
    source = Path(find_spec(FONT_PACKAGE).origin).parent / FONT_FILE
    with TTFont(source, recalcTimestamp=False, lazy=True) as font:
        subsetter = Subsetter(options)
        subsetter.populate(unicodes=[code for char in wanted for code in (ord(char), *slanted(char))])
        subsetter.subset(font)
        font.flavor = "woff"
        buffer = io.BytesIO()
        font.save(buffer, reorderTables=True)
    return "data:font/woff;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def slanted(char: str) -> list[int]:
    """The mathematical italic of a letter: browsers show a one-letter `mi` in it."""
    if char == "h":
        return [0x210E]
    if char.isascii() and char.isalpha():
        return [0x1D434 + ord(char) - ord("A") if char.isupper() else 0x1D44E + ord(char) - ord("a")]
    if "Α" <= char <= "Ω":
        return [0x1D6E2 + ord(char) - ord("Α")]
    if "α" <= char <= "ω":
        return [0x1D6FC + ord(char) - ord("α")]
    return [{"∂": 0x1D715, "ϵ": 0x1D716, "ϑ": 0x1D717, "ϕ": 0x1D719, "ϱ": 0x1D71A, "ϖ": 0x1D71B}.get(char, ord(char))]
