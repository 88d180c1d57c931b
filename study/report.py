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
from IPython.display import display
from matplotlib.figure import Figure

from lib.storage import REPORTS, write_atomic
from study.mechanisms import MECHANISMS, OWN, label
from study.wording import typeset, words

Truth = bool | np.bool_
COLUMNS = ["experiment", "task", "model", "seed", "split", "axis", "x", "metric", "value"]
KEYS = COLUMNS[:-1]
WORDS = ["experiment", "task", "model", "axis", "metric"]
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

    styles = {}
    for (model, name), colour, marker in zip(OWN.items(), cycle(OWN_COLOURS), cycle(OWN_MARKERS), strict=False):
        kind = load_mechanism(name)
        styles[model] = {"color": kind.colour or colour, "marker": marker, "label": label(kind)}
    return styles


MODEL_STYLE |= own_styles()
MODEL_STYLE |= {
    f"{name}_plain": MODEL_STYLE[name] | {"label": f"plain {MODEL_STYLE[name]['label']}", "fillstyle": "none"}
    for name in (*MECHANISMS, "mean_pooling")
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


def stored_rows(rows: pd.DataFrame, notebook: str) -> pd.DataFrame:
    """The rows as they are stored, in order. Raises ValueError for one that is incomplete or there twice."""
    rows = rows.assign(experiment=notebook)[COLUMNS].reset_index(drop=True)
    numbers = {column: pd.to_numeric(rows[column].astype("object")).astype("float64") for column in ("x", "value")}
    wrong = rows[~np.isfinite(numbers["value"]) | rows[WORDS].isna().any(axis=1)]
    if len(wrong):
        raise ValueError(f"{notebook}: leave out what was not measured: {wrong.iloc[0].to_dict()}")
    named = {column: rows[column].map(name_or_missing) for column in ("seed", "split")}
    stored = rows.assign(**named, **{column: number.map(six_digits) for column, number in numbers.items()})
    repeated = stored[stored.duplicated(KEYS)]
    if len(repeated):
        raise ValueError(f"{notebook}: two rows for {repeated.iloc[0][KEYS].to_dict()}")
    return stored.sort_values(KEYS, key=sortable, kind="stable", ignore_index=True)


def name_or_missing(value: object) -> str:
    """A seed or split as text: whole floats lose their point, missing ones become a hyphen."""
    if pd.isna(value):
        return "-"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def sortable(column: pd.Series) -> pd.Series:
    """Numbers by size in `seed` and `x` (a missing one first), words by spelling elsewhere."""
    if column.name in ("seed", "x"):
        return pd.to_numeric(column, errors="coerce").fillna(-math.inf)
    return column


def load_rows(study: str, reports: Path = REPORTS) -> pd.DataFrame:
    """All saved rows of a study, machine-dependent ones included."""
    kinds = dict.fromkeys([*WORDS, "seed", "split"], "str") | {"x": "float64", "value": "float64"}
    tables = sorted((reports / study / "tables").glob("*.csv"))
    return pd.concat([pd.read_csv(path, dtype=kinds) for path in tables], ignore_index=True)


def format_column(column: pd.Series) -> list[str]:
    """Cells as text: numbers with the decimals that give their median three digits, a dash for a missing value."""
    sizes = [abs(value) for value in column if isinstance(value, float) and value and math.isfinite(value)]
    written = max((len(np.format_float_positional(size, trim="-").partition(".")[2]) for size in sizes), default=0)
    decimals = min(written, max(0, 2 - math.floor(math.log10(np.median(sizes))))) if sizes else 0
    texts = ["–" if pd.isna(value) else str(value) for value in column]
    for place, value in enumerate(column):
        if isinstance(value, float | int | np.integer) and math.isfinite(value):
            texts[place] = typeset(f"{value:,.{decimals * (isinstance(value, float) and abs(value) < 1000)}f}")
    return texts


def html_table(frame: pd.DataFrame, caption: str) -> str:
    """A real table: headers in words and with scope, numbers to the right, all escaped; an index becomes columns."""
    plain = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    labels = 0 if plain else frame.index.nlevels
    flat = frame if plain else frame.reset_index(names=[name or "" for name in frame.index.names])
    head, cells = [], []
    for place, (name, column) in enumerate(flat.items()):
        kind = ' class="number"' if place >= labels and pd.api.types.is_numeric_dtype(column) else ""
        tag, scope = ("th", ' scope="row"') if place < max(labels, 1) else ("td", "")
        title = " ".join(map(words, name)).strip() if isinstance(name, tuple) else words(name)
        head.append(f'<th scope="col"{kind}>{escape(title)}</th>')
        cells.append([f"<{tag}{scope}{kind}>{escape(text)}</{tag}>" for text in format_column(column)])
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
    return (
        f'<figure class="study-table" id="table-{slug(caption)[:60].strip("-")}"><figcaption>{escape(caption)}'
        f'</figcaption><div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table><thead>'
        f"<tr>{''.join(head)}</tr></thead><tbody>{body}</tbody></table></div></figure>"
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


@dataclass
class Page:
    """One notebook's place in one study's report; all that a `machine` notebook saves depends on the machine."""

    notebook: str
    directory: Path
    machine: bool = False
    figures: list[str] = field(default_factory=list)
    claims: dict[str, dict[str, object]] = field(default_factory=dict)

    def save_rows(self, rows: pd.DataFrame, machine: bool = False) -> None:
        """Store all rows of this notebook, replacing an earlier save; times and memory go to a file of their own."""
        path = self.directory / "tables" / f"{self.notebook}{'_machine' * machine}.csv"
        write_atomic(path, stored_rows(rows, self.notebook).to_csv(index=False, lineterminator="\n"))

    def save_figure(
        self, fig: Figure, name: str, caption: str, alt: str, machine: bool = False, unmeasured: str = ""
    ) -> None:
        """Store the figure as SVG with its caption and description beside it, close it and show it with its number.

        `machine` marks one of times or memory. `unmeasured` is why these may be missing: panels without any say so.
        """
        caption = typeset(caption + (mark_empty_panels(fig, unmeasured) if unmeasured else ""))
        number = self.notebook.split("_")[0]
        svg = named_svg(fig, f"{number}_{name}", alt)
        plt.close(fig)
        path = self.directory / "figures" / f"{number}_{name}.svg"
        write_atomic(path, svg)
        self.figures += [name] * (name not in self.figures)
        label = f"Figure {int(number)}.{self.figures.index(name) + 1}"
        facts = {"name": name, "label": label, "notebook": self.notebook, "anchor": f"fig-{slug(name)}"}
        facts |= {"caption": caption, "alt": alt, "machine": machine or self.machine}
        write_atomic(path.with_suffix(".json"), json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
        display({"text/html": figure_html(svg, facts), "text/plain": f"[{label}] {caption}"}, raw=True)

    def show_table(self, frame: pd.DataFrame, caption: str, unmeasured: str = "") -> None:
        """Show the frame as a table with a caption, which says why (`unmeasured`) where the table has no line."""
        if unmeasured and frame.empty:
            caption += f" {NOT_MEASURED}: {unmeasured}."
        caption = typeset(caption)
        display({"text/html": html_table(frame, caption), "text/plain": f"{caption}\n{frame}"}, raw=True)

    def claim(
        self, name: str, holds: str, fails: str, when: Truth, machine: bool = False, unmeasured: str = "", **values
    ) -> None:
        """Record and show a computed sentence: `holds` when the condition is true, otherwise `fails`.

        Both sentences are formatted with `values`, which are stored with six digits, as rows are. One about times or
        memory (`machine`) goes to a file of its own. One that gives `unmeasured` (what it is about, and why it may not
        be measured) neither holds nor fails where a value is missing, and says that instead.
        Raises KeyError for a value a sentence lacks, ValueError for a value that is not finite.
        """
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in values.items()}
        numbers = {key: value for key, value in plain.items() if isinstance(value, float)}
        missing = {key for key, value in numbers.items() if math.isnan(value)} if unmeasured else set()
        if not all(math.isfinite(value) for key, value in numbers.items() if key not in missing):
            raise ValueError(f"claim {name}: not all of {numbers} are finite")
        sentences = [typeset(sentence.format(**plain)) for sentence in (fails, holds)]
        stored = plain | {key: float(six_digits(value)) for key, value in numbers.items() if key not in missing}
        claim = {
            "name": name,
            "notebook": self.notebook,
            "anchor": f"claim-{slug(name)}",
            "holds": None if missing else bool(when),
            "sentence": f"{NOT_MEASURED}: {unmeasured}." if missing else sentences[bool(when)],
            "values": {key: value for key, value in stored.items() if key not in missing},
            "machine": machine or self.machine,
        }
        self.claims[name] = claim
        alike = [each for each in self.claims.values() if each["machine"] == claim["machine"]]
        path = self.directory / "claims" / f"{self.notebook}{'_machine' * claim['machine']}.json"
        write_atomic(path, json.dumps(alike, ensure_ascii=False, indent=2) + "\n")
        display({"text/html": claim_html(claim), "text/plain": claim["sentence"]}, raw=True)


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
    """Open the notebook's place in the study's report: delete what it owns there and apply the figure style."""
    if not re.fullmatch(r"\w[\w.-]*", study):
        raise ValueError(f"a study's name is one folder's name, not {study!r}")
    directory = reports / study
    for owned in (f"tables/{notebook}*.csv", f"claims/{notebook}*.json", f"figures/{notebook[:2]}_*"):
        for path in directory.glob(owned):
            path.unlink()
    use_style()
    return Page(notebook, directory, machine)
