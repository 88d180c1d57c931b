"""The environment is what the lock says, nothing less and nothing more, and the lock can be installed from alone."""

import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from lib.paths import ROOT

PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", flags=re.MULTILINE)
LIMIT = 900.0  # seconds
NOT_LOCKED = {"torch", "pip", "setuptools", "wheel", "efficient-attention-study"}
TORCH_BRINGS = ("nvidia-", "cuda-", "triton")
"""How the names of packages begin that PyPI's torch needs on Linux, and its build for CPUs does not."""


def pinned(*locks: Path) -> dict[str, str]:
    """Package to version in files of locked requirements."""
    return {name: version for lock in locks for name, version in PINNED.findall(lock.read_text())}


def installed() -> dict[str, str]:
    """Package to version in this environment, names as they are locked; not what a package brings along inside it."""
    found = metadata.distributions(path=[sysconfig.get_path("purelib")])
    return {re.sub(r"[-_.]+", "-", each.name).lower(): each.version for each in found}


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


def test_the_environment_is_exactly_what_is_locked():
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip(f"these tests run in {sys.prefix}, which run_all.sh has not made")
    profile = ROOT / ".venv" / "profile"
    locked = pinned(ROOT / "requirements.txt", *([profile] if profile.exists() else []))
    more = {name for name in installed().keys() - locked.keys() if not name.startswith(TORCH_BRINGS)}
    assert more <= NOT_LOCKED
    assert {name: installed().get(name) for name in locked} == locked
    assert installed()["torch"].split("+")[0] == pinned(ROOT / "requirements-torch.txt")["torch"]
    assert pip("check").stdout == ""


def test_the_lock_is_complete_and_every_file_is_the_one_that_was_locked():
    """All that an empty environment needs, fetched file by file and held against its hash; nothing else is let in."""
    if pip("index", "versions", "pip").returncode != 0:
        pytest.skip("no package index can be reached")
    done = pip("install", "--dry-run", "--ignore-installed", "--require-hashes", "-r", ROOT / "requirements.txt")
    assert done.returncode == 0, done.stderr
