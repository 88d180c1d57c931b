"""Formulas as browsers want them, and the font that goes with them."""

import pytest

from lib.presentation.formulas import characters, math_font, mathml


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"\sum_{i} x", "<munder><mo>∑</mo>"),
        (r"\left( \sum_{i=1}^{n} x \right)", "<munderover><mo>∑</mo>"),
        (r"\max_{i} x", 'movablelimits="true"'),
        (r"\widehat{AB}", '<mo stretchy="true">\u0302</mo>'),
        (r"\overline{x}", '<mo accent="true" stretchy="true">\u203e</mo>'),
        (r"\mathbf{1}", "<mn>𝟏</mn>"),
        (r"\boldsymbol{\mu}", "<mi>𝝁</mi>"),
        (r"\mathrm{d} t", "<mtext>d</mtext>"),
        (r"\log \frac{a}{b}", '<mi>log</mi><mspace width="0.167em" /><mfrac>'),
        (r"\exp(x)", "<mi>exp</mi><mo"),
        (r"a < b", 'alttext="a &lt; b"'),
    ],
)
def test_formulas_say_what_browsers_need(latex, part):
    assert part in mathml(latex, display=True)


@pytest.mark.parametrize(
    "latex", [r"\begin{aligned} a & b \end{aligned}", r"\operatorname*{argmax}", r"\mathbb E", r"\unknowncommand x"]
)
def test_formulas_that_would_print_wrongly_are_refused(latex):
    with pytest.raises(ValueError, match=r"not supported|not known"):
        mathml(latex, display=True)


def test_the_font_has_what_the_formula_needs_and_little_else():
    needed = frozenset(characters(mathml(r"\sqrt{x} + \mathcal{N}", display=False)))
    assert {"x", "√", "𝒩"} <= needed
    font = math_font(needed)
    assert font == math_font(needed)
    assert 1_000 < len(font) < 60_000  # the whole font has two million characters in this form


def test_no_formula_needs_no_font():
    assert characters("<p>x</p>") == set()
