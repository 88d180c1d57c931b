"""All pages of a report, and its first one: question, answers, main table, figures, method, limits, provenance.

python -m workflow.front_page synthetic PARAMETERS     (a report's name, and JSON of what it ran with, to keep and show)
"""

import json
import sys
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from lib.paths import NOTEBOOKS, REPORTS
from lib.storage import write_atomic
from study.provenance import provenance, without_folders
from study.report import MODEL_STYLE, claim_html, figure_html, load_rows, shown
from workflow.execute import notebooks_in
from workflow.pages import Part, filled, parts_of, write_page
from workflow.text import formula

COMPARISON, SCALING, TASKS = "08_comparison", "07_speed_and_memory", "09_tasks"
MAP = "09_map"
"""The figure that stands among the answers: what each mechanism is for."""
HEADLINES = ("answer", "mechanisms_agree", "counting_makes_the_logit", "order_carries", "tuned_on_other_customers")
HEADLINES += ("attention_beats_counting", "attention_beats_mean_pooling", "plain_attention_beats_mean_pooling")
"""Claims of the comparison that a reader should meet first."""
SOURCE_STUDY = "source_study"
"""How the names of claims begin that check what the study before this one published."""


def main_table(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Of each task and each of its models, in the study's order, what was measured at the end of the comparison.

    Raises ValueError when a model has two values of one metric.
    """
    final = rows[(rows["experiment"] == COMPARISON) & (rows["axis"] == "final")]
    values = final.pivot(index=["task", "model"], columns="metric", values="value")
    known = {model: f"{place:03}" for place, model in enumerate(MODEL_STYLE)}
    values = values.sort_index(key=lambda names: names.map(lambda name: known.get(name, name)))
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for (task, model), row in values.iterrows():
        tables.setdefault(task, {})[model] = row.dropna().to_dict()
    return tables


def style_of(model: str) -> dict[str, str]:
    """Label and colour of a model."""
    return MODEL_STYLE.get(model, {"label": model, "color": "currentColor"})


def read_claims(study: Path) -> list[dict[str, object]]:
    """All claims of the study in notebook order; within the comparison those that answer its question come first."""
    paths = sorted((study / "claims").glob("*.json"))
    claims = [claim for path in paths for claim in json.loads(path.read_text(encoding="utf-8"))]
    rank = {name: place for place, name in enumerate(HEADLINES)}
    return sorted(claims, key=lambda claim: (claim["notebook"], rank.get(claim["name"], len(rank))))


def read_figures(study: Path) -> list[dict[str, str]]:
    """All figures of the study in notebook order, each with the drawing itself."""
    paths = sorted((study / "figures").glob("*.json"))
    figures = [
        json.loads(path.read_text("utf-8")) | {"svg": path.with_suffix(".svg").read_text("utf-8")} for path in paths
    ]
    return sorted(figures, key=lambda figure: [int(number) for number in figure["label"].split()[-1].split(".")])


def choices(rows: pd.DataFrame, tables: dict[str, dict[str, dict[str, float]]]) -> dict[str, object]:
    """What the picker offers: every measurement along length, and the score of each model in the first table.

    A setting such as "forward, batch 8" is offered as a setting and a batch, one without a batch as it is.
    """
    swept = rows[(rows["experiment"] == SCALING) & (rows["axis"] == "length")]
    setting = swept["split"].str.extract(r"^(?P<split>.*?)(?:, batch (?P<batch>\d+))?$").fillna("-")
    swept = swept.assign(split=setting["split"].replace({"forward": "inference"}), batch=setting["batch"])
    keys = ["task", "split", "batch", "x", "metric", "model"]
    typical = swept.groupby(keys)["value"].median().reset_index()
    first = next(iter(tables.values()), {})
    scores = {model: [values.get(f"roc_auc{end}") for end in ("", "_low", "_high")] for model, values in first.items()}
    labels = {model: style_of(model)["label"] for model in typical["model"].unique()}
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
    rows, claims = load_rows(study.name, reports=study.parent), read_claims(study)
    tables = main_table(rows)
    picker = choices(rows, tables)
    figures = read_figures(study)
    answering = [figure for figure in figures if f"{figure['notebook'][:2]}_{figure['name']}" == MAP]
    drawn = [figure for figure in figures if figure not in answering]
    about_source = [claim for claim in claims if claim["name"].startswith(SOURCE_STUDY)]
    others = [claim for claim in claims if claim not in about_source]
    findings = {name: list(group) for name, group in groupby(others, lambda claim: claim["notebook"])}
    html = filled(
        "front_page.html.j2",
        title="Attention on transactions",
        study=study.name,
        number=0,
        parts=parts,
        titles={part.href.removesuffix(".html"): part.title for part in parts},
        answers=findings.pop(COMPARISON, []),
        about_tasks=findings.pop(TASKS, []),
        findings=findings,
        about_source=about_source,
        tables=tables,
        style_of=style_of,
        shown=shown,
        claim_html=claim_html,
        figure_html=figure_html,
        answering=answering,
        figures={name: list(group) for name, group in groupby(drawn, lambda each: each["notebook"])},
        record=record,
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
