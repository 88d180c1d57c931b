"""Pages and index: complete, without outside requests, escaped, without debris."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tiny_study import MECHANISMS, build

from study.report import load_rows
from workflow.execute import notebooks_in
from workflow.front_page import main_table, write_front_page, write_report
from workflow.pages import in_full, parameters, parts_of, write_page


class Tags(HTMLParser):
    """Elements of a page in order, with attributes; raises when an element is closed that was not opened last."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input", "col"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def texts(study) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in study.glob("*.html")}


@pytest.fixture(scope="module")
def elements(texts) -> dict[str, list[tuple[str, dict[str, str | None]]]]:
    assert sorted(texts) == ["07_speed_and_memory.html", "08_comparison.html", "index.html"]
    return {name: Tags(text).found for name, text in texts.items()}


def test_nothing_is_loaded_from_outside(elements, texts):
    for name, found in elements.items():
        for tag, attributes in found:
            for key in ("src", "srcset", "poster", "data", "xlink:href", "href"):
                value = attributes.get(key) or ""
                inside = value.startswith(("data:", "#")) or tag == "a"
                assert not value or inside, f"{name}: <{tag} {key}={value[:60]}>"
        assert "@import" not in texts[name]
        assert not re.findall(r"url\((?!data:|#)[^)]*\)", texts[name])


def test_results_are_escaped_everywhere(texts, elements):
    for name, text in texts.items():
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text
        scripts = [attributes for tag, attributes in elements[name] if tag == "script"]
        assert len(scripts) == (4 if name == "index.html" else 2)


@pytest.mark.parametrize("place", ["cell", "column", "row", "index", "Notes", "Time", "Lines", "shop"])
def test_what_comes_from_data_is_text_wherever_it_stands(texts, place):
    """Tables, captions, descriptions and the words inside drawings."""
    quoted = (
        f"{place} &lt;script&gt;alert('x')&lt;/script&gt;",
        f"{place} &lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;",
    )
    assert any(text in texts["08_comparison.html"] for text in quoted)


def test_no_page_or_record_tells_where_the_user_keeps_the_data(study):
    """`data.json` does, for the next run; it is never published."""
    shown = [path for path in study.rglob("*") if path.suffix in (".html", ".svg", ".csv")]
    shown += [study / "provenance.json"]
    for path in shown:
        assert "/home/someone" not in path.read_text(encoding="utf-8"), path.name
    assert "my_events" in (study / "index.html").read_text(encoding="utf-8")
    assert "<td>&#39;my_events&#39;</td><td>of the events</td>" in (study / "08_comparison.html").read_text()


def test_only_the_pages_own_scripts_may_run(texts):
    for text in texts.values():
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        assert "script-src 'sha256-" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]


def test_debris_is_left_out_and_results_are_kept(texts):
    page = texts["08_comparison.html"]
    for debris in ("UserWarning", "progress bar", "Axes: title", "step 1", "step 2", "2001-02-03", "\x1b"):
        assert debris not in page
    for kept in ("done</pre>", "<p>kept</p>", "It is not better.", "Figure 8.1."):
        assert kept in page


def test_pages_have_landmarks_one_title_and_their_neighbours(elements, texts):
    for page in elements.values():
        tags = [tag for tag, _ in page]
        assert [tags.count(tag) for tag in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
    following = re.search(r'rel="next" href="([^"]+)"', texts["07_speed_and_memory.html"])
    assert following
    assert following[1] == "08_comparison.html"
    assert 'rel="prev" href="index.html"' in texts["07_speed_and_memory.html"]
    assert 'rel="next"' not in texts["08_comparison.html"]


def test_headings_that_repeat_get_anchors_of_their_own(texts):
    page = texts["08_comparison.html"]
    assert 'id="a-part"' in page
    assert 'id="a-part-2"' in page
    assert '<a href="#the-estimate-its-error">The estimate &amp; its error</a>' in page


def test_plumbing_is_folded_and_links_of_the_repository_become_text(elements, texts):
    """The table of parameters, a cell that is folded in JupyterLab as well, and the conclusion."""
    code = re.findall(r'<details class="code"( open)?><summary>([^/]*)</', texts["08_comparison.html"])
    assert code == [
        ("", "Parameters of this run"),
        (" open", "Code <code>draw"),
        ("", "Code <code>rows"),
        ("", "Code <code>conclusion"),
    ]
    assert '<a href="08_comparison.html#result">the end</a>, code and a &lt; b' in texts["07_speed_and_memory.html"]


def test_comments_are_found_behind_strings_with_a_hash_and_stay_when_the_value_is_replaced():
    cells = [
        new_code_cell('a = "#∞"  # a # b\nb = [\n    1,\n]  # list', metadata={"tags": ["parameters"]}),
        new_code_cell("b = [2]", metadata={"tags": ["injected-parameters"]}),
    ]
    assert parameters(new_notebook(cells=cells)) == {"a": ("#∞", "a # b"), "b": ([2], "list")}


def test_small_numbers_are_shown_in_full():
    assert in_full("[0.0, 1e-06, 2.5e-05, 0.1]") == "[0.0, 0.000001, 0.000025, 0.1]"


def page_of(cells: list[nbformat.NotebookNode], folder: Path) -> str:
    """The page of a notebook with these cells."""
    nbformat.write(new_notebook(cells=cells), folder / "01_any.ipynb")
    write_page(folder / "01_any.ipynb", folder / "page.html", [])
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"text/plain": "None"}, False),
        ({"text/plain": "[<matplotlib.lines.Line2D at 0x7f>]"}, False),
        ({"text/plain": "PosixPath('/a/b')"}, False),
        ({"text/plain": "0.25"}, True),
        ({"image/png": "QUJD\n"}, True),
    ],
)
def test_values_of_last_lines_are_kept_only_when_they_say_something(data, kept, tmp_path):
    output = new_output("execute_result", data=data, execution_count=1)
    html = page_of([new_code_cell("x", outputs=[output], metadata={"alt": 'a "map"'})], tmp_path)
    assert ('<pre class="printed">' in html or "<img" in html) is kept
    assert "<img" not in html or 'base64,QUJD" alt="a &#34;map&#34;"' in html


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("![a](https://x.org/a.png)", "only figures that the notebook draws"),
        (r"$\unknown x$", r"\\unknown is not known"),
    ],
)
def test_text_that_would_be_shown_wrongly_is_refused(source, why, tmp_path):
    with pytest.raises(ValueError, match=why):
        page_of([new_markdown_cell(source)], tmp_path)


def test_the_front_page_answers_first_and_folds_the_rest(texts):
    index = texts["index.html"]
    assert "Performer is faster than fused softmax from about 560 events and ∞-former from about 610; at" in index
    assert "at 4,096 events they are 9.1 and 8.3 times faster." in index
    assert "All three reach ROC-AUC 0.70 to 0.84." in index
    order = [
        "headline",
        "choose",
        "table",
        "why",
        "source-study",
        "limits",
        "notebooks",
        "method",
        "claims",
        "provenance",
    ]
    places = [index.index(f' id="{name}"') for name in order]
    assert places == sorted(places)
    for link in ("08_comparison.html#claim-better", "07_speed_and_memory.html#claim-faster", "08_comparison.html"):
        assert f'href="{link}"' in index
    assert 'data-notebook="08_comparison" data-outcome="unlike expected"' in index


def test_the_main_table_holds_what_was_measured_once(study):
    rows = load_rows("tiny", reports=study.parent)
    models = main_table(rows)
    assert list(models) == [*MECHANISMS, "logistic_regression", "gradient_boosting", "mean_pooling"]
    scores = {"roc_auc": 0.77, "roc_auc_low": 0.715, "roc_auc_high": 0.814}
    costs = {"training_seconds": 3.3, "parameters": 22000}
    assert models["performer"] == scores | costs
    twice = pd.concat([rows, rows[rows["metric"] == "roc_auc"].assign(seed="1")])
    with pytest.raises(ValueError, match="duplicate"):
        main_table(twice)


def test_a_report_has_pages_of_the_notebooks_that_ran_to_their_end(study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.html"))
    executed, stored = copy / "notebooks" / "08_comparison.ipynb", study.parent.parent / "notebooks"
    for other in ("08_comparison.partial.ipynb", "08_comparison-Copy1.ipynb"):
        shutil.copy(executed, executed.with_name(other))
    executed.unlink()
    assert [path.stem for path in notebooks_in(executed.parent)] == ["07_speed_and_memory"]
    write_report(copy, stored)
    assert sorted(path.name for path in copy.glob("*.html")) == ["07_speed_and_memory.html", "index.html"]
    (copy / "notebooks" / "07_speed_and_memory.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"notebooks/07_speed_and_memory\.ipynb: "):
        write_report(copy, stored)


def test_provenance_is_saved_with_the_parameters(study):
    record = json.loads((study / "provenance.json").read_text(encoding="utf-8"))
    assert record["parameters"]["08_comparison"] == {"seed": 7}
    assert record["notebooks"]["08_comparison"] == {"study": "tiny", "seed": 7, "source": "my_events"}
    assert record["versions"]["torch"]
    assert record["data"]["checksum"] == "0123abc"
    assert record["processor"]


def test_a_front_page_without_measurements_says_so_and_keeps_what_was_found(study, tmp_path):
    other = tmp_path / "other"
    for folder in ("tables", "claims"):
        (other / folder).mkdir(parents=True)
    (other / "tables" / "01_data.csv").write_text((study / "tables" / "08_comparison.csv").read_text().splitlines()[0])
    shutil.copy(study / "claims" / "07_speed_and_memory.json", other / "claims")
    write_front_page(other, {}, parts_of(study.parent.parent / "notebooks"))
    text = (other / "index.html").read_text(encoding="utf-8")
    assert text.count("Not measured here.") == 3
    assert "No final rows were saved" in text
    assert "nothing to choose by" in text
    assert "07_speed_and_memory.html#claim-better" in text
