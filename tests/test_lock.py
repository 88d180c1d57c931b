"""The environment is what the lock says, nothing less and nothing more, whatever is set around it."""

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

from lib.storage import ROOT, file_checksum

PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", flags=re.MULTILINE)
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


def test_the_environment_is_exactly_what_is_locked():
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip(f"these tests run in {sys.prefix}, which run_all.sh has not made")
    profile, locks = ROOT / ".venv" / "profile", [ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]
    locked, found = pinned(*locks, *([profile] if profile.exists() else [])), installed()
    more = {name for name in found.keys() - locked.keys() if not name.startswith(TORCH_BRINGS)}
    assert more <= NOT_LOCKED
    assert {name: found.get(name) for name in locked} == locked
    assert found["torch"].split("+")[0] == pinned(ROOT / "requirements-torch.txt")["torch"]


def wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """A package of the given files, and its line in a lock."""
    about = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
    about |= {"WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    files = files | {f"{name}-1.0.dist-info/{file}": text for file, text in about.items()}
    record = f"{name}-1.0.dist-info/RECORD"
    with ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for file, text in (files | {record: "".join(f"{file},,\n" for file in [*files, record])}).items():
            archive.writestr(file, text)
    return f"{name}==1.0 --hash=sha256:{file_checksum(folder / f'{name}-1.0-py3-none-any.whl')}\n"


def test_the_set_up_is_led_astray_by_nothing_and_lets_nothing_else_in(tmp_path):
    """All of it except its size: two packages from a folder, which a file of pip's and a variable name."""
    clone, wheels, astray = tmp_path / "{ü} ' y", tmp_path / "wheels", tmp_path / "astray"
    shutil.copytree(ROOT / "workflow", clone / "workflow")
    for folder in (clone / "lib", wheels, astray):
        folder.mkdir(parents=True)
    (clone / "lib" / "__init__.py").touch()
    # Instead of the kernel's own installation: its arguments.
    kernel = {
        "ipykernel/__main__.py": "import sys\nprint(*sys.argv[1:])\n",
        "ipykernel-1.0.data/data/etc/jupyter/x": "",
    }
    (clone / "requirements.txt").write_text(wheel(wheels, "ipykernel", kernel))
    wheel(wheels, "torch", {"torch.py": ""})
    (clone / "requirements-torch.txt").write_text("torch==1.0\n")
    (clone / "other.txt").write_text(wheel(wheels, "other", {"other.py": ""})[:-9] + "00000000\n")
    settings = f"[global]\nquiet = 3\nno-index = true\ntarget = {astray}/t\n[install]\nuser = yes\n"
    (astray / "pip.conf").write_text(settings)
    (astray / "sitecustomize.py").write_text("raise SystemExit('astray')\n")
    places = {f"PIP_{name}": f"{astray}/{name}" for name in ("TARGET", "PREFIX", "ROOT", "REQUIREMENT", "CONSTRAINT")}
    pip = places | {"PIP_USER": "1", "PIP_DRY_RUN": "1", "PIP_CONFIG_FILE": f"{astray}/pip.conf"}
    python = {"PYTHONPATH": str(astray), "PYTHONHOME": str(astray), "PYTHONOPTIMIZE": "2"}
    environment = os.environ | pip | python | {"PIP_FIND_LINKS": str(wheels)}

    def set_up(*arguments):
        command = [sys.executable, "-I", "workflow/environment.py", *arguments]
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)

    done = set_up()
    assert done.returncode == 0, done.stderr
    said = (
        r"making the environment .*\ninstalling the locked packages\ninstalling torch\ninstall .* --env PYTHONPATH .*\n"
    )
    assert re.fullmatch(said, done.stderr)
    assert sorted(path.name for path in astray.iterdir()) == ["pip.conf", "sitecustomize.py"]

    done = set_up("-r", "other.txt")
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: the installation of packages of other.txt failed"
