"""Jupyter in the study's environment, copied to its etc/jupyter: its own kernel first, outputs not for git."""

import os
import subprocess
import sys
from pathlib import Path

# JUPYTER_PATH comes before the environment; JUPYTER_PREFER_ENV_PATH says whether the home folder does.
own = str(Path(sys.prefix, "share", "jupyter"))
os.environ["JUPYTER_PATH"] = os.pathsep.join([own, *filter(None, [os.environ.get("JUPYTER_PATH")])])


def told_to_git(os_path, **_):
    """Where a saved file's source is what git has, let git see so: of another size, it would count as modified."""

    def git(*arguments):
        command = ["git", "-C", str(Path(os_path).parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    name = Path(os_path).name
    try:
        if (known := git("rev-parse", "--verify", f":./{name}")) and known == git("hash-object", "--", name):
            git("add", "--", name)
    except FileNotFoundError:
        pass  # no git here


c.FileContentsManager.post_save_hook = told_to_git  # noqa: F821
