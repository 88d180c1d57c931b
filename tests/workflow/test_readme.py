"""The README's first screen is what the saved report says, and the published report holds results alone."""

import csv
import json
import re
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from tiny_study import build

from lib.paths import NOTEBOOKS, ROOT
from study.report import load_rows
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
    assert "computed on 90 labelled customers with 12,345 events (1 × 3 folds" in text
    assert "- ✗ It is not better." in text
    assert "(reports/tiny/figures/headline.svg)" in text
    assert (study / "figures" / "headline.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_a_second_time_gives_the_same_bytes(study, tmp_path):
    made = []
    for _ in range(2):
        readme.write(study, tmp_path)
        made.append([(tmp_path / "README.md").read_bytes(), (study / readme.FIGURE).read_bytes()])
    assert made[0] == made[1]


def test_sentences_are_text_in_markdown(study, tmp_path):
    assert readme.markdown("a_b *c* <i> [d](e) `f`") == r"a\_b \*c\* &lt;i&gt; \[d\](e) \`f\`"
    assert "<script>" not in readme.answers(study, tmp_path)


def test_the_figure_shows_every_model_on_a_card_that_is_light_everywhere(study):
    fig = readme.headline_figure(load_rows("tiny", reports=study.parent))
    scores, seconds, _memory = fig.axes
    assert [label.get_text() for label in scores.get_yticklabels()] == ["softmax", "Performer", "∞-former"]
    (means, *_), *_ = scores.containers
    assert means.get_xdata().tolist() == [0.7]
    assert [bar.get_width() for bar in seconds.patches] == pytest.approx([3.0, 3.3, 3.6])
    assert fig.get_facecolor() == (1, 1, 1, 1)
    readme.plt.close(fig)


@pytest.mark.parametrize(
    "text", ["no marks", f"{readme.END}{readme.START}", f"{MARKED}{readme.START}", f"{MARKED}{readme.END}"]
)
def test_a_readme_without_its_marks_is_left_alone(text):
    with pytest.raises(ValueError, match="two marks"):
        readme.with_answers(text, "new")


def test_a_report_without_a_comparison_gets_one_line(study, tmp_path, capsys):
    shutil.rmtree(study / "claims")
    assert readme.main([str(study)]) == 1
    assert re.fullmatch(r"NO README: .*has no claims of 08_comparison\n", capsys.readouterr().err)


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
    assert kinds == {".html", ".json", ".csv", ".svg"}
    assert len(list((published / PUBLISHED).glob("[0-9]*.html"))) == 8
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
        if path.is_file():
            text = re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", path.read_text(encoding="utf-8"))
            assert re.findall(r"(?<![\w.:/<)*])/\w[\w.-]*/\w[\w./-]*", text) == [], path.name
