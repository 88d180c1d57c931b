"""CPU seconds of a study by step, split into imports and the rest."""

import json

from workflow import cost


def test_a_notebooks_cells_of_imports_count_as_imports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("report/durations", "report/notebooks", ".snakemake/log"):
        (tmp_path / folder).mkdir(parents=True)
    cost.SECONDS.write_text("1.6\n")
    for name, imports, cpu in (("data", 1, 3), ("train-softmax", 2, 20), ("01_data", 1, 11)):
        line = f"s\tcpu_time\timports\tmax_rss\n99\t{cpu}\t{imports}\t100\n"
        (tmp_path / "report" / "durations" / f"{name}.tsv").write_text(line)
    cells = [(["import numpy\n", "x = 1"], 3.0), (["x = 2"], 2.0)]
    notebook = {"cells": [{"source": source, "metadata": {"papermill": {"duration": took}}} for source, took in cells]}
    notebook["metadata"] = {"papermill": {"duration": 6.0}}  # half of it imports: 5 of the 10 s beside the runner's own
    (tmp_path / "report" / "notebooks" / "01_data.ipynb").write_text(json.dumps(notebook))
    monkeypatch.setattr("sys.argv", ["cost", "report"])
    cost.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:5]] == [
        ["01_data", "6.0", "5.0", "11.0"],
        ["data", "1.0", "2.0", "3.0"],
        ["train-softmax", "2.0", "18.0", "20.0"],
        ["sum", "9.0", "5.0", "2.0", "18.0", "34.0"],
    ]
    assert lines[-1].endswith(": 1.6")
