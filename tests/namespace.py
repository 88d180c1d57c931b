"""A shell script with file systems of its own: it mounts what it likes, and nothing of it is left when it ends."""

import os
import shutil
import subprocess

import pytest

APART = ["unshare", "--map-root-user", "--mount"]


def needed() -> None:
    """Skip the test where users may not have file systems of their own."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux, Linux)")
    tried = subprocess.run([*APART, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no file systems of its own here: {tried.stderr.strip()}")


def run(script: str, *arguments: object, limit: float, **environment: object) -> subprocess.CompletedProcess:
    """Bash on the script, with the arguments as $1, $2, ..."""
    command = [*APART, "bash", "-euc", script, "bash", *map(str, arguments)]
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=variables)
