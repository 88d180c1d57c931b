"""All pages of a report, and its first one: verdict, headline figure, chooser, table, why, limits, notebooks, claims.

python -m workflow.front_page synthetic PARAMETERS     (a report's name, and JSON of what it ran with, to keep and show)
"""

import json
import sys
from pathlib import Path

import pandas as pd

from lib.storage import NOTEBOOKS, REPORTS, write_atomic
from study.headline import PANELS, headline, verdict_sentences
from study.mechanisms import MECHANISMS
from study.provenance import provenance, without_folders
from study.report import MODEL_STYLE, OUTCOMES, figure_html, load_rows
from study.speed.figures import label_of
from workflow.pages import filled, formula, parts_of, write_page


def main_table(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of each model, in the study's order, what was measured at the end of the comparison."""
    final = rows[(rows["experiment"] == "08_comparison") & (rows["axis"] == "final")]
    values = final.pivot(index="model", columns="metric", values="value")
    order = dict.fromkeys([*MECHANISMS, *MODEL_STYLE])
    return {model: values.loc[model].dropna().to_dict() for model in order if model in values.index}


def choices(rows: pd.DataFrame, table: dict[str, dict[str, float]]) -> dict[str, object]:
    """What the chooser offers: every measurement along length, and the score of each model of the table."""
    swept = rows[(rows["experiment"] == "07_speed_and_memory") & (rows["axis"] == "length")]
    swept = swept.assign(split=swept["split"].replace("forward", "inference"))
    typical = swept.groupby(["task", "split", "x", "metric", "model"])["value"].median().reset_index()
    scores = {model: [values.get(f"roc_auc{end}") for end in ("", "_low", "_high")] for model, values in table.items()}
    labels = {model: label_of(model) for model in typical["model"].unique()}
    return {"rows": typical.to_numpy().tolist(), "scores": scores, "labels": labels}


def write_front_page(study: Path, parts: list[dict[str, object]]) -> None:
    """Write the study's `index.html` and `provenance.json`, which hides the folders where the user keeps the data."""
    saved = {name: json.loads((study / f"{name}.json").read_text("utf-8")) for name in ("parameters", "data")}
    record = provenance() | without_folders(saved)
    write_atomic(study / "provenance.json", json.dumps(record, ensure_ascii=False, indent=2) + "\n")
    rows = load_rows(study.name, reports=study.parent)
    table = main_table(rows)
    figures = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((study / "figures").glob("*.json"))}
    claims = [json.loads(path.read_text("utf-8")) for path in sorted((study / "claims").glob("*.json"))]
    html = filled(
        "front_page.html.j2",
        study=study.name,
        part={"number": 0, "title": "Attention on transactions"},
        parts=parts,
        verdict=verdict_sentences(rows, record),
        headline=[headline(rows, [part], f"headline-{part}", about) for part, (_, _, about) in PANELS.items()],
        table=table,
        claims=[claim for of_notebook in claims for claim in of_notebook],
        figures=figures,
        drawing=lambda name: (study / "figures" / f"{name}.svg").read_text(encoding="utf-8"),
        style=MODEL_STYLE,
        outcomes=OUTCOMES,
        figure_html=figure_html,
        record=record,
        durations=[pd.read_csv(path, sep="\t")["s"].iloc[0] for path in (study / "durations").glob("*.tsv")],
        formula=formula,
        picker=choices(rows, table),
    )
    write_atomic(study / "index.html", html)


def write_report(study: Path, notebooks: Path = NOTEBOOKS) -> None:
    """All pages of a study: those of the notebooks that ran to their end, and its front page."""
    parts = parts_of(notebooks)
    for part in parts:
        if (study / "notebooks" / f"{part['name']}.ipynb").exists():
            write_page(study, part, parts)
    write_front_page(study, parts)


def main() -> None:
    """Keep the study's parameters, then write its pages."""
    write_atomic(REPORTS / sys.argv[1] / "parameters.json", f"{sys.argv[2]}\n")
    write_report(REPORTS / sys.argv[1])


if __name__ == "__main__":
    main()
