"""What a rerun needs to know."""

import hashlib
import json

import torch

from lib.storage import file_checksum
from study.provenance import git, provenance


def test_it_names_versions_hardware_and_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    record = provenance()
    assert record["versions"]["torch"] == torch.__version__
    assert record["threads"] == "3"
    assert record["cores"] >= 1
    assert record["memory_gib"] > 0
    assert record["processor"]
    assert json.loads(json.dumps(record)) == record


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"customer_id\n")
    assert file_checksum(path) == hashlib.sha256(b"customer_id\n").hexdigest()


def test_a_git_command_that_fails_says_nothing():
    assert git("rev-parse", "--verify", "no-such-branch-anywhere") is None
