"""What notebooks save: schema, bytes, figures, tables, claims."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study import report

NOTEBOOK = "02_kernel_error"


@pytest.fixture
def page(tmp_path):
    return report.begin(NOTEBOOK, "tiny", reports=tmp_path)


def example_rows() -> pd.DataFrame:
    names = {"task": "gaussian", "split": "-", "axis": "features", "metric": "relative_error"}
    rows = [(model, seed, x) for model in ("orthogonal", "independent") for seed in (10, 2) for x in (256, 16)]
    frame = pd.DataFrame(rows, columns=["model", "seed", "x"]).assign(**names)
    return frame.assign(value=frame["seed"] / frame["x"] / 3)


def saved_text(page: report.Page, name: str) -> str:
    return (page.directory / name).read_bytes().decode("utf-8")


def claims_of(page: report.Page) -> list[dict]:
    return json.loads(saved_text(page, "claims/02_kernel_error.json"))


def test_rows_are_sorted_by_size_with_six_digits_whatever_their_order_and_kind(page):
    page.save_rows(example_rows())
    text = saved_text(page, "tables/02_kernel_error.csv")
    lines = text.split("\n")
    assert lines[0] == "experiment,task,model,seed,split,axis,x,metric,value"
    assert lines[1] == "02_kernel_error,gaussian,independent,2,-,features,16,relative_error,0.0416667"
    numbers = [(line.split(",")[3], line.split(",")[6]) for line in lines[1:5]]
    assert numbers == [("2", "16"), ("2", "256"), ("10", "16"), ("10", "256")]
    assert lines[9:] == [""]
    page.save_rows(example_rows().sample(frac=1, random_state=0).astype({"seed": float}))
    assert saved_text(page, "tables/02_kernel_error.csv") == text
    page.save_rows(example_rows().iloc[:1].assign(seed=None, split=np.nan, x=None, value=123456789.0))
    last = saved_text(page, "tables/02_kernel_error.csv").splitlines()[1]
    assert last == "02_kernel_error,gaussian,orthogonal,-,-,features,,relative_error,123456789"


def test_what_is_saved_can_be_read_back(page, tmp_path):
    page.save_rows(example_rows())
    page.save_rows(example_rows().assign(metric="latency_ms", value=0.5), machine=True)
    rows = report.load_rows("tiny", reports=tmp_path)
    assert rows.groupby("metric").size().to_dict() == {"latency_ms": 8, "relative_error": 8}
    assert rows["seed"].unique().tolist() == ["2", "10"]
    assert rows["x"].tolist()[:2] == [16.0, 256.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.drop(columns="axis"), "axis"),
        (lambda rows: rows.assign(model=None), "leave out what was not measured"),
        (lambda rows: rows.assign(value=np.nan), "leave out what was not measured.*relative_error"),
        (lambda rows: rows.assign(value=np.inf), "leave out"),
        (lambda rows: rows.assign(value="fast"), "fast"),
        (lambda rows: pd.concat([rows, rows.iloc[:1].assign(value=7.0)]), "two rows for"),
        (lambda rows: rows.assign(x=[1 + 1e-9 * n for n in range(len(rows))]), "two rows for"),
    ],
)
def test_wrong_rows_are_refused_and_nothing_is_written(page, change, reason):
    with pytest.raises((KeyError, ValueError), match=reason):
        page.save_rows(change(example_rows()))
    assert not (page.directory / "tables").exists()


def test_begin_deletes_what_the_notebook_owns_and_nothing_else(page, tmp_path):
    other = report.begin("03_continuous_memory", "tiny", reports=tmp_path)
    for place in (page, other):
        place.save_rows(example_rows())
        place.save_rows(example_rows(), machine=True)
        place.save_figure(plt.figure(), "empty", "Nothing.", "An empty figure.")
        place.claim("made", "yes", "no", when=True)
    report.begin(NOTEBOOK, "tiny", reports=tmp_path)
    left = sorted(str(path.relative_to(tmp_path / "tiny")) for path in (tmp_path / "tiny").rglob("*.*"))
    assert left == [
        "claims/03_continuous_memory.json",
        "figures/03_empty.json",
        "figures/03_empty.svg",
        "tables/03_continuous_memory.csv",
        "tables/03_continuous_memory_machine.csv",
    ]
    for study in ("../tiny", ""):
        with pytest.raises(ValueError, match="one folder"):
            report.begin(NOTEBOOK, study, reports=tmp_path)


def drawn_figure() -> plt.Figure:
    fig, ax = plt.subplots()
    ax.plot([1, 10, 100], [3, 1, 2], **report.MODEL_STYLE["performer"])
    ax.set(xscale="log", xlabel="length")
    return fig


def test_a_figure_is_the_same_bytes_each_time_and_shares_no_identifiers(page):
    page.save_figure(drawn_figure(), "time", "Time against length.", "A line.")
    first = saved_text(page, "figures/02_time.svg")
    page.save_figure(drawn_figure(), "time", "Time against length.", "A line.")
    assert saved_text(page, "figures/02_time.svg") == first
    assert "date" not in first
    assert ">length</text>" in first
    page.save_figure(drawn_figure(), "other", "Another.", "A line.")
    texts = [first, saved_text(page, "figures/02_other.svg")]
    clips = [set(part.split('"')[0] for part in text.split('<clipPath id="')[1:]) for text in texts]
    assert clips[0]
    assert not clips[0] & clips[1]
    assert plt.get_fignums() == []


def test_figures_are_numbered_and_described_and_colour_maps_are_told_from_drawings(page, capsys):
    page.save_figure(drawn_figure(), "time", "Time.", "A line.")
    fig, ax = plt.subplots()
    ax.pcolormesh(np.eye(3))
    page.save_figure(fig, "memory_use", "Memory < 100%.", 'A "flat" map.')
    page.save_figure(drawn_figure(), "time", "Time, again.", "A line.")
    labels = {path.stem: json.loads(path.read_text()) for path in (page.directory / "figures").glob("*.json")}
    assert labels["02_time"]["label"] == "Figure 2.1"
    assert labels["02_memory_use"] == {
        "name": "memory_use",
        "label": "Figure 2.2",
        "notebook": NOTEBOOK,
        "anchor": "fig-memory-use",
        "caption": "Memory < 100\u00a0%.",
        "alt": 'A "flat" map.',
        "machine": False,
    }
    svg = saved_text(page, "figures/02_memory_use.svg")
    assert '<svg class="painted" role="img" aria-label="A &quot;flat&quot; map."' in svg
    assert '<svg class="drawn"' in saved_text(page, "figures/02_time.svg")
    assert "Memory &lt; 100\u00a0%.</figcaption>" in capsys.readouterr().out.replace("\\xa0", "\u00a0")


@pytest.mark.parametrize(("holds", "sentence"), [(True, "7.0 is larger than 3."), (np.bool_(False), "7 is not.")])
def test_a_claim_says_what_was_found(page, holds, sentence):
    page.claim("larger", "{a:.1f} is larger than {b}.", "{a:.0f} is not.", when=holds, a=np.float32(7), b=3)
    (claim,) = claims_of(page)
    assert (claim["sentence"], claim["holds"]) == (sentence, bool(holds))
    assert claim["values"] == {"a": 7.0, "b": 3}
    assert claim["anchor"] == "claim-larger"


def test_claims_are_escaped_where_they_are_shown_and_the_last_digits_of_a_fit_change_none(page, capsys):
    for name, slope in (("one", -0.5323218236709916), ("two", -0.5323218236709919)):
        page.claim(name, "{slope:.2f} of {who}", "no", when=True, slope=slope, who="<b>x</b>")
    one, two = claims_of(page)
    assert one["values"] == two["values"] == {"slope": -0.532322, "who": "<b>x</b>"}
    assert "−0.53 of &lt;b&gt;x&lt;/b&gt;" in capsys.readouterr().out


def test_what_could_not_be_measured_neither_holds_nor_fails(page, capsys):
    words = {"when": False, "unmeasured": "the growth (beyond its budget)", "count": 3}
    page.claim("growth", "{slope:.2f} of {count}", "no", slope=float("nan"), **words)
    page.claim("known", "{slope:.2f} of {count}", "no", slope=1.0, **words)
    growth, known = claims_of(page)
    assert (growth["holds"], growth["values"]) == (None, {"count": 3})
    assert growth["sentence"] == "Not measured here: the growth (beyond its budget)."
    assert (known["holds"], known["sentence"]) == (False, "no")
    assert 'class="claim not"' in capsys.readouterr().out


def test_claims_that_cannot_be_trusted_are_refused(page):
    with pytest.raises(KeyError, match="b"):
        page.claim("x", "{a}", "{b}", when=True, a=1)
    for unmeasured, value in (("", np.nan), ("", np.inf), ("the growth", np.inf)):
        with pytest.raises(ValueError, match="finite"):
            page.claim("x", "{a}", "{a}", when=True, a=value, unmeasured=unmeasured)
    assert not (page.directory / "claims").exists()


def test_a_figure_or_table_without_measurements_says_so(page, capsys):
    fig, (full, level, empty) = plt.subplots(1, 3)
    full.plot([1, 2], [1, 2])
    level.axhline(1.0)
    empty.errorbar([], [], yerr=np.empty((2, 0)))
    page.save_figure(fig, "time", "Time.", "Lines.", unmeasured="beyond its budget")
    assert [len(ax.texts) for ax in (full, level, empty)] == [0, 1, 1]
    caption = "Time. Not measured here: beyond its budget."
    assert json.loads(saved_text(page, "figures/02_time.json"))["caption"] == caption
    page.save_figure(drawn_figure(), "whole", "Time.", "A line.", unmeasured="beyond its budget")
    assert json.loads(saved_text(page, "figures/02_whole.json"))["caption"] == "Time."
    capsys.readouterr()
    page.show_table(pd.DataFrame({"a": []}), "Time.", unmeasured="beyond its budget")
    assert f"{caption}</figcaption>" in capsys.readouterr().out


def test_tables_escape_and_mark_headers():
    frame = pd.DataFrame({"value": [0.123456, np.nan, -0.0212], "note": ["<b>", None, "c"]}, index=list("uvw"))
    html = report.html_table(frame.rename_axis("model"), "A & B")
    assert '<th scope="col">model</th><th scope="col" class="number">value</th><th scope="col">note</th>' in html
    assert '<tr><th scope="row">u</th><td class="number">0.1235</td><td>&lt;b&gt;</td></tr>' in html
    assert '<tr><th scope="row">v</th><td class="number">–</td><td>–</td></tr>' in html
    assert '<td class="number">−0.0212</td>' in html
    assert "<figcaption>A &amp; B</figcaption>" in html
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["model", "seed"])
    assert report.html_table(pd.DataFrame({"roc_auc": [1, 2]}, index=index), "Grouped").count('scope="row"') == 4
    assert '<th scope="row" class="number">1</th>' in report.html_table(pd.DataFrame({"a": [1, 2]}), "Plain")
    grouped = pd.DataFrame([[1.5]], columns=pd.MultiIndex.from_tuples([("time_ms", "training")]))
    assert '<th scope="col" class="number">time ms training</th>' in report.html_table(grouped.rename_axis("a"), "Two")


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ([0.8, 0.7914, 0.8314], ["0.800", "0.791", "0.831"]),
        ([522213.4, 1121.0, 263.1], ["522,213", "1,121", "263"]),
        ([0.008101, -0.02905, 0.0], ["0.0081", "−0.0290", "0.0000"]),
        ([0.001, -0.03, 0.0], ["0.001", "−0.030", "0.000"]),
        ([2.0, 1.061, 2.5, 256.0, 3000.0], ["2.00", "1.06", "2.50", "256.00", "3,000"]),
        ([7560, 12], ["7,560", "12"]),
        ([3.0, np.nan, 16384.0], ["3", "–", "16,384"]),
        ([-1.85, np.inf, -0.3439], ["−1.85", "inf", "−0.34"]),
    ],
)
def test_numbers_of_a_column_have_the_same_decimals(column, told):
    assert report.format_column(pd.Series(column)) == told


def luminance(colour: str) -> float:
    linear = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in linear]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_model_colours_stand_out_on_white_and_on_the_dark_page():
    """Three to one is what the accessibility guidelines (WCAG 2.1, 1.4.11) ask of graphics."""
    for style in report.MODEL_STYLE.values():
        light = luminance(style["color"])
        assert (1.0 + 0.05) / (light + 0.05) >= 3
        assert (light + 0.05) / (luminance("#14171c") + 0.05) >= 3
    for keys in (("color", "fillstyle"), ("marker", "fillstyle"), ("label",)):
        assert len({tuple(map(style.get, keys)) for style in report.MODEL_STYLE.values()}) == len(report.MODEL_STYLE)
