"""Formulas: drawn as meant, or refused; words beside the drawing."""

import re

import pytest

from workflow.text import formula


def height(latex: str, display: bool = True) -> float:
    return float(re.search(r"height: ([\d.]+)em", formula(latex, display))[1])


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"\sum_{i} x", "<munder>"),
        (r"\max_{i} x", '<mo form="prefix">max</mo>'),
        (r"\operatorname*{argmax}_{i} x", "argmax"),
        (r"\begin{aligned} a & = b \\ & = c \end{aligned}", "<mtable"),
        (r"\mathrm{d} t", '<mi mathvariant="normal">d</mi>'),
        (r"a < b", '<mo form="infix">&lt;</mo>'),
    ],
)
def test_formulas_are_said_beside_their_drawing(latex, part):
    html = formula(latex, display=True)
    assert part in html.partition('<span class="spoken"><math>')[2]
    assert html.startswith('<span class="math"><svg aria-hidden="true"')
    assert 'fill="currentColor"' in html


@pytest.mark.parametrize(
    ("tall", "low"),
    [
        (r"\left( \sum_{i=1}^{n} x \right)", r"( x )"),
        (r"\left( \frac{\frac{a}{b}}{c} \right)", r"\left( \frac{a}{b} \right)"),
        (r"\sqrt{\frac{a}{b}}", r"\sqrt{a}"),
    ],
)
def test_brackets_and_roots_stretch(tall, low):
    assert height(tall) > 1.3 * height(low)


@pytest.mark.parametrize(
    ("latex", "why"),
    [
        (r"\unknowncommand x", r"\unknowncommand is not known"),
        (r"\label{a} x", r"\label is not known"),
        (r"\mathbb E", "needs braces around its letter"),
        (r"\left( x", "cannot be read"),
        (r"\frac{1}{", "cannot be read"),
        (r"\text{a & <b>}", "cannot be read"),
    ],
)
def test_formulas_that_would_be_drawn_wrongly_are_refused_by_name(latex, why):
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        formula(latex, display=True)
    assert repr(latex) in str(refused.value)
