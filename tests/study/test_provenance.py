"""What a rerun needs to know."""

import json

import torch

from study.provenance import git, provenance


def test_it_names_versions_hardware_and_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    record = provenance()
    assert record["versions"]["torch"] == torch.__version__
    assert record["threads"] == "3"
    assert all(record[name] for name in ("cores", "memory_gib", "processor"))
    assert json.loads(json.dumps(record)) == record
    assert git("rev-parse", "--verify", "no-such-branch-anywhere") is None
