"""The report in a real browser: Chromium opens every page with the network cut, at two widths, light and dark."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from tiny_study import build

CHROMIUM = "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
]
# Runs in a copy of the page, ahead of its security policy: records what goes wrong from the start, looks at the result.
PROBE = """
const wrong = []
addEventListener("error", (event) => wrong.push(String(event.message)))
addEventListener("securitypolicyviolation", (event) => wrong.push("blocked " + event.blockedURI))
addEventListener("load", async () => {
  await document.fonts.ready
  const all = (what) => [...document.querySelectorAll(what)]
  const size = (node) => { const box = node.getBoundingClientRect(); return [box.width, box.height] }
  const codeSwitch = document.getElementById("code-switch")
  const before = getComputedStyle(document.body).backgroundColor
  const found = {
    formulas: all("math").map(size),
    font: all("math").length === 0 || document.fonts.check("16px 'Study Math'"),
    figures: all("figure svg").filter((node) => node.closest("details:not([open])") === null).map(size),
    requests: performance.getEntriesByType("resource").map((one) => one.name).filter((name) => !/^data:/.test(name)),
    overflow: document.documentElement.scrollWidth - innerWidth,
    width: innerWidth,
    folded: all("details.code").every((node) => !node.open),
    background: before,
    recommendation: document.querySelector("#picker output")?.textContent ?? null,
  }
  codeSwitch?.click()
  found.unfolded = all("details.code").every((node) => node.open)
  document.getElementById("theme-switch").click()
  found.switched = getComputedStyle(document.body).backgroundColor
  const length = document.getElementById("pick-x")
  if (length) {
    length.value = length.options[length.options.length - 1].value
    length.dispatchEvent(new Event("change"))
    found.longest = document.querySelector("#picker output").textContent
  }
  found.wrong = wrong
  const result = document.createElement("pre")
  result.id = "probe"
  result.textContent = JSON.stringify(found)
  document.body.append(result)
})
"""


def reports() -> list[str]:
    """`tiny` is built here; a folder named in STUDY_REPORT is looked at as well."""
    return ["tiny", *filter(None, [os.environ.get("STUDY_REPORT")])]


@pytest.fixture(scope="module", params=reports())
def study(request, tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("tiny")) if request.param == "tiny" else Path(request.param)


def opened(page: Path, folder: Path, *flags: str) -> dict[str, object]:
    """What the probe found in a copy of the page, with the console's messages."""
    copy = folder / page.name
    html = page.read_text(encoding="utf-8")
    copy.write_text(html.replace("<head>", f"<head><script>{PROBE}</script>", 1), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / page.stem}", *flags, "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    result = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert result, f"{page.name} did not finish loading: {done.stderr[-500:]}"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(result[1])) | {"console": console}


@pytest.mark.parametrize(
    "flags",
    [("--window-size=390,800", "--force-dark-mode"), ("--window-size=1280,900",)],
    ids=["phone, dark", "desk, light"],
)
def test_every_page_stands_on_its_own(study, tmp_path, flags):
    dark = "--force-dark-mode" in flags
    pages = sorted(study.glob("*.html"))
    assert pages
    for page in pages:
        found = opened(page, tmp_path, *flags)
        assert found["wrong"] == found["console"] == found["requests"] == [], page.name
        assert found["overflow"] <= 0, f"{page.name} is wider than a screen of {found['width']} pixels"
        assert all(width > 0 and height > 0 for width, height in found["formulas"] + found["figures"]), page.name
        assert found["formulas"] or page.name != "index.html"
        assert found["font"], page.name
        assert found["folded"], page.name
        assert found["unfolded"], page.name
        assert found["background"] == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)"), page.name
        assert found["switched"] == ("rgb(255, 255, 255)" if dark else "rgb(20, 23, 28)"), page.name


def test_the_picker_recommends_and_follows_the_choice(study, tmp_path):
    if 'id="picker"' not in (study / "index.html").read_text(encoding="utf-8"):
        pytest.skip("this report has no measurements to choose from")
    found = opened(study / "index.html", tmp_path, "--window-size=1280,900")
    assert found["recommendation"].startswith("Take ")
    assert found["longest"].startswith("Take ")
    assert found["longest"] != found["recommendation"]


def test_formulas_stretch_with_the_embedded_font(study, tmp_path):
    """The tallest formula of the index has fractions inside brackets: it must be taller than a line of text."""
    found = opened(study / "index.html", tmp_path, "--window-size=1280,900")
    assert max(height for _, height in found["formulas"]) > 30
