"""Jupyter in the study's environment, copied to its etc/jupyter: its own kernel first, outputs not for git."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

# JUPYTER_PATH comes before the environment; JUPYTER_PREFER_ENV_PATH says whether the home folder does.
own = str(Path(sys.prefix, "share", "jupyter"))
os.environ["JUPYTER_PATH"] = os.pathsep.join([own, *filter(None, [os.environ.get("JUPYTER_PATH")])])


def told_to_git(os_path, **_):
    """Where a saved file's source is what git has, let git see so: of another size, it would count as modified."""
    folder, name = os.path.split(os_path)
    with suppress(FileNotFoundError):  # no git here
        changed = subprocess.run(["git", "-C", folder, "diff", "--numstat", "--", name], capture_output=True)
        if changed.returncode == 0 and not changed.stdout:
            subprocess.run(["git", "-C", folder, "add", "--update", "--", name], capture_output=True)


c.FileContentsManager.post_save_hook = told_to_git  # noqa: F821
