"""The environment is what the lock says, nothing less and nothing more, and the lock can be installed from alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from lib.paths import ROOT
from lib.storage import file_checksum

PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", flags=re.MULTILINE)
LIMIT = 900.0  # seconds
NOT_LOCKED = {"torch", "pip", "setuptools", "wheel"}
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
    profile, locks = ROOT / ".venv" / "profile", [ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]
    locked = pinned(*locks, *([profile] if profile.exists() else []))
    more = {name for name in installed().keys() - locked.keys() if not name.startswith(TORCH_BRINGS)}
    assert more <= NOT_LOCKED
    assert {name: installed().get(name) for name in locked} == locked
    assert installed()["torch"].split("+")[0] == pinned(ROOT / "requirements-torch.txt")["torch"]
    assert pip("check").stdout == ""


def test_the_lock_is_complete_and_every_file_is_the_one_that_was_locked():
    """All that an empty environment needs, fetched file by file and held against its hash; nothing else is let in."""
    if pip("index", "versions", "pip").returncode != 0:
        pytest.skip("no package index can be reached")
    files = ("-r", ROOT / "requirements.txt", "-r", ROOT / "tests" / "requirements.txt")
    done = pip("install", "--dry-run", "--ignore-installed", "--require-hashes", *files)
    assert done.returncode == 0, done.stderr


KERNEL = """{"argv": ["python", "-m", "ipykernel_launcher"], "display_name": "Python 3 (ipykernel)"}"""


def wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """A package of one module and further files, and its line in a lock."""
    about = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "top_level.txt": f"{name}\n"}
    about |= {"WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    files = {f"{name}/__init__.py": "", **files} | {
        f"{name}-1.0.dist-info/{file}": text for file, text in about.items()
    }
    record = f"{name}-1.0.dist-info/RECORD"
    with ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for file, text in (files | {record: "".join(f"{file},,\n" for file in [*files, record])}).items():
            archive.writestr(file, text)
    return f"{name}==1.0 --hash=sha256:{file_checksum(folder / f'{name}-1.0-py3-none-any.whl')}\n"


def test_the_set_up_is_led_astray_by_nothing_and_checks_what_it_has_made(tmp_path):
    """All of it except its size: two packages from a folder, which a file of pip's and a variable name."""
    clone, wheels, astray = tmp_path / "{ü} ' y", tmp_path / "wheels", tmp_path / "astray"
    shutil.copytree(ROOT / "workflow", clone / "workflow")
    for folder in (clone / "lib", wheels, astray):
        folder.mkdir(parents=True)
    (clone / "lib" / "__init__.py").touch()
    data = {
        "tiny-1.0.data/data/share/jupyter/kernels/python3/kernel.json": KERNEL,
        "tiny-1.0.data/data/etc/jupyter/x": "",
    }
    (clone / "requirements.txt").write_text(wheel(wheels, "tiny", data))
    wheel(wheels, "torch", {})
    for name in ("requirements.in", "requirements-torch.txt"):
        (clone / name).write_text("tiny==1.0\n" if name == "requirements.in" else "torch==1.0\n")
    (astray / "pip.conf").write_text(
        f"[global]\nquiet = 3\nno-index = true\ntarget = {astray}/t\n[install]\nuser = yes\n"
    )
    (astray / "sitecustomize.py").write_text("raise SystemExit('astray')\n")
    places = {f"PIP_{name}": f"{astray}/{name}" for name in ("TARGET", "PREFIX", "ROOT", "REQUIREMENT", "CONSTRAINT")}
    pip = places | {"PIP_USER": "1", "PIP_DRY_RUN": "1", "PIP_CONFIG_FILE": f"{astray}/pip.conf"}
    python = {"PYTHONPATH": str(astray), "PYTHONHOME": str(astray), "PYTHONOPTIMIZE": "2"}
    environment = os.environ | pip | python | {"PIP_FIND_LINKS": str(wheels)}

    def set_up(*arguments, python=sys.executable):
        command = [python, "-I", "workflow/environment.py", *arguments]
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=LIMIT)

    done = set_up("the stamp")
    assert done.returncode == 0, done.stderr
    said = r"making the environment .*\n1 locked packages: installed in \d+ s\ntorch: installed in \d+ s\n"
    assert re.fullmatch(said, done.stderr)
    assert (clone / ".venv" / "stamp").read_text() == "the stamp\n"
    assert sorted(path.name for path in astray.iterdir()) == ["pip.conf", "sitecustomize.py"]
    own = clone / ".venv" / "bin" / "python"
    assert json.loads((clone / ".venv/share/jupyter/kernels/python3/kernel.json").read_text())["argv"][0] == str(own)
    assert set_up("the stamp").stderr == ""

    (package,) = clone.glob(".venv/lib/*/site-packages/tiny")
    (package / "__init__.py").write_text("import nothing_of_this_name\n")
    done = set_up("--check", python=own)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (
        1,
        ["tiny cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'"],
    )
    (clone / "requirements.txt").write_text("tiny==1.0 --hash=sha256:" + 64 * "0")
    done = set_up("another stamp")
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: the installation of 1 locked packages failed"
    assert not (clone / ".venv" / "stamp").exists()
