"""Pages and index: complete, without outside requests, escaped, without debris."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tiny_study import MECHANISMS, build

from study.report import load_rows
from workflow.front_page import main_table, write_front_page, write_report
from workflow.pages import formula, parts_of

LOADED = r'<(?!a )[^>]*\s(?:src|srcset|poster|data|xlink:href|href)="(?!data:|#)[^"]*"|@import|url\((?!data:|#)[^)]*\)'


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def texts(study) -> dict[str, str]:
    texts = {path.name: path.read_text(encoding="utf-8") for path in study.glob("*.html")}
    assert sorted(texts) == ["07_speed_and_memory.html", "08_comparison.html", "index.html"]
    return texts


def test_nothing_is_loaded_from_outside_and_only_the_pages_own_scripts_run(texts):
    for name, text in texts.items():
        assert re.findall(LOADED, text) == [], name
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        assert "default-src 'none'" in policy
        assert re.search(r"script-src( 'sha256-[\w+/=]+')+;", policy)
        assert text.count("<script") == (4 if name == "index.html" else 2)


@pytest.mark.parametrize("place", ["cell", "column", "row", "index", "Notes", "Time", "Lines", "shop"])
def test_what_comes_from_data_is_text_wherever_it_stands(texts, place):
    """Tables, captions, descriptions and the words inside drawings."""
    assert all("<script>alert" not in text and "&lt;script&gt;alert" in text for text in texts.values())
    assert re.search(rf"{place} &lt;script&gt;alert\(('|&#x27;)x", texts["08_comparison.html"])


def test_no_page_or_record_tells_where_the_user_keeps_the_data(study, texts):
    """`data.json` does, for the next run; it is never published."""
    shown = [path for path in study.rglob("*") if path.suffix in (".html", ".svg", ".csv")]
    for path in [*shown, study / "provenance.json"]:
        assert "/home/someone" not in path.read_text(encoding="utf-8"), path.name
    assert "my_events" in texts["index.html"]
    assert "<td>&#39;my_events&#39;</td><td>of the events</td>" in texts["08_comparison.html"]


def test_debris_is_left_out_and_results_are_kept(texts):
    page = texts["08_comparison.html"]
    for debris in ("UserWarning", "progress bar", "2001-02-03", "\x1b", "seed = 7"):
        assert debris not in page
    for kept in ("done</pre>", "<p>kept</p>", "It is not better.", "Figure 8.1."):
        assert kept in page
    assert re.findall(r'<details class="code"( open)?><summary>([^/]*)</', page) == [
        ("", "Parameters of this run"),
        (" open", "Code <code>draw"),
        ("", "Code <code>rows"),
        ("", "Code <code>conclusion"),
    ]


def test_pages_have_landmarks_one_title_and_their_neighbours(texts):
    for page in texts.values():
        assert [page.count(f"<{tag}") for tag in ("main", "header ", "footer", "h1")] == [1, 1, 1, 1]
    assert 'rel="next" href="08_comparison.html"' in texts["07_speed_and_memory.html"]
    assert 'rel="prev" href="index.html"' in texts["07_speed_and_memory.html"]
    assert 'rel="next"' not in texts["08_comparison.html"]
    assert '<a href="#the-estimate-its-error">The estimate &amp; its error</a>' in texts["08_comparison.html"]


def test_the_front_page_answers_first_and_folds_the_rest(texts):
    index = texts["index.html"]
    assert "Performer is faster than fused softmax from about 560 events and ∞-former from about 610; at" in index
    assert "at 4,096 events they are 9.1 and 8.3 times faster." in index
    assert "All three reach ROC-AUC 0.70 to 0.84." in index
    order = "headline choose table why source-study limits notebooks method claims provenance".split()
    places = [index.index(f' id="{name}"') for name in order]
    assert places == sorted(places)
    for link in ("08_comparison.html#claim-better", "07_speed_and_memory.html#claim-faster", "08_comparison.html"):
        assert f'href="{link}"' in index
    assert 'data-notebook="08_comparison" data-outcome="unlike expected"' in index


def test_the_main_table_holds_what_was_measured(study):
    models = main_table(load_rows("tiny", reports=study.parent))
    assert list(models) == [*MECHANISMS, "logistic_regression", "gradient_boosting", "mean_pooling"]
    scores = {"roc_auc": 0.77, "roc_auc_low": 0.715, "roc_auc_high": 0.814}
    assert models["performer"] == scores | {"training_seconds": 3.3, "parameters": 22000}


def test_a_report_has_pages_of_the_notebooks_that_ran_to_their_end(study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.html"))
    executed = copy / "notebooks" / "08_comparison.ipynb"
    for other in ("08_comparison.partial.ipynb", "08_comparison-Copy1.ipynb"):
        shutil.copy(executed, executed.with_name(other))
    executed.unlink()
    write_report(copy, study.parent.parent / "notebooks")
    assert sorted(path.name for path in copy.glob("*.html")) == ["07_speed_and_memory.html", "index.html"]


def test_provenance_is_saved_with_the_parameters(study):
    record = json.loads((study / "provenance.json").read_text(encoding="utf-8"))
    assert record["parameters"]["08_comparison"] == {"seed": 7}
    assert record["versions"]["torch"]
    assert record["data"]["checksum"] == "0123abc"
    assert record["processor"]


def test_a_front_page_without_measurements_says_so_and_keeps_what_was_found(study, tmp_path):
    other = shutil.copytree(study, tmp_path / "other", ignore=shutil.ignore_patterns("*.csv", "figures"))
    (other / "tables" / "01_data.csv").write_text((study / "tables" / "08_comparison.csv").read_text().splitlines()[0])
    write_front_page(other, parts_of(study.parent.parent / "notebooks"))
    text = (other / "index.html").read_text(encoding="utf-8")
    assert text.count("Not measured here.") == 3
    assert "No final rows were saved" in text
    assert "nothing to choose by" in text
    assert "07_speed_and_memory.html#claim-better" in text


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"\sum_{i} x", "<munder>"),
        (r"\begin{aligned} a & = b \\ & = c \end{aligned}", "<mtable"),
        (r"a < b", '<mo form="infix">&lt;</mo>'),
    ],
)
def test_formulas_are_said_beside_their_drawing(latex, part):
    html = formula(latex)
    assert part in html.partition('<span class="spoken"><math>')[2]
    assert html.startswith('<span class="math"><svg aria-hidden="true"')
    assert 'fill="currentColor"' in html
