"""The notebooks that measure end on a machine that can measure nearly nothing, and say what they did not measure."""

import ast
import io
import json
import re
from contextlib import redirect_stdout
from functools import partial

import nbformat
import pytest
from nbformat.v4 import new_output

from lib import storage
from lib.storage import NOTEBOOKS
from study import report
from study.speed import measure as engine
from study.speed import streaming
from workflow import front_page, readme

SIZES = {"heads": 2, "head_dim": 8, "features": 8, "basis": 8, "segment": 32, "rounds": 1, "block_seconds": 0.001}
SWEPT = {"lengths": [256, 512, 1024], "source_lengths": [256, 512, 1024], "sweep_length": 256}
SWEPT |= {"head_dims": [8], "feature_counts": [8], "basis_counts": [8], "batches": [1], "batch_events": 256}
STREAM = {"stream_events": 512, "stream_segment": 32}
SPEED = SIZES | SWEPT | STREAM | {"fit_from": 256}
COMPARED = {"folds": 2, "epochs": 1, "event_limits": [32]}
OPEN = r"Not measured here: .* \(beyond its budget of {}: .+ in (inference|training) from [\d,]+ events on.*\)\."


def run(name, study, given):
    """Execute a notebook's cells in this process, and store it as if executed."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    names = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        with redirect_stdout(io.StringIO()) as stream:
            exec(
                compile(re.sub(r"^%.*", "", cell.source, flags=re.MULTILINE), f"{name}, cell {cell.id}", "exec"), names
            )
        if "parameters" in cell.metadata.get("tags", []):
            names |= given | {"study": study.name}
        shown = [line for line in stream.getvalue().splitlines() if line.startswith("{'text/html'")]
        cell.outputs = [new_output("display_data", data=ast.literal_eval(line)) for line in shown]
    (study / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, study / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def study(bank_folder, tmp_path, monkeypatch):
    """An empty report; nothing is read from or written to this clone's own."""
    monkeypatch.setattr(report, "begin", partial(report.begin, reports=tmp_path / "reports"))
    monkeypatch.setattr(engine, "measure", partial(engine.measure, cache=tmp_path / "kept"))
    monkeypatch.setattr(storage, "RUNS", tmp_path / "runs")
    folder = tmp_path / "reports" / "slow"
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps({"labelled": 24, "events": 600}))
    (folder / "parameters.json").write_text(json.dumps({"folds": 2, "repeats": 1}))
    return folder


def claims_of(study, name):
    return {claim["name"]: claim for claim in json.loads((study / "claims" / f"{name}.json").read_text())}


def assert_open(study, budget):
    """No claim about speed is decided, and each says so."""
    claims = claims_of(study, "07_speed_and_memory_machine")
    for claim in claims.values():
        assert claim["holds"] is None
        assert re.fullmatch(OPEN.format(budget), claim["sentence"]), claim["sentence"]
    return claims


@pytest.fixture
def no_memory(monkeypatch):
    """The kernel kills every process of its own."""

    def killed(function, *arguments, patience=None):
        raise MemoryError("the process was killed")

    for module in (engine, streaming):
        monkeypatch.setattr(module, "run_in_fresh_process", killed)


def test_a_machine_too_slow_for_all_but_the_shortest_call(study, monkeypatch):
    monkeypatch.setattr(report, "named_svg", lambda fig, name, alt: "<svg></svg>")
    run("07_speed_and_memory", study, SPEED | {"seconds": 0.0, "stream_seconds": 0.0})
    assert_open(study, "time")
    rows = report.load_rows("slow", reports=study.parent)
    assert {"skipped_time"} == set(rows.loc[rows["metric"].str.startswith("skipped"), "metric"])
    assert set(rows.loc[rows["metric"] == "time_ms", "x"]) <= {256, 8, 1}


def test_a_machine_without_memory(study, bank_folder, no_memory, tmp_path):
    run("07_speed_and_memory", study, SPEED)
    run("08_comparison", study, COMPARED | {"source": str(bank_folder)})
    speed = assert_open(study, "memory")
    assert claims_of(study, "08_comparison")["answer"]["holds"] is not None
    caption = json.loads((study / "figures" / "07_along_a_stream.json").read_text())["caption"]
    assert "Not measured here: beyond its budget of memory: " in caption
    front_page.write_report(study)
    text = (study / "index.html").read_text(encoding="utf-8")
    assert text.count('data-outcome="not measured here"') == len(speed)
    (tmp_path / "README.md").write_text(f"{readme.START}\n{readme.END}\n", encoding="utf-8")
    readme.write(study, tmp_path)
    headline = (study / readme.FIGURE).read_text(encoding="utf-8")
    assert headline.count("not measured here") == 2
