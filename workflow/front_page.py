"""The report's first page: question, computed answers, main table, figures, method, limits, provenance."""

import json
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from lib.storage import write_atomic
from study.provenance import provenance, without_folders
from study.report import MODEL_STYLE, claim_html, figure_html, load_rows, shown
from workflow.frame import Part, page
from workflow.text import Entry, formula

COMPARISON = "08_comparison"
SCALING = "07_speed_and_memory"
MAP = "09_map"
"""The figure that stands among the answers: what each mechanism is for."""
SCORES = {"roc_auc": "ROC-AUC", "accuracy": "Accuracy"}
HEADLINES = ("answer", "mechanisms_agree", "counting_makes_the_logit", "order_carries", "tuned_on_other_customers")
HEADLINES += ("attention_beats_counting", "attention_beats_mean_pooling", "plain_attention_beats_mean_pooling")
"""Claims of the comparison that a reader should meet first."""
SOURCE_STUDY = "source_study"
"""How the names of claims begin that check what the study before this one published."""
COSTS = {"epoch_seconds": "Seconds per epoch or fit", "peak_memory_mib": "Peak memory, MiB", "parameters": "Parameters"}
PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "matplotlib", "papermill", "snakemake")
GOALS = {"time_ms": "least time", "peak_memory_mib": "least memory", "roc_auc": "highest accuracy (ROC-AUC)"}
SECTIONS = {
    "question": "The question",
    "answers": "The answers",
    "table": "The comparison",
    "choose": "Choose for your own data",
    "figures": "The figures",
    "method": "How it was done",
    "limits": "What it does not show",
    "provenance": "Where it comes from",
}


def main_table(rows: pd.DataFrame) -> dict[str, list[dict[str, object]]]:
    """For each task, one entry per model in the study's order: its scores with intervals and its costs, None if absent.

    Raises ValueError when a model has two values of one metric.
    """
    final = rows[(rows["experiment"] == COMPARISON) & (rows["axis"] == "final")]
    values = final.set_index(["task", "model", "metric"])["value"]
    if values.index.has_duplicates:
        raise ValueError(f"{COMPARISON}: two final values for {values.index[values.index.duplicated()][0]}")
    tables = {}
    for task, of_task in final.groupby("task"):
        names = [*MODEL_STYLE, *sorted(set(of_task["model"]) - set(MODEL_STYLE))]
        present = [name for name in names if name in set(of_task["model"])]
        tables[str(task)] = [table_entry(name, values[task][name].to_dict()) for name in present]
    return tables


def table_entry(model: str, values: dict[str, float]) -> dict[str, object]:
    """One model's line of the main table."""
    scores = {name: [values.get(f"{name}{end}") for end in ("", "_low", "_high")] for name in SCORES}
    costs = {name: None if name not in values else shown(values[name]) for name in COSTS}
    style = MODEL_STYLE.get(model, {"label": model, "color": "currentColor"})
    return {"model": model, "label": style["label"], "color": style["color"], "scores": scores, "costs": costs}


def read_claims(study: Path) -> list[dict[str, object]]:
    """All claims of the study in notebook order; within the comparison those that answer its question come first."""
    paths = sorted((study / "claims").glob("*.json"))
    claims = [claim for path in paths for claim in json.loads(path.read_text(encoding="utf-8"))]
    rank = {name: place for place, name in enumerate(HEADLINES)}
    return sorted(claims, key=lambda claim: (str(claim["notebook"]), rank.get(str(claim["name"]), len(rank))))


def claim_here(claim: dict[str, object]) -> Markup:
    """The claim with an anchor of its own on this page and a link to the place that computed it."""
    html = claim_html(claim | {"anchor": f"{claim['notebook']}-{claim['anchor']}"})
    evidence = f'<a class="evidence" href="{claim["notebook"]}.html#{claim["anchor"]}">evidence</a>'
    return Markup(html.replace("</p>", f" {evidence}</p>"))


def read_figures(study: Path) -> list[dict[str, str]]:
    """All figures of the study in notebook order, each with the drawing itself."""
    paths = sorted((study / "figures").glob("*.json"))
    figures = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    drawings = [path.with_suffix(".svg").read_text(encoding="utf-8") for path in paths]
    for figure, drawing in zip(figures, drawings, strict=True):
        html = figure_html(drawing, figure | {"anchor": f"{figure['notebook']}-{figure['anchor']}"})
        made = f' <a href="{figure["notebook"]}.html#{figure["anchor"]}">How it was made</a></figcaption>'
        figure["html"] = Markup(html.replace("</figcaption>", made))
    return sorted(figures, key=lambda figure: [int(number) for number in figure["label"].split()[-1].split(".")])


def choices(rows: pd.DataFrame, tables: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    """What the picker offers: every measurement along length, and the score of each model in the first table.

    A setting such as "forward, batch 8" is offered as a setting and a batch, one without a batch as it is.
    """
    swept = rows[(rows["experiment"] == SCALING) & (rows["axis"] == "length")]
    setting = swept["split"].str.extract(r"^(?P<split>.*?)(?:, batch (?P<batch>\d+))?$").fillna("-")
    swept = swept.assign(split=setting["split"].replace({"forward": "inference"}), batch=setting["batch"])
    keys = ["task", "split", "batch", "x", "metric", "model"]
    typical = swept.groupby(keys)["value"].median().reset_index()
    scores = {entry["model"]: entry["scores"]["roc_auc"] for table in list(tables.values())[:1] for entry in table}
    labels = {model: MODEL_STYLE.get(model, {"label": model})["label"] for model in typical["model"].unique()}
    return {"rows": typical[[*keys, "value"]].to_numpy().tolist(), "scores": scores, "labels": labels, "goals": GOALS}


def flattened(settings: dict[str, object]) -> list[tuple[str, str]]:
    """Settings as name and text: one line for each plain value and for each group, such as a notebook's parameters."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            lines += flattened(value)
        elif isinstance(value, dict):
            pairs = [f"{key} = {json.dumps(inner, ensure_ascii=False)}" for key, inner in value.items()]
            lines.append((name, ", ".join(pairs) or "defaults"))
        else:
            lines.append((name.replace("_", " "), str(value)))
    return lines


def saved_settings(path: Path) -> dict[str, object]:
    """What an earlier step left as JSON; nothing where it left none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def durations(study: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory (MiB) of every step, as the workflow measured them; empty where it has not."""
    found = {}
    for path in sorted((study / "durations").glob("*.tsv")):
        row = pd.read_csv(path, sep="\t").iloc[-1]
        found[path.stem] = {"seconds": float(row["s"]), "peak_memory_mib": float(row["max_rss"])}
    return found


def write_front_page(study: Path, ran_with: dict[str, dict[str, object]], parts: list[Part]) -> None:
    """Write the study's `index.html` and `provenance.json` from what its steps saved and its notebooks ran with.

    `parameters.json` and `data.json` (source, checksum, counts) are shown where the workflow wrote them, without the
    folders in which the user keeps the data; what every step took goes to `durations.json`, because it belongs to one
    machine.
    """
    took = durations(study)
    write_atomic(study / "durations.json", json.dumps(took, indent=2) + "\n")
    given = {name: without_folders(saved_settings(study / f"{name}.json")) for name in ("parameters", "data")}
    record = provenance() | given | {"notebooks": without_folders(ran_with)}
    write_atomic(study / "provenance.json", json.dumps(record, ensure_ascii=False, indent=2) + "\n")
    rows = load_rows(study.name, reports=study.parent)
    tables = main_table(rows)
    titles = {part.href.removesuffix(".html"): part.title for part in parts}
    made = read_claims(study)
    about_source = [claim for claim in made if str(claim["name"]).startswith(SOURCE_STUDY)]
    by_notebook = groupby([claim for claim in made if claim not in about_source], key=lambda claim: claim["notebook"])
    claims = {name: [claim_here(claim) for claim in group] for name, group in by_notebook}
    picker = choices(rows, tables)
    figures = read_figures(study)
    answering = [figure for figure in figures if f"{figure['notebook'][:2]}_{figure['name']}" == MAP]
    others = [figure for figure in figures if figure not in answering]
    sections = {name: text for name, text in SECTIONS.items() if name != "choose" or picker["rows"]}
    html = page(
        "front_page.html.j2",
        title="Attention on transactions",
        study=study.name,
        number=0,
        contents=[Entry(2, anchor, text) for anchor, text in sections.items()],
        sections=sections,
        parts=parts,
        titles=titles,
        answers=claims.pop(COMPARISON, []),
        findings=claims,
        about_source=[claim_here(claim) for claim in about_source],
        tables=tables,
        score_names=SCORES,
        cost_names=COSTS,
        answering=answering,
        figures={name: list(group) for name, group in groupby(others, key=lambda each: each["notebook"])},
        record=record,
        packages=PACKAGES,
        hours=sum(step["seconds"] for step in took.values()) / 3600,
        steps=len(took),
        data=flattened(given["data"]),
        settings=flattened(given["parameters"]),
        formula=lambda latex: Markup(formula(latex, display=True)),
        picker=Markup(json.dumps(picker, ensure_ascii=False).replace("<", "\\u003c")) if picker["rows"] else None,
    )
    write_atomic(study / "index.html", html)
