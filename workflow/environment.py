"""Make the study's environment, .venv: what the lock names and nothing else, whatever is set around it.

python3 -I workflow/environment.py           (makes it)
python3 -I workflow/environment.py -r FILE   (adds locked packages: those of the tests, or of a cluster's profile)
"""

import os
import re
import signal
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
IMPORTED = "ipykernel.kernelapp, nbconvert, papermill, seaborn, sklearn.linear_model, snakemake.cli, ziamath"
FETCHING = """index-url extra-index-url no-index find-links proxy cert client-cert trusted-host timeout default-timeout
retries keyring-provider cache-dir""".split()
"""Settings of pip that say whence and how packages come. What says where they go, and which, is not the user's here."""


def isolated():
    """The environment without settings of Python and pip, except for how pip fetches, by its files or variables."""
    listing = [PYTHON, "-Im", "pip", "-vvv", "config", "list"]  # where a file says `quiet`, it would print nothing
    listed = subprocess.run(listing, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    for place in ("global", "install", ":env:"):  # the last wins
        for name, value in re.findall(rf"^{place}\.([a-z-]+)=(.+)$", listed, flags=re.MULTILINE):
            if name in FETCHING:
                clean["PIP_" + name.upper().replace("-", "_")] = literal_eval(value)
    return {**clean, "PIP_CONFIG_FILE": os.devnull}


def run(what, command, environment=os.environ):
    """Run a command. Raises SystemExit, after its own words, when it fails."""
    # It holds the lock of this run, which is an open file, also when all else is killed.
    if subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, close_fds=False).returncode:
        sys.exit(f"error: {what} failed")


def install(what, environment, *arguments):
    """Run `pip install`, without compiling: what is imported compiles itself; all of it is 400 MB."""
    print(f"installing {what}", file=sys.stderr)
    command = [PYTHON, *"-Im pip --disable-pip-version-check --no-input install --quiet --no-compile".split()]
    run(f"the installation of {what}", [*command, *arguments], environment)


def own_kernel(environment):
    """Jupyter's kernel `python3` of this environment: by its whole path, with nothing that is set for other Pythons."""
    command = [PYTHON, *"-Im ipykernel install --sys-prefix --name python3 --display-name".split(), "Python 3"]
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS"):
        command += ["--env", name, ""]
    run("the installation of Jupyter's kernel", command, environment)
    # Kernels in the user's JUPYTER_PATH would come before it.
    settings = f"import os\nos.environ['JUPYTER_PATH'] = {str(VENV / 'share' / 'jupyter')!r}\n"
    (VENV / "etc" / "jupyter" / "jupyter_config.py").write_text(settings, encoding="utf-8")


def make():
    """Replace the environment. Raises SystemExit where a part of it fails."""
    print("making the environment in .venv (minutes, about 1.6 GB)", file=sys.stderr)
    run("python3 -m venv", [sys.executable, "-Im", "venv", "--clear", str(VENV)])
    environment, index = isolated(), os.environ.get("STUDY_TORCH_INDEX")
    install("the locked packages", environment, "--require-hashes", "-r", "requirements.txt")
    # While torch comes on one core, another compiles what every study imports, as far as it gets.
    with subprocess.Popen([PYTHON, "-Ic", f"import {IMPORTED}"], stderr=subprocess.DEVNULL, close_fds=False):
        install("torch", environment, *(["--index-url", index] if index else []), "-r", "requirements-torch.txt")
    # As an editable installation would, which setuptools cannot make in a folder with braces: four folders up.
    next(VENV.glob("lib/python*/site-packages")).joinpath("study.pth").write_text("../../../..\n", encoding="ascii")
    own_kernel(environment)
    run("the import of what was installed", [PYTHON, "-Ic", "import lib, torch"], environment)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    install(f"packages of {sys.argv[2]}", isolated(), "--require-hashes", *sys.argv[1:]) if sys.argv[1:] else make()
