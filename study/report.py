"""What a notebook hands to the report: result rows, figures, tables, claims; and reading the rows back."""

import io
import json
import math
import re
from dataclasses import dataclass, field
from html import escape
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import DisplayHandle, display
from matplotlib.figure import Figure

from lib.paths import REPORTS
from lib.storage import write_atomic
from study.mechanisms import MECHANISMS, OWN, label
from study.wording import typeset, words

COLUMNS = ["experiment", "task", "model", "seed", "split", "axis", "x", "metric", "value"]
KEYS = COLUMNS[:-1]
WORDS = ["experiment", "task", "model", "axis", "metric"]
MISSING = "-"
NOT_MEASURED = "Not measured here"
OUTCOMES = {True: "as expected", False: "unlike expected", None: NOT_MEASURED.lower()}  # of a claim
SVG_FONTS = "'DejaVu Sans',Verdana,sans-serif"  # of like widths, so that text fits where the first is not installed

# Lightness differs as well as hue, so that the three mechanisms stay apart in grey; every colour has at least three to
# one contrast on the page's white and on its dark background.
MODEL_STYLE = {
    "softmax": {"color": "#0a6ab0", "marker": "o", "label": "softmax"},
    "explicit_softmax": {"color": "#4a8fc7", "marker": "P", "label": "naive softmax"},
    "performer": {"color": "#d1571f", "marker": "s", "label": "Performer"},
    "infinite_former": {"color": "#00a37a", "marker": "^", "label": "∞-former"},
    "logistic_regression": {"color": "#77756f", "marker": "D", "label": "logistic regression"},
    "bigram_regression": {"color": "#4f8291", "marker": "d", "label": "logistic regression (code pairs)"},
    "size_regression": {"color": "#a8734a", "marker": "p", "label": "logistic regression (the networks' counts)"},
    "count_regression": {"color": "#6f8f1f", "marker": "h", "label": "logistic regression (all counts)"},
    "gradient_boosting": {"color": "#b0437f", "marker": "v", "label": "gradient boosting"},
    "mean_pooling": {"color": "#8a6fc9", "marker": "X", "label": "pooling without attention"},
    "gru": {"color": "#96802a", "marker": "*", "label": "GRU"},
    "bayes_optimum": {"color": "#7d7d7d", "marker": "_", "label": "Bayes optimum"},
}
OWN_COLOURS = ("#8430f0", "#9084fc", "#9c4860", "#3c90b4")  # apart from the three's for the colour-blind, too
OWN_MARKERS = ("<", ">", "8", "D")


def own_styles() -> dict[str, dict[str, str]]:
    """Looks of the user's mechanisms, in colours that nothing else has, unless their classes name others."""
    if not OWN:
        return {}
    from lib.attention.mechanism import load_mechanism  # torch, which pages do without

    looks = zip(OWN.items(), cycle(OWN_COLOURS), cycle(OWN_MARKERS), strict=False)
    kinds = [(model, load_mechanism(name), colour, marker) for (model, name), colour, marker in looks]
    return {
        model: {"color": kind.colour or colour, "marker": marker, "label": label(kind)}
        for model, kind, colour, marker in kinds
    }


MODEL_STYLE |= own_styles()
PLAIN = (*MECHANISMS, "mean_pooling")
MODEL_STYLE |= {
    f"{name}_plain": MODEL_STYLE[name] | {"label": f"plain {MODEL_STYLE[name]['label']}", "fillstyle": "none"}
    for name in PLAIN
}


def use_style() -> None:
    """Apply the study's figure style."""
    plt.style.use(Path(__file__).with_name("study.mplstyle"))


def slug(text: str) -> str:
    """The text as an HTML anchor: lower-case words joined by hyphens."""
    return re.sub(r"[^\w]+", "-", text.lower()).replace("_", "-").strip("-")


def six_digits(number: float) -> str:
    """Whole numbers in full, others with six significant digits; empty for a missing one."""
    if math.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"


def checked_rows(rows: pd.DataFrame, notebook: str) -> pd.DataFrame:
    """The rows as they will be stored: text columns, sorted. Raises ValueError naming the first thing that is wrong."""
    if sorted(rows.columns) != sorted(COLUMNS):
        missing, extra = sorted(set(COLUMNS) - set(rows.columns)), sorted(set(rows.columns) - set(COLUMNS))
        raise ValueError(f"{notebook}: rows need the columns {COLUMNS}; missing {missing}, not known {extra}")
    if rows.empty:
        raise ValueError(f"{notebook}: no rows to save")
    rows = rows[COLUMNS].reset_index(drop=True)
    for column in WORDS:
        wrong = [value for value in rows[column] if not isinstance(value, str) or not value.strip() or "\n" in value]
        if wrong:
            raise ValueError(f"{notebook}: {column} must be a word, not {wrong[0]!r}")
    foreign = sorted(set(rows["experiment"]) - {notebook})
    if foreign:
        raise ValueError(f"{notebook}: experiment must be {notebook!r}, not {foreign[0]!r}: one writer per file")
    value, x = (pd.to_numeric(rows[column].replace({MISSING: None}).astype("object")) for column in ("value", "x"))
    value, x = value.astype("float64"), x.astype("float64")
    unusable = ~value.map(math.isfinite)
    if unusable.any():
        row = rows[unusable].iloc[0]
        raise ValueError(
            f"{notebook}: {row['model']} {row['metric']} is {row['value']}; leave out what was not measured"
        )
    named = {column: rows[column].map(name_or_missing) for column in ("seed", "split")}
    stored = rows.assign(value=value.map(six_digits), x=x.map(six_digits), **named)
    repeated = stored.duplicated(KEYS)
    if repeated.any():
        raise ValueError(f"{notebook}: two rows for {stored[repeated].iloc[0][KEYS].to_dict()}")
    return stored.sort_values(KEYS, key=sortable, kind="stable", ignore_index=True)


def name_or_missing(value: object) -> str:
    """A seed or split as text: whole floats lose their point, missing ones become a hyphen."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def sortable(column: pd.Series) -> pd.Series:
    """Numbers by size in `seed` and `x` (a missing one first), words by spelling elsewhere."""
    if column.name in ("seed", "x"):
        return pd.to_numeric(column, errors="coerce").fillna(-math.inf)
    return column


def load_rows(study: str, reports: Path = REPORTS) -> pd.DataFrame:
    """All saved rows of a study, machine-dependent ones included. Raises FileNotFoundError where there are none."""
    kinds = dict.fromkeys([*WORDS, "seed", "split"], "str") | {"x": "float64", "value": "float64"}
    tables = [pd.read_csv(path, dtype=kinds) for path in sorted((reports / study / "tables").glob("*.csv"))]
    if not tables:
        raise FileNotFoundError(f"no result rows in {reports / study / 'tables'}")
    return pd.concat(tables, ignore_index=True)


def format_cell(value: object) -> str:
    """A table cell: four significant digits, thousands in full, a dash for a missing value."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return typeset(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")
    return str(value)


def html_table(frame: pd.DataFrame, caption: str) -> str:
    """A real table: headers in words and with scope, numbers to the right, all escaped; an index becomes columns."""
    plain_index = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    index_columns = 0 if plain_index else frame.index.nlevels
    names = [] if plain_index else [words(name or "") for name in frame.index.names]
    flat = ["·".join(map(words, name)) if isinstance(name, tuple) else words(name) for name in frame.columns]
    numeric = [False] * index_columns + [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]

    def cell(text: object, number: int, tag: str) -> str:
        kind = ' class="number"' if numeric[number] else ""
        return f"<{tag}{kind}>{escape(format_cell(text))}</{tag.split()[0]}>"

    head = "".join(cell(name, number, 'th scope="col"') for number, name in enumerate([*names, *flat]))
    body = []
    for row in frame.itertuples(index=not plain_index, name=None):
        label = [] if plain_index else list(row[0]) if index_columns > 1 else [row[0]]
        cells = [*label, *row[0 if plain_index else 1 :]]
        tags = ['th scope="row"' if number < max(index_columns, 1) else "td" for number in range(len(cells))]
        body.append("<tr>" + "".join(map(cell, cells, range(len(cells)), tags)) + "</tr>")
    anchor = f"table-{slug(caption)[:60].strip('-')}"
    return (
        f'<figure class="study-table" id="{anchor}"><figcaption>{escape(caption)}</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div></figure>"
    )


def named_svg(fig: Figure, name: str, alt: str) -> str:
    """The figure as SVG without date: its identifiers are its own, its description is inside, text stays text.

    The class tells a colour map (`painted`, which must keep its light background) from lines and bars (`drawn`).
    """
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": name}):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"'DejaVu Sans'(, sans-serif)?", SVG_FONTS, buffer.getvalue())
    svg = re.sub(r" <metadata>.*?</metadata>\n", "", svg, flags=re.DOTALL)
    painted = "<image" in svg or 'id="QuadMesh' in svg
    referenced = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in referenced else "", svg)
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    kind = "painted" if painted else "drawn"
    return svg.replace("<svg ", f'<svg class="{kind}" role="img" aria-label="{escape(alt)}" ', 1)


@dataclass(frozen=True)
class ShownFigure:
    """A figure where a notebook shows it (without a handle: nowhere), to be redrawn in its place."""

    facts: dict[str, str]
    handle: DisplayHandle | None = None

    def _ipython_display_(self) -> None:
        """Nothing: a cell that ends with the figure has shown it."""

    def redraw(self, fig: Figure, caption: str) -> None:
        """Show another figure in this one's place and close it; the report keeps the one that was saved."""
        svg = named_svg(fig, "explored", self.facts["alt"])
        plt.close(fig)
        if self.handle is not None:
            html = figure_html(svg, self.facts | {"caption": caption})
            self.handle.update({"text/html": html, "text/plain": caption}, raw=True)


@dataclass
class Page:
    """One notebook's place in one study's report; all that a `machine` notebook saves depends on the machine."""

    notebook: str
    directory: Path
    machine: bool = False
    figures: list[str] = field(default_factory=list)
    claims: list[dict[str, object]] = field(default_factory=list)

    def save_rows(self, rows: pd.DataFrame, machine: bool = False) -> None:
        """Store all rows of this notebook, replacing an earlier save; times and memory go to a file of their own."""
        path = self.directory / "tables" / f"{self.notebook}{'_machine' if machine else ''}.csv"
        write_atomic(path, checked_rows(rows, self.notebook).to_csv(index=False, lineterminator="\n"))

    def save_figure(
        self, fig: Figure, name: str, caption: str, alt: str, machine: bool = False, unmeasured: str = ""
    ) -> "ShownFigure":
        """Store the figure as SVG with its caption and description beside it, close it and show it with its number.

        `machine` marks one that shows times or memory: on another machine it looks different. `unmeasured` is why
        measurements may be missing: panels without any say so.
        """
        if not caption.strip() or not alt.strip():
            raise ValueError(f"figure {name}: a caption and a description (alt) are needed")
        caption = typeset(caption + (mark_empty_panels(fig, unmeasured) if unmeasured else ""))
        stem = f"{self.notebook.split('_')[0]}_{name}"
        svg = named_svg(fig, stem, alt)
        plt.close(fig)
        path = self.directory / "figures" / f"{stem}.svg"
        write_atomic(path, svg)
        if name not in self.figures:
            self.figures.append(name)
        label = f"Figure {int(self.notebook.split('_')[0])}.{self.figures.index(name) + 1}"
        facts = {"name": name, "label": label, "notebook": self.notebook, "anchor": f"fig-{slug(name)}"}
        facts |= {"caption": caption, "alt": alt, "machine": machine or self.machine}
        write_atomic(path.with_suffix(".json"), json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
        shown = {"text/html": figure_html(svg, facts), "text/plain": f"[{label}] {caption}"}
        return ShownFigure(facts, display(shown, raw=True, display_id=True))

    def show_table(self, frame: pd.DataFrame, caption: str, unmeasured: str = "") -> None:
        """Show the frame as a table with a caption, which says why (`unmeasured`) where the table has no line."""
        if unmeasured and frame.empty:
            caption += f" {NOT_MEASURED}: {unmeasured}."
        caption = typeset(caption)
        display({"text/html": html_table(frame, caption), "text/plain": f"{caption}\n{frame}"}, raw=True)

    def claim(
        self,
        name: str,
        holds: str,
        fails: str,
        when: bool | np.bool_,
        machine: bool = False,
        unmeasured: str = "",
        **values: object,
    ) -> None:
        """Record and show a computed sentence: `holds` when the condition is true, otherwise `fails`.

        Both sentences are formatted with `values`, which are stored with six digits, as rows are: the last ones of fits
        differ from run to run. One about times or memory (`machine`) goes to a file of its own. A claim that gives
        `unmeasured` (what it is about, and why measurements may be missing) neither holds nor fails where a value is
        missing, and says that instead.

        Raises TypeError unless `when` is a truth value, KeyError for a value a sentence lacks, ValueError for a value
        that is not finite or a name that was used.
        """
        if not isinstance(when, bool | np.bool_):
            raise TypeError(f"claim {name}: `when` must be true or false, not {when!r}")
        if name in {claim["name"] for claim in self.claims}:
            raise ValueError(f"claim {name}: already made in {self.notebook}")
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in values.items()}
        missing = {key for key, value in plain.items() if isinstance(value, float) and math.isnan(value)}
        for key, value in plain.items():
            if isinstance(value, float) and not math.isfinite(value) and not (unmeasured and key in missing):
                raise ValueError(f"claim {name}: {key} is {value}")
        try:
            sentences = {True: typeset(holds.format(**plain)), False: typeset(fails.format(**plain))}
        except (KeyError, IndexError) as error:
            raise KeyError(f"claim {name}: a sentence needs the value {error}") from error
        outcome, machine = None if missing else bool(when), machine or self.machine
        sentence = f"{NOT_MEASURED}: {unmeasured}." if missing else sentences[outcome]
        record = {"name": name, "notebook": self.notebook, "anchor": f"claim-{slug(name)}", "holds": outcome}
        stored = {
            key: float(six_digits(value)) if isinstance(value, float) else value
            for key, value in plain.items()
            if key not in missing
        }
        self.claims.append({**record, "sentence": sentence, "values": stored, "machine": machine})
        path = self.directory / "claims" / f"{self.notebook}{'_machine' if machine else ''}.json"
        alike = [claim for claim in self.claims if claim["machine"] == machine]
        write_atomic(path, json.dumps(alike, ensure_ascii=False, indent=2) + "\n")
        display({"text/html": claim_html(self.claims[-1]), "text/plain": f"{sentence} ({OUTCOMES[outcome]})"}, raw=True)


def mark_empty_panels(fig: Figure, unmeasured: str) -> str:
    """Say in every panel without data (a level alone is none) that nothing was measured; what the caption then adds."""
    empty = [ax for ax in fig.axes if not np.isfinite(ax.dataLim.intervalx).all()]
    for ax in empty:
        ax.text(0.5, 0.5, NOT_MEASURED.lower(), transform=ax.transAxes, ha="center", va="center")
        # Logarithms need limits above zero, which only data give.
        for shared, scale in ((ax.get_shared_x_axes(), ax.set_xscale), (ax.get_shared_y_axes(), ax.set_yscale)):
            if set(shared.get_siblings(ax)) <= set(empty):
                scale("linear")
    return f" {NOT_MEASURED}: {unmeasured}." if empty else ""


def figure_html(svg: str, facts: dict[str, str]) -> str:
    """The figure as it stands in a page: the drawing itself with its natural width, its number, its caption."""
    points = re.search(r'<svg [^>]*width="([\d.]+)pt"', svg)
    width = f' style="--width: {float(points[1]) * 4 / 3:.0f}px"' if points else ""
    return (
        f'<figure class="study-figure" id="{facts["anchor"]}"{width}>{svg[svg.index("<svg") :]}'
        f"<figcaption><b>{facts['label']}.</b> {escape(facts['caption'])}</figcaption></figure>"
    )


def claim_html(claim: dict[str, object]) -> str:
    """The claim's sentence, escaped, and before it whether it turned out as expected."""
    outcome = OUTCOMES[claim["holds"]]
    return (
        f'<p class="claim {outcome.split()[0]}" id="{escape(str(claim["anchor"]))}">'
        f'<span class="outcome">{outcome}</span> {escape(str(claim["sentence"]))}</p>'
    )


def begin(notebook: str, study: str, reports: Path = REPORTS, machine: bool = False) -> Page:
    """Open the notebook's place in the study's report: delete what it owns there and apply the figure style.

    Raises ValueError unless the notebook is named like `02_kernel_error` and the study is one folder's name.
    """
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", notebook):
        raise ValueError(f"a notebook is named like 02_kernel_error, not {notebook!r}")
    if not re.fullmatch(r"[\w][\w.-]*", study):
        raise ValueError(f"a study's name is one folder's name, not {study!r}")
    directory = reports / study
    number = notebook.split("_")[0]
    owned = {"tables": f"{notebook}*.csv", "claims": f"{notebook}*.json", "figures": f"{number}_*"}
    for folder, pattern in owned.items():
        for path in (directory / folder).glob(pattern):
            path.unlink()
    use_style()
    return Page(notebook, directory, machine)
