"""All pages of a report, and its first one: verdict, headline figure, chooser, table, why, limits, notebooks, claims.

python -m workflow.front_page synthetic PARAMETERS     (a report's name, and JSON of what it ran with, to keep and show)
"""

import json
import sys
from datetime import date
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from lib.paths import NOTEBOOKS, REPORTS
from lib.storage import write_atomic
from study.headline import headline_parts, verdict_sentences
from study.mechanisms import MECHANISMS
from study.provenance import provenance, without_folders
from study.report import MODEL_STYLE, OUTCOMES, figure_html, load_rows
from study.speed.figures import label_of
from workflow.execute import notebooks_in
from workflow.pages import Part, filled, parts_of, write_page
from workflow.text import formula

COMPARISON, SCALING = "08_comparison", "07_speed_and_memory"


def main_table(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of each model, in the study's order, what was measured at the end of the comparison.

    Raises ValueError when a model has two values of one metric.
    """
    final = rows[(rows["experiment"] == COMPARISON) & (rows["axis"] == "final")]
    values = final.pivot(index="model", columns="metric", values="value")
    order = dict.fromkeys([*MECHANISMS, *MODEL_STYLE])
    return {model: values.loc[model].dropna().to_dict() for model in order if model in values.index}


def read_all(folder: Path) -> list[dict]:
    """What the JSON files of a folder hold, in the order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def choices(rows: pd.DataFrame, table: dict[str, dict[str, float]]) -> dict[str, object]:
    """What the chooser offers: every measurement along length, and the score of each model of the table."""
    swept = rows[(rows["experiment"] == SCALING) & (rows["axis"] == "length")]
    swept = swept.assign(split=swept["split"].replace("forward", "inference"))
    keys = ["task", "split", "x", "metric", "model"]
    typical = swept.groupby(keys)["value"].median().reset_index()
    scores = {model: [values.get(f"roc_auc{end}") for end in ("", "_low", "_high")] for model, values in table.items()}
    labels = {model: label_of(model) for model in typical["model"].unique()}
    return {"rows": typical[[*keys, "value"]].to_numpy().tolist(), "scores": scores, "labels": labels}


def durations(study: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory (MiB) of every step, as the workflow measured them; empty where it has not."""
    last = {path.stem: pd.read_csv(path, sep="\t").iloc[-1] for path in sorted((study / "durations").glob("*.tsv"))}
    return {name: {"seconds": float(row["s"]), "peak_memory_mib": float(row["max_rss"])} for name, row in last.items()}


def write_front_page(study: Path, ran_with: dict[str, dict[str, object]], parts: list[Part]) -> None:
    """Write the study's `index.html` and `provenance.json` from what its steps saved and its notebooks ran with.

    `parameters.json` and `data.json` are shown without the folders in which the user keeps the data; what every step
    took goes to `durations.json`, because it belongs to one machine.
    """
    took = durations(study)
    write_atomic(study / "durations.json", json.dumps(took, indent=2) + "\n")
    saved = {name: study / f"{name}.json" for name in ("parameters", "data")}
    given = {name: json.loads(path.read_text("utf-8")) if path.exists() else {} for name, path in saved.items()}
    record = provenance() | without_folders(given) | {"notebooks": without_folders(ran_with)}
    write_atomic(study / "provenance.json", json.dumps(record, ensure_ascii=False, indent=2) + "\n")
    rows = load_rows(study.name, reports=study.parent)
    table = main_table(rows)
    picker = choices(rows, table)
    figures = {f"{facts['notebook'][:2]}_{facts['name']}": facts for facts in read_all(study / "figures")}
    html = filled(
        "front_page.html.j2",
        title="Attention on transactions",
        study=study.name,
        number=0,
        parts=parts,
        verdict=verdict_sentences(rows, record),
        headline=headline_parts(rows),
        table=table,
        claims=[claim for saved in read_all(study / "claims") for claim in saved],
        figures=figures,
        drawing=lambda name: (study / "figures" / f"{name}.svg").read_text(encoding="utf-8"),
        style=MODEL_STYLE,
        outcomes=OUTCOMES,
        figure_html=figure_html,
        record=record,
        day=f"{date.fromisoformat(record['date']):%-d %B %Y}",
        hours=sum(step["seconds"] for step in took.values()) / 3600,
        steps=len(took),
        json=lambda value: json.dumps(value, ensure_ascii=False),
        formula=lambda latex: Markup(formula(latex, display=True)),
        picker=Markup(json.dumps(picker, ensure_ascii=False).replace("<", "\\u003c")) if picker["rows"] else None,
    )
    write_atomic(study / "index.html", html)


def write_report(study: Path, notebooks: Path = NOTEBOOKS) -> None:
    """All pages of a study: those of the notebooks that ran to their end, and its front page."""
    parts, ran_with = parts_of(notebooks), {}
    for path in notebooks_in(study / "notebooks"):
        try:
            ran_with[path.stem] = write_page(path, study / f"{path.stem}.html", parts)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    write_front_page(study, ran_with, parts)


def main() -> None:
    """Keep the study's parameters, then write its pages."""
    write_atomic(REPORTS / sys.argv[1] / "parameters.json", f"{sys.argv[2]}\n")
    write_report(REPORTS / sys.argv[1])


if __name__ == "__main__":
    main()
