"""The README's first screen, computed from a saved report: its answers in a few sentences, and the headline figure.

python -m workflow.readme reports/sberbank_sample
"""

import argparse
import json
import re
import sys
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.paths import ROOT
from lib.storage import write_atomic
from study import report
from workflow.front_page import COMPARISON, main_table, read_claims

START, END = "<!-- made by `python -m workflow.readme`, do not edit -->", "<!-- end of what is made -->"
FIGURE = Path("figures") / "headline.svg"
SENTENCES = 4
"""The first claims of the comparison: what fits on a first screen."""
COSTS = {"epoch_seconds": "seconds per epoch or fit", "peak_memory_mib": "peak memory, MiB"}
ALT = "For each model the ROC-AUC out of fold with its interval, and beside it the time and memory of training"


def headline_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy with its interval beside the cost of training, one line per model, on a white card of its own.

    Raises ValueError unless the rows hold the final values of one task.
    """
    tables = main_table(rows)
    if len(tables) != 1:
        raise ValueError(f"the headline is for one task, and the rows have {len(tables)}")
    (entries,) = tables.values()
    final = rows[(rows["experiment"] == COMPARISON) & (rows["axis"] == "final")]
    fig, (scores, *costs) = plt.subplots(1, 1 + len(COSTS), sharey=True, figsize=(9, 0.9 + 0.42 * len(entries)))
    for place, entry in enumerate(entries):
        value, low, high = entry["scores"]["roc_auc"]
        scores.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=entry["color"])
        scores.annotate(f"{value:.3f}", (value, place), xytext=(0, 6), textcoords="offset points", ha="center", size=9)
        for ax, metric in zip(costs, COSTS, strict=True):
            of_model = final[(final["model"] == entry["model"]) & (final["metric"] == metric)]
            cost = of_model["value"].sum()
            said = report.shown(float(f"{cost:.2g}")) if len(of_model) else report.NOT_MEASURED.lower()
            ax.barh(place, cost, color=entry["color"], height=0.55)
            ax.annotate(said, (cost, place), xytext=(4, -3), textcoords="offset points", size=9)
    labels = [entry["label"] for entry in entries]
    scores.set(yticks=range(len(entries)), yticklabels=labels, ylim=(len(entries) - 0.4, -0.7))
    scores.set(xlabel="ROC-AUC out of fold, 95 % interval")
    for ax, label in zip(costs, COSTS.values(), strict=True):
        ax.set(xlabel=label, xlim=(0, 1.25 * max(ax.get_xlim()[1], 1e-9)))
    for ax in (scores, *costs):
        ax.grid(axis="y", visible=False)
    return fig


def markdown(text: str) -> str:
    """The text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escape(text, quote=False))


def answers(study: Path, root: Path) -> str:
    """The sentences and the figure as Markdown, with addresses relative to the repository's root.

    Raises FileNotFoundError where the report has no provenance, ValueError where it has no comparison.
    """
    claims = [claim for claim in read_claims(study) if claim["notebook"] == COMPARISON][:SENTENCES]
    if not claims:
        raise ValueError(f"{study} has no claims of {COMPARISON}")
    record = json.loads((study / "provenance.json").read_text(encoding="utf-8"))
    data, parameters = record["data"], record["parameters"]
    lines = [f"- {report.MARKS[claim['holds']]} {markdown(str(claim['sentence']))}" for claim in claims]
    place = study.resolve().relative_to(root).as_posix()
    made = (
        f"**The answer**, computed on {data['labelled']:,} labelled customers with {data['events']:,} events"
        f" ({parameters['repeats']} × {parameters['folds']} folds; every customer is predicted by models that never saw"
        " that customer; ✓ holds, ✗ does not):"
    )
    figure = f"![{ALT}]({place}/{FIGURE.as_posix()})"
    whole = (
        f"All answers, figures and methods: [{place}/index.html]({place}/index.html), one file to download and open."
    )
    return "\n\n".join([made, "\n".join(lines), figure, whole])


def with_answers(text: str, made: str) -> str:
    """The text with what is made between its two marks. Raises ValueError unless both are there once, in order."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end or START in after or END in before + after:
        raise ValueError("the text needs its two marks, once each and in order")
    return f"{before}{START}\n{made}\n{END}{after}"


def write(study: Path, root: Path = ROOT) -> None:
    """Draw the headline figure of a saved report and put its answers into the README."""
    readme = root / "README.md"
    text = with_answers(readme.read_text(encoding="utf-8"), answers(study, root))
    with plt.rc_context():
        report.use_style()
        fig = headline_figure(report.load_rows(study.name, reports=study.parent))
        write_atomic(study / FIGURE, report.named_svg(fig, FIGURE.stem, ALT))
        plt.close(fig)
    write_atomic(readme, text)


def main(arguments: list[str] | None = None) -> int:
    """Write figure and README; exit status 1 with one line when the report lacks what they need."""
    parser = argparse.ArgumentParser(prog="python -m workflow.readme", description=main.__doc__)
    parser.add_argument("report", type=Path, help="a report's folder, such as reports/sberbank_sample")
    try:
        write(parser.parse_args(arguments).report)
    except (OSError, ValueError, KeyError) as error:
        print(f"NO README: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
