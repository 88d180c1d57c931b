"""A study of two small notebooks, as if executed, from which whole reports are built in tests."""

import ast
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from study import report
from workflow.front_page import write_report

MECHANISMS = ("softmax", "performer", "infinite_former")
OTHERS = ("mean_pooling", "logistic_regression", "gradient_boosting")
HOSTILE = "<script>alert('x')</script>"
PLACE = "/home/someone/bank/my_events"
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "papermill": {"parameters": {"seed": 7, "source": PLACE}},
}
FORMULAS = r"""## The estimate & its error

The kernel $\widehat{\mathrm{SM}}_{m}(\mathbf{q}, \mathbf{k})$ with $m$ features obeys

$$\mathbb{E}\left[ \exp\left( \mathbf{w}^{\top} \mathbf{q} - \frac{\|\mathbf{q}\|^{2}}{2} \right) \right]
= \sum_{i=1}^{m} \sqrt{x_{i}}.$$

| symbol | word |
|---|---|
| $m$ | features |

Where a < b.

### A part

Text.
"""


def shown_html(make) -> nbformat.NotebookNode:
    """What a notebook would keep of a call that displays something; outside of one, `display` prints its dictionary."""
    with redirect_stdout(io.StringIO()) as stream:
        make()
    return new_output("display_data", data=ast.literal_eval(stream.getvalue()))


def figure() -> plt.Figure:
    fig, ax = plt.subplots()
    for model in MECHANISMS:
        ax.plot([256, 1024], [1, 3], **report.MODEL_STYLE[model])
    ax.set(xlabel=HOSTILE, ylabel="time", yticks=[1, 3], yticklabels=["a", f"shop {HOSTILE} & co"])
    return fig


def rows(notebook: str, values: dict[str, float], axis: str = "final", x: float | None = None) -> pd.DataFrame:
    """One row per metric for the three mechanisms."""
    names = {"experiment": notebook, "task": "gender", "seed": "-", "split": "-", "axis": axis, "x": x}
    table = pd.DataFrame(values.items(), columns=["metric", "value"]).merge(
        pd.Series(MECHANISMS, name="model"), "cross"
    )
    scale = table["model"].map({model: 1 + n / 10 for n, model in enumerate(MECHANISMS)})
    return table.assign(value=table["value"] * scale, **names)


def speed_rows(notebook: str) -> pd.DataFrame:
    """Times and memory of a layer by length, and where the mechanisms cross fused softmax."""
    measured = {x: {"time_ms": x / 100, "peak_memory_mib": x / 50} for x in (256, 1024, 4096)}
    lengths = pd.concat([rows(notebook, values, "length", x) for x, values in measured.items()])
    softmax = lengths.query("model == 'softmax'").assign(value=lambda table: table["value"] * 10)
    crossing = {"crossover_length": 512, "crossover_low": 400, "crossover_high": 900, "pays": 1}
    crossings = rows(notebook, crossing, "against_softmax").query("model != 'softmax'")
    crossings.loc[crossings["metric"] == "pays", "value"] = 1
    others = [lengths.query("model != 'softmax'"), crossings, softmax.assign(model="explicit_softmax")]
    return pd.concat([softmax, *others]).assign(task="attention", split="forward")


def comparison_rows(notebook: str) -> pd.DataFrame:
    """Scores of the mechanisms, of attention removed and of a reference, and their differences with intervals."""
    scores = {"roc_auc": 0.7, "roc_auc_low": 0.65, "roc_auc_high": 0.74}
    of_all = [rows(notebook, scores)]
    of_all += [of_all[0].query("model == 'softmax'").assign(model=name) for name in OTHERS]
    found = {"difference": 0.01, "low": -0.02, "high": 0.04, "detectable": 0.03}
    pairs = [f"{name} − {other}" for name in MECHANISMS for other in OTHERS]
    pairs += ["softmax − performer", "softmax − infinite_former", "performer − infinite_former"]
    one = rows(notebook, found, "difference").query("model == 'softmax'")
    return pd.concat([*of_all, *(one.assign(model=pair) for pair in pairs)])


def notebook_cells(page: report.Page, title: str) -> list[nbformat.NotebookNode]:
    """Cells with every kind of output that a page shows or leaves out."""
    # A merchant's description that would be a script, in a cell, a column's name and an index.
    index = pd.Index([f"row {HOSTILE}"], name=f"index {HOSTILE}")
    table = pd.DataFrame({f"column {HOSTILE}": [f"cell {HOSTILE}"]}, index=index)
    outputs = [
        new_output("stream", name="stderr", text="UserWarning: a warning\n"),
        new_output("stream", name="stdout", text="\x1b[31mdone\x1b[0m\n"),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "progress bar"}),
        new_output("display_data", data={"text/html": "<p>kept</p>"}),
        shown_html(lambda: page.save_figure(figure(), "time", f"Time {HOSTILE}.", f"Lines {HOSTILE}.")),
        shown_html(lambda: page.show_table(table, f"Notes {HOSTILE}")),
    ]
    claims = [
        shown_html(lambda: page.claim("faster", "{who} is faster.", "no", when=True, who=f"{HOSTILE} & co")),
        shown_html(lambda: page.claim("better", "yes", "It is not better.", when=False)),
    ]
    parameters = 'study = "tiny"  # the folder\nseed = 0  # of every draw\nsource = "synthetic"  # of the events'
    timing = {"papermill": {"start_time": "2001-02-03T04:05:06"}, "execution": {"iopub.status.busy": "2001-02-03"}}
    return [
        new_markdown_cell(f"# {page.notebook[:2]} · {title}\n\nExpected: nothing.", id="question"),
        new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        new_code_cell(f"seed = 7\nsource = {PLACE!r}", id="injected", metadata={"tags": ["injected-parameters"]}),
        new_markdown_cell(FORMULAS, id="estimate"),
        new_code_cell(f"print('a < b', {HOSTILE!r})", id="draw", metadata=timing, outputs=outputs),
        new_markdown_cell("## Result", id="result"),
        new_code_cell("page.save_rows(...)", id="rows", metadata={"jupyter": {"source_hidden": True}}),
        new_code_cell("page.claim(...)", id="conclusion", metadata={"tags": ["conclusion"]}, outputs=claims),
    ]


def build(folder: Path) -> Path:
    """Write stored and executed notebooks, results, pages and index below `folder`; return the study's folder."""
    stored, reports = folder / "notebooks", folder / "reports"
    stored.mkdir()
    study = reports / "tiny"
    (study / "notebooks").mkdir(parents=True)
    for name, title in {"07_speed_and_memory": "When does it pay?", "08_comparison": "Which one, & why?"}.items():
        page = report.begin(name, "tiny", reports=reports)
        executed = new_notebook(cells=notebook_cells(page, title), metadata=METADATA)
        nbformat.write(executed, stored / f"{name}.ipynb")
        nbformat.write(executed, study / "notebooks" / f"{name}.ipynb")
    speed = report.Page("07_speed_and_memory", study)
    speed.save_rows(speed_rows(speed.notebook), machine=True)
    comparison = report.Page("08_comparison", study)
    comparison.save_rows(comparison_rows(comparison.notebook))
    comparison.save_rows(rows(comparison.notebook, {"training_seconds": 3.0, "parameters": 20000}), machine=True)
    given = {"note": HOSTILE, "source": PLACE, "08_comparison": {"seed": 7}, "folds": 3, "repeats": 1}
    (study / "parameters.json").write_text(json.dumps(given))
    found = {"source": PLACE, "checksum": "0123abc", "customers": 100, "labelled": 90, "events": 12345}
    (study / "data.json").write_text(json.dumps(found))
    write_report(study, stored)
    return study
