"""Where a result comes from: source commit, versions, hardware, threads, data and the day."""

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from lib.storage import ROOT, file_checksum

CODE = ("lib", "study", "workflow", "notebooks", "data/facts", "study.yaml", "run_all.sh", "requirements.txt")


def git(*arguments: str) -> str | None:
    """The output of a git command in the repository, or None where there is no git or no repository."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def processor_facts() -> dict[str, str]:
    """What the system tells of its first processor, by Linux's names of the fields; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if cpuinfo.exists() else []
    return dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines)


def processor() -> str:
    """The processor's marketing name where the system tells it, its architecture otherwise."""
    return processor_facts().get("model name") or platform.processor() or platform.machine()


def without_folders(setting: object) -> object:
    """A setting, or all of a group, as others may see it: of an absolute path its last name."""
    if isinstance(setting, dict):
        return {name: without_folders(inner) for name, inner in setting.items()}
    return Path(setting).name if isinstance(setting, str) and Path(setting).is_absolute() else setting


def provenance() -> dict[str, object]:
    """Commit and whether the tree was changed, versions, hardware, threads and the date: what a rerun needs to know."""
    import torch  # here, because pages import this module and compute nothing

    status, facts = git("status", "--porcelain", *CODE), processor_facts()
    # Which of the processors of its name it is; kernels are chosen by it.
    model = [f"{name} {facts[name]}" for name in ("cpu family", "model", "stepping") if name in facts]
    versions = {each.name: each.version for each in metadata.distributions()}
    return {
        "commit": git("rev-parse", "HEAD"),
        "changed_since_commit": None if status is None else bool(status),
        "python": platform.python_version(),
        "versions": dict(sorted(versions.items(), key=lambda item: item[0].lower())),
        "requirements_sha256": file_checksum(ROOT / "requirements.txt"),
        "system": platform.platform(terse=True),
        "processor": processor(),
        "processor_model": ", ".join(model) or None,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": os.environ.get("OMP_NUM_THREADS", "1"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
