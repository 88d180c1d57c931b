"""Where a result comes from: source commit, versions, hardware, threads, data and the day."""

import datetime
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from lib.paths import ROOT

PACKAGES = ["torch", "numpy", "pandas", "scikit-learn", "matplotlib", "papermill", "snakemake"]


def git(*arguments: str) -> str | None:
    """The output of a git command in the repository, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def processor() -> str:
    """The processor's marketing name where the system tells it, its architecture otherwise."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def without_folders(setting: object) -> object:
    """A setting, or all of a group, as others may see it: of an absolute path its last name."""
    if isinstance(setting, dict):
        return {name: without_folders(inner) for name, inner in setting.items()}
    return Path(setting).name if isinstance(setting, str) and Path(setting).is_absolute() else setting


def provenance() -> dict[str, object]:
    """Commit and whether the tree was changed, versions, hardware, threads and the date: what a rerun needs to know."""
    status = git("status", "--porcelain", "lib", "notebooks", "data/facts", "Snakefile", "study.yaml")
    requirements = ROOT / "requirements.txt"
    return {
        "commit": git("rev-parse", "HEAD"),
        "changed_since_commit": None if status is None else bool(status),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "requirements_sha256": file_checksum(requirements) if requirements.exists() else None,
        "system": platform.platform(terse=True),
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": os.environ.get("OMP_NUM_THREADS", "1"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
