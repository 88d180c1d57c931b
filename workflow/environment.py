"""Make the study's environment, .venv: what the lock names and nothing else, whatever is set around it.

python3 -I workflow/environment.py STAMP     (makes it unless .venv/stamp says STAMP; then the filter of git)
python3 -I workflow/environment.py -r FILE   (adds locked packages: those of the tests, or of a cluster's profile)
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from ast import literal_eval
from importlib import import_module, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
LOCK, TORCH = ROOT / "requirements.txt", ROOT / "requirements-torch.txt"
FETCHING = """index-url extra-index-url no-index find-links proxy cert client-cert trusted-host timeout default-timeout
retries resume-retries keyring-provider cache-dir no-cache-dir use-feature use-deprecated""".split()
"""Settings of pip that say whence and how packages come. What says where they go, and which, is not the user's here."""
FILTER = (
    "if [ -x .venv/bin/python ]; then .venv/bin/python -Im nbstripout --keep-id --extra-keys '"
    "cell.metadata.jupyter.outputs_hidden cell.metadata.trusted metadata.language_info.codemirror_mode"
    " metadata.language_info.file_extension metadata.language_info.mimetype"
    " metadata.language_info.nbconvert_exporter metadata.language_info.pygments_lexer"
    " metadata.language_info.version'; else cat; fi"
)
"""A command of git, which runs it at the top of whichever worktree: the place of the environment is relative."""


def pinned(*files):
    """Package to version in files of requirements."""
    pin = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", flags=re.MULTILINE)
    return {name: version for file in files for name, version in pin.findall(file.read_text(encoding="utf-8"))}


def isolated(environment):
    """The environment without settings of Python and pip, except for how pip fetches: variables and files."""
    clean = {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "PIP_"))}
    told = {name: environment[name] for name in ("PIP_CONFIG_FILE",) if name in environment}
    listing = [PYTHON, "-Im", "pip", "-vvv", "config", "list"]  # where a file says `quiet`, it would print nothing
    listed = subprocess.run(listing, env={**clean, **told}, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    found = sorted(re.findall(r"^(global|install)\.([a-z-]+)=(.+)$", listed, flags=re.MULTILINE))  # the latter wins
    settings = {name: literal_eval(value) for _, name, value in found if name in FETCHING}
    given = {name: environment.get("PIP_" + name.upper().replace("-", "_")) for name in FETCHING}
    settings.update((name, value) for name, value in given.items() if value)
    clean.update(("PIP_" + name.upper().replace("-", "_"), value) for name, value in settings.items())
    return {**clean, "PIP_CONFIG_FILE": os.devnull}


def show(text, last=False, screen=sys.stderr):
    """A line on the screen: in a terminal in the place of the one before."""
    terminal = screen.isatty()
    end = "\n" if last or not terminal else ""
    print(f"\r\x1b[K{text}" if terminal else text, end=end, file=screen, flush=True)


def pip(what, environment, *arguments):
    """Run `pip install`, in a terminal with what it does. Raises SystemExit, after its last lines, when it fails."""
    command = [PYTHON, "-Im", "pip", "--disable-pip-version-check", "--no-input", "install"]
    command += ["--no-compile", *arguments]  # what is imported compiles itself; all of it is 400 MB
    talk = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    said, start = [], time.monotonic()
    # It holds the lock of this run, which is an open file, also when all else is killed.
    with subprocess.Popen(command, cwd=ROOT, env=environment, close_fds=False, **talk) as process:
        for line in process.stdout:
            said.append(line.rstrip())
            if sys.stderr.isatty():
                show(f"{what}: {said[-1].strip()[:70]}")
    if process.returncode:
        show("\n".join(said[-20:]), last=True)
        sys.exit(f"error: the installation of {what} failed")
    show(f"{what}: installed in {time.monotonic() - start:.0f} s", last=True)


def own_kernel():
    """Jupyter's kernel `python3` of this environment: by its whole path, with nothing that is set for other Pythons."""
    file = VENV / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec = json.loads(file.read_text(encoding="utf-8"))
    spec["argv"][0], spec["display_name"] = PYTHON, "Python 3"  # the name that the stored notebooks have
    names = ("PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS")
    spec["env"] = {name: "" for name in names}
    file.write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    shutil.copy(ROOT / "workflow" / "jupyter_config.py", VENV / "etc" / "jupyter")


def faults():
    """What of the direct requirements, and of the study, cannot be imported in the environment that runs this."""
    direct = pinned(ROOT / "requirements.in").keys()
    modules = {module for module, owners in metadata.packages_distributions().items() if direct & {*owners}}
    for module in sorted({"lib"} | {module for module in modules if module.isidentifier()}):
        try:
            import_module(module)
        except Exception as error:
            yield f"{module} cannot be imported: {type(error).__name__}: {error}"


def make():
    """Replace the environment. Raises SystemExit where a part of it fails."""
    print("making the environment in .venv (minutes, about 1.6 GB)", file=sys.stderr)
    (VENV / "stamp").unlink(missing_ok=True)  # first of all: half of an environment must not have one
    subprocess.run([sys.executable, "-Im", "venv", "--clear", str(VENV)], check=True)
    environment, index = isolated(os.environ), os.environ.get("STUDY_TORCH_INDEX")
    pip(f"{len(pinned(LOCK))} locked packages", environment, "--require-hashes", "-r", str(LOCK))
    pip("torch", environment, *(["--index-url", index] if index else []), "-r", str(TORCH))
    # As an editable installation would, which setuptools cannot make in a folder with braces: four folders up.
    next(VENV.glob("lib/python*/site-packages")).joinpath("study.pth").write_text("../../../..\n", encoding="ascii")
    own_kernel()
    subprocess.run([PYTHON, "-I", __file__, "--check"], env=environment, check=True)


def keep_outputs_out_of_git():
    """Let git, in this clone alone, see notebooks without their outputs (.gitattributes says which)."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(ROOT), "config", "filter.nbstripout.clean", FILTER]
        if subprocess.run(command, check=False).returncode != 0:
            print("git will see outputs of notebooks: it does not take its filter", file=sys.stderr)


def main(arguments):
    """Exit status 1 with what failed."""
    if arguments == ["--check"]:
        wrong = list(faults())
        return "\n".join(["error: the environment does not work:", *wrong]) if wrong else 0
    if arguments[0] == "-r":
        pip(f"packages of {arguments[1]}", isolated(os.environ), "--require-hashes", "-r", arguments[1])
        return 0
    stamp = VENV / "stamp"
    try:
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != arguments[0] + "\n":
            make()
            stamp.write_text(arguments[0] + "\n", encoding="utf-8")
    except subprocess.CalledProcessError as error:
        return 1 if error.cmd[-1] == "--check" else f"error: {' '.join(map(str, error.cmd))} failed"
    keep_outputs_out_of_git()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
