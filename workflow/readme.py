"""The README's first screen, computed from a saved report: its answers in a few sentences, and the headline figure.

python -m workflow.readme reports/sberbank_sample
"""

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
from workflow.front_page import COMPARISON, MAP, TASKS, main_table, read_claims, style_of
from workflow.pages import filled

START, END = "<!-- made by `python -m workflow.readme`, do not edit -->", "<!-- end of what is made -->"
FIGURE = Path("figures") / "headline.svg"
SENTENCES = {COMPARISON: 3, TASKS: 5}
"""How many claims of a notebook stand there, the first ones: what fits on a first screen."""
COSTS = {"epoch_seconds": "seconds per epoch or fit", "peak_memory_mib": "peak memory, MiB"}
ALT = "For each model the ROC-AUC out of fold with its interval, and beside it the time and memory of training"


def headline_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy with its interval beside the cost of training, one line per model, on a white card of its own.

    Raises ValueError unless the rows hold the final values of one task.
    """
    (models,) = main_table(rows).values()
    fig, (scores, *costs) = plt.subplots(1, 1 + len(COSTS), sharey=True, figsize=(9, 0.9 + 0.42 * len(models)))
    for place, (model, found) in enumerate(models.items()):
        value, low, high = (found[f"roc_auc{end}"] for end in ("", "_low", "_high"))
        color = style_of(model)["color"]
        scores.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color)
        scores.annotate(f"{value:.3f}", (value, place), xytext=(0, 6), textcoords="offset points", ha="center", size=9)
        for ax, metric in zip(costs, COSTS, strict=True):
            cost = found.get(metric, 0)
            said = report.shown(float(f"{cost:.2g}")) if metric in found else report.NOT_MEASURED.lower()
            ax.barh(place, cost, color=color, height=0.55)
            ax.annotate(said, (cost, place), xytext=(4, -3), textcoords="offset points", size=9)
    labels = [style_of(model)["label"] for model in models]
    scores.set(yticks=range(len(models)), yticklabels=labels, ylim=(len(models) - 0.4, -0.7))
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
    """The sentences and the figure as Markdown, with addresses relative to the repository's root."""
    saved = read_claims(study)
    claims = [of for name, most in SENTENCES.items() for of in [c for c in saved if c["notebook"] == name][:most]]
    drawn = study / "figures" / f"{MAP}.json"
    record = json.loads((study / "provenance.json").read_text(encoding="utf-8"))
    given = {"data": record["data"], "parameters": record["parameters"], "alt": ALT, "figure": FIGURE.as_posix()}
    given["map_figure"] = FIGURE.with_name(f"{MAP}.svg").as_posix()
    given["map"] = json.loads(drawn.read_text(encoding="utf-8"))["alt"] if drawn.exists() else None
    given["answers"] = [(report.MARKS[claim["holds"]], markdown(str(claim["sentence"]))) for claim in claims]
    return filled("readme.md.j2", place=study.resolve().relative_to(root).as_posix(), **given)


def write(study: Path, root: Path = ROOT) -> None:
    """Draw the headline figure and put the answers between the README's marks. Raises ValueError unless it has both."""
    readme = root / "README.md"
    before, after = readme.read_text(encoding="utf-8").split(START)
    _, after = after.split(END)
    with plt.rc_context():
        report.use_style()
        fig = headline_figure(report.load_rows(study.name, reports=study.parent))
        write_atomic(study / FIGURE, report.named_svg(fig, FIGURE.stem, ALT))
        plt.close(fig)
    write_atomic(readme, f"{before}{START}\n{answers(study, root)}\n{END}{after}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
