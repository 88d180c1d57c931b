"""The report in a real browser: Chromium opens every page with the network cut, in three widths, light and dark."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from tiny_study import build

from workflow.pages import source

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()
WIDTHS = {390: 844, 1280: 900, 1920: 1080}
A4 = {"width": 673, "height": 986}  # 210 by 297 mm less the margins of page.css, at 96 pixels an inch
PATIENCE = 300_000  # milliseconds, of a machine with much else to do
BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}
SIZES = "nodes => nodes.filter(n => !n.closest('details:not([open])')).map(n => n.getBoundingClientRect())"
WIDER = "() => document.documentElement.scrollWidth - innerWidth"
PAPER = "() => getComputedStyle(document.body).backgroundColor"


def reports() -> list[str]:
    """`tiny` is built here; a folder named in STUDY_REPORT is looked at as well."""
    return ["tiny", *filter(None, [os.environ.get("STUDY_REPORT")])]


@pytest.fixture(scope="module", params=reports())
def study(request, tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("tiny")) if request.param == "tiny" else Path(request.param)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, scheme: str = "light") -> Iterator[Page]:
    """The page from disk without a network. At the end: nothing was asked for, nothing was said on the console."""
    wrong = []
    context = browser.new_context(offline=True, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:80]}"))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.resolve().as_uri())
    page.evaluate("() => document.fonts.ready")
    yield page
    assert wrong == [], path.name
    assert [url[:80] for url in asked if not url.startswith("data:")] == [path.resolve().as_uri()[:80]], path.name
    context.close()


def html_files(study: Path) -> list[Path]:
    files = sorted(study.glob("*.html"))
    assert files
    return files


@pytest.mark.parametrize("scheme", BACKGROUND)
def test_every_page_stands_on_its_own(study, browser, scheme):
    for path in html_files(study):
        with opened(browser, path, scheme) as page:
            assert page.evaluate(PAPER) == BACKGROUND[scheme], path.name
            formulas = page.eval_on_selector_all(".math svg", SIZES)
            drawings = page.eval_on_selector_all("figure svg", SIZES)
            assert drawings or path.name != "index.html"
            assert all(box["width"] > 0 and box["height"] > 0 for box in formulas + drawings), path.name
            for width, height in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": height})
                assert page.evaluate(WIDER) <= 0, f"{path.name} is wider than {width} pixels"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_everyone_can_read_it(study, browser, scheme, width):
    """axe-core's rules, contrast, landmarks and alternative texts among them, with everything unfolded.

    A drawing is one picture with one description: its thousands of parts are no elements of the page and are taken out.
    """
    for path in html_files(study):
        with opened(browser, path, scheme) as page:
            page.eval_on_selector_all("details:not(.parts)", "nodes => nodes.forEach(n => { n.open = true })")
            page.eval_on_selector_all("figure svg[role=img]", "nodes => nodes.forEach(n => n.replaceChildren())")
            page.set_viewport_size({"width": width, "height": WIDTHS[width]})
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path.name}, {width} pixels: {found.generate_report()}"


def test_links_and_anchors_resolve_and_pictures_have_words(study, browser):
    targets, links = {}, []
    for path in html_files(study):
        with opened(browser, path) as page:
            targets[unquote(path.resolve().as_uri())] = set(
                page.eval_on_selector_all("[id]", "nodes => nodes.map(n => n.id)")
            )
            links += page.eval_on_selector_all("a[href]", "nodes => nodes.map(n => n.href)")
            wordless = (
                "img:not([alt]), img[alt=''], svg:not([aria-label]):not([aria-hidden]), [role=img]:not([aria-label])"
            )
            assert page.locator(wordless).count() == 0, path.name
    inside = [unquote(link).partition("#") for link in links if link.startswith("file:")]
    assert inside
    assert [link for link, _, anchor in inside if link not in targets or (anchor and anchor not in targets[link])] == []


def test_one_switch_unfolds_the_code_and_one_turns_the_light(study, browser):
    for path in html_files(study):
        with opened(browser, path) as page:
            cells, switch = page.locator("details.code"), page.locator("#code-switch")
            assert switch.is_visible() == bool(cells.count()), path.name
            for opened_cells in (cells.count(), 0) if cells.count() else ():
                switch.click()
                assert page.locator("details.code[open]").count() == opened_cells, path.name
            page.click("#theme-switch")
            assert page.evaluate(PAPER) == BACKGROUND["dark"], path.name


def test_the_picker_recommends_and_follows_every_choice(study, browser):
    with opened(browser, study / "index.html") as page:
        if not page.locator("#picker").count():
            pytest.skip("this report has no measurements to choose from")
        output, said = page.locator("#picker output"), set()
        for goal in page.eval_on_selector_all("#pick-goal option", "nodes => nodes.map(n => n.value)"):
            page.select_option("#pick-goal", goal)
            for length in page.eval_on_selector_all("#pick-x option", "nodes => nodes.map(n => n.value)"):
                page.select_option("#pick-x", length)
                assert output.locator("p").inner_text().startswith("Take "), (goal, length)
                said.add(output.inner_text())
        assert len(said) > 1
        assert page.locator("#picker label:visible").count() > 1


def test_the_picker_starts_at_long_histories_and_offers_the_three_things_that_matter(browser, tmp_path):
    study = build(tmp_path)
    with opened(browser, study / "index.html") as page:
        goals = page.eval_on_selector_all("#pick-goal option", "nodes => nodes.map(n => n.value)")
        assert goals == ["time_ms", "peak_memory_mib", "roc_auc"]
        shown = page.locator("#picker label:visible").all_inner_texts()
        assert not any(text.startswith("What is computed") for text in shown), "one value is no choice"
        said = page.locator("#picker output").inner_text()
        assert said == "Take Performer: 9.1 times faster than fused softmax at 4,096 events."


def test_claims_are_filtered_by_notebook_and_outcome(study, browser):
    with opened(browser, study / "index.html") as page:
        page.click("#claims summary")
        rows = page.locator("#claims tbody tr:visible")
        every = rows.count()
        page.select_option("[data-filter=outcome]", "unlike expected")
        some = rows.count()
        assert 0 < some < every
        notebook = rows.first.get_attribute("data-notebook")
        page.select_option("[data-filter=notebook]", notebook)
        assert 0 < rows.count() <= some
        shown = {row.get_attribute("data-notebook") for row in rows.all()}
        assert shown == {notebook}


TALLEST = {1280: 6000}
FIRST_FIGURE = {390: 1600, 1280: 1000}
OVERFLOWING = """nodes => nodes.filter(node => {
  const box = node.getBoundingClientRect()
  return box.width && !node.closest('.scroll, .formula, .study-figure, pre, .spoken, .skip, svg, details:not([open])')
    && box.right > node.parentElement.getBoundingClientRect().right + 1
}).map(node => node.outerHTML.slice(0, 90))"""


@pytest.mark.parametrize("width", FIRST_FIGURE)
def test_the_first_page_answers_at_once_and_fits(study, browser, width):
    with opened(browser, study / "index.html") as page:
        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        assert page.evaluate("document.documentElement.scrollHeight") <= TALLEST.get(width, 20_000)
        first = page.locator("figure svg").first.bounding_box()
        assert first["y"] + first["height"] <= FIRST_FIGURE[width]
        assert page.eval_on_selector_all("main *", OVERFLOWING) == []
        right = page.eval_on_selector_all("table.cards td", "nodes => nodes.map(n => n.getBoundingClientRect().right)")
        assert right
        assert max(right) <= width, "a number of the main table lies outside the screen"


WORDS = """() => {
  const copy = document.querySelector('main').cloneNode(true)
  copy.querySelectorAll('pre, code, script, #provenance, #table-parameters, .spoken').forEach(n => n.remove())
  return copy.textContent
}"""
UNWANTED = {
    "an internal name": r"\b[a-z]+_[a-z_]+\b",
    "Cyrillic": r"[\u0400-\u04ff]+",
    "a hyphen as minus": r"(?<![\w.,)–-])-\d[\d.]*",
    "another percent": r"\d%",
    "a power in code": r"\b\d+e-\d+",
}


def test_pages_use_words_and_one_way_to_print_numbers(study, browser):
    for path in html_files(study):
        with opened(browser, path) as page:
            text = page.evaluate(WORDS)
        found = {what: re.findall(pattern, text)[:5] for what, pattern in UNWANTED.items()}
        assert {what: words for what, words in found.items() if words} == {}, path.name


def test_paper_is_white_and_without_switches_even_from_a_dark_screen(study, browser):
    for path in html_files(study):
        with opened(browser, path, "dark") as page:
            page.emulate_media(media="print")
            page.set_viewport_size(A4)
            assert page.evaluate(WIDER) <= 0, f"{path.name} is wider than paper"
            assert page.evaluate(PAPER) == BACKGROUND["light"], path.name
            for gone in (".bar", ".contents", ".neighbours", "details.code:not([open])", "#picker"):
                assert page.locator(f"{gone}:visible").count() == 0, f"{path.name}: {gone}"


LOOKS = """nodes => nodes.map(node => {
  const { fill, stroke } = getComputedStyle(node)
  return [node.closest("svg").getAttribute("class"), fill, stroke]
})"""


def test_ink_follows_a_dark_page_in_drawings_and_stays_in_colour_maps(browser, tmp_path):
    """And the drawing's white ground goes; what has a colour of its own keeps it."""
    paths = "".join(
        f'<path style="{style}"/>'
        for style in ("stroke: #1b1f24", "fill: #333333", "stroke: #555555", "stroke: #d1571f")
    )
    ground = '<g><path style="fill: #ffffff"/></g>'
    drawings = "".join(f'<svg class="{kind}"><g>{ground}{paths}</g></svg>' for kind in ("drawn", "painted"))
    (tmp_path / "page.html").write_text(f"<style>{source('page.css')}</style>{drawings}")
    with opened(browser, tmp_path / "page.html", "dark") as page:
        looks = page.eval_on_selector_all("path", LOOKS)
    ink, muted, own, black = "rgb(228, 231, 235)", "rgb(160, 169, 180)", "rgb(209, 87, 31)", "rgb(0, 0, 0)"
    drawn, painted = ([tuple(look[1:]) for look in looks if look[0] == kind] for kind in ("drawn", "painted"))
    assert drawn == [("none", "none"), (ink, ink), (ink, "none"), (ink, muted), (ink, own)]
    grey = "rgb(51, 51, 51)"
    dark = [(black, "rgb(27, 31, 36)"), (grey, "none"), (black, "rgb(85, 85, 85)"), (black, own)]
    assert painted == [("rgb(255, 255, 255)", "none"), *dark]
