"""The README's first screen is what the saved report says, and the published report holds results alone."""

import csv
import json
import re
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from tiny_study import build

from lib.storage import NOTEBOOKS, ROOT
from workflow import readme, verify

PUBLISHED, QUICK = "reports/sberbank_sample", "reports/quick"
MARKED = f"# Title\n\n{readme.START}\nold\n{readme.END}\n\nThe rest.\n"


@pytest.fixture
def study(tmp_path) -> Path:
    """A report in a repository of its own, whose comparison has intervals and costs."""
    made = build(tmp_path)
    (tmp_path / "README.md").write_text(MARKED, encoding="utf-8")
    return made


def test_the_readme_says_what_the_report_says(study, tmp_path):
    readme.write(study, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n\n{readme.START}\n")
    assert text.endswith(f"{readme.END}\n\nThe rest.\n")
    assert "90 labelled customers with 12,345 events" in text
    assert "- **Accuracy.** All three reach ROC-AUC 0.70 to 0.84." in text
    assert "(reports/tiny/figures/headline.svg)" in text
    assert (study / "figures" / "headline.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The report and README of the last commit, which a later run over the report does not change."""
    command = ["git", "archive", "HEAD", "README.md", PUBLISHED, QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no committed report, or no repository")
    folder = tmp_path_factory.mktemp("published")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_committed_readme_is_made_from_the_committed_report(published):
    before = [(published / name).read_bytes() for name in ("README.md", f"{PUBLISHED}/{readme.FIGURE}")]
    readme.write(published / PUBLISHED, published)
    assert [(published / name).read_bytes() for name in ("README.md", f"{PUBLISHED}/{readme.FIGURE}")] == before


def test_the_committed_report_is_small_and_whole(published):
    files = [path for path in (published / PUBLISHED).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8 * 2**20
    kinds = {path.suffix for path in files}
    assert kinds - {".png"} == {".html", ".json", ".csv", ".svg"}
    assert len(list((published / PUBLISHED).glob("[0-9]*.html"))) == len(list(NOTEBOOKS.glob("[0-9]*.ipynb")))
    parameters = json.loads((published / PUBLISHED / "parameters.json").read_text(encoding="utf-8"))
    assert parameters["profile"] == "default"


def test_the_committed_quick_report_holds_what_is_compared(published):
    files = {str(path.relative_to(published / QUICK)) for path in (published / QUICK).rglob("*") if path.is_file()}
    assert {"parameters.json", "provenance.json"} < files
    assert files - {"parameters.json", "provenance.json"} == verify.compared_files(published / QUICK).keys()
    notebooks = {path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")} - {"07_speed_and_memory"}
    assert {name for name in files if name.startswith("tables/")} == {f"tables/{name}.csv" for name in notebooks}
    parameters = json.loads((published / QUICK / "parameters.json").read_text(encoding="utf-8"))
    assert (parameters["profile"], parameters["source"]) == ("quick", "synthetic")


def test_the_committed_reports_have_no_customer_and_no_place(published):
    """Aggregates alone: no table has a row for a customer, and no file names a folder of the machine."""
    for path in (published / "reports").rglob("*"):
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as stream:
                columns = next(csv.reader(stream))
            assert columns == "experiment,task,model,seed,split,axis,x,metric,value".split(",")
            assert not re.search(r"\b(customer_?id|position)\b", path.read_text(encoding="utf-8")), path.name
        if path.is_file() and path.suffix != ".png":
            text = re.sub(r"(base64,|sha256-)[A-Za-z0-9+/=\s]+", "", path.read_text(encoding="utf-8"))
            assert re.findall(r"(?<![\w.:/<)*])/\w[\w.-]*/\w[\w./-]*", text) == [], path.name
