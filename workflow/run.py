"""One run of the study, when run_all.sh has its lock and the environment: what it is to make, and what came of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import yaml

from workflow.options import mechanism, parse, refuse

LOG, SLURM = Path(".snakemake/log/study.log"), Path(".snakemake/slurm_logs")
SOURCES = "lib study workflow notebooks data/facts data/measurements data/tuning".split()
KILLED = 128 + signal.SIGKILL


def noted(record: Path, name: str) -> str | None:
    """What a finished step has noted of itself; None where it has not, or not legibly."""
    with suppress(OSError, ValueError, KeyError):
        return json.loads(record.read_text(encoding="utf-8"))[name]


def python(*arguments: str, **options: object) -> int:
    """Exit status of a module; it inherits the lock of this run, which is an open file."""
    status = subprocess.run([".venv/bin/python", "-m", *arguments], close_fds=False, **options).returncode
    return status if status >= 0 else 128 - status


def start_verification(options: Namespace, report: Path, made_from: str | None) -> Path:
    """Where the report is made again, with caches of its own; what a finished verification left is deleted."""
    options.size = noted(report / "parameters.json", "profile")
    if options.size is None or made_from not in (None, options.data):
        refuse(f"{report}: no finished report of {options.data} to verify")
    again = report.with_name(f"{report.name}-verify")
    kept = Path("data", "verify", again.name).absolute()
    os.environ["STUDY_KEPT"] = str(kept)
    if (again / "index.html").exists():
        for folder in (again, kept):
            shutil.rmtree(folder, ignore_errors=True)
    return again


def repair_dates(report: Path) -> None:
    """After a clock went back: of files of the future sources are new and results old, so that contents decide."""
    now = time.time()
    for folder, date in ((report, 86400), *((Path(name), now) for name in SOURCES)):
        for path in folder.rglob("*"):
            with suppress(OSError):
                if path.stat().st_mtime > now:
                    os.utime(path, (date, date))


def unseen(options: Namespace, report: Path) -> bool:
    """Whether the data are not those that the finished report has seen."""
    record, folder = report / "data.json", Path(options.data.replace("sberbank", "data/raw/sberbank", 1))
    seen = (noted(record, "source"), noted(report / "parameters.json", "profile"))
    if options.fresh or seen != (options.data, options.size):
        return True
    return folder.is_dir() and any(
        path.stat().st_mtime > record.stat().st_mtime for path in (folder, *folder.iterdir())
    )


def explain(report: Path, status: int, ended: bool, cluster: bool) -> None:
    """Say on stderr which steps failed, with what, and where there is more; of a run that was ended nothing."""
    said = [line for path in sorted(report.rglob("*.failed")) for line in path.read_text("utf-8").splitlines()]
    if cluster:  # jobs that are cancelled then look killed, too
        said = [line for line in said if ": was killed" not in line] or said
    more = f"what failed jobs printed: {SLURM.absolute()}" if SLURM.is_dir() else ""
    if status == KILLED:
        said = ["FAILED: the workflow (Snakemake) was killed, as happens when memory runs out"]
    elif ended:
        said = []
    else:
        more = more or f"all that the steps printed: {LOG.absolute()}"
        said = said or LOG.read_text("utf-8", errors="replace").splitlines()[-5:]
    for line in filter(None, [more, *said]):
        print(line, file=sys.stderr)


def main() -> int:
    """Exit status of the run."""
    options = parse(sys.argv[1:], os.environ["STUDY_CALLER"])
    report = published = Path("reports", options.out)
    made_from = noted(report / "data.json", "source")
    if not (options.named or options.check or made_from in (None, options.data)):
        refuse(f"{report} was made from {made_from}; give --out NAME or remove that report")
    if options.verify:
        report = start_verification(options, published, made_from)
    parameters = yaml.safe_load(Path("study.yaml").read_text("utf-8"))[options.size]
    folds = str(parameters["folds"])
    listed = [mechanism(name, Path.cwd()) for name in parameters.get("mechanisms") or []]
    os.environ["STUDY_MECHANISMS"] = json.dumps(list(dict.fromkeys([*listed, *options.mechanisms])))
    if options.check:
        return python("study.sources", options.data, "--check", "--folds", folds)
    os.environ |= {"STUDY_DATA": options.data, "STUDY_NAME": report.name, "STUDY_PROFILE": options.size}
    os.environ |= {"STUDY_FRESH": "yes" * options.fresh, "STUDY_THREADS": options.threads, "STUDY_FOLDS": folds}
    os.environ["STUDY_CLUSTER"] = "yes" * bool(options.profile)
    # This run has its lock already; Snakemake's own would take braces in the folder's name for wildcards.
    work = ["workflow.engine", str(report), "--nolock", "--rerun-incomplete", *["--forceall"] * options.fresh]
    work += ["--workflow-profile", options.profile] if options.profile else ["--cores", "all"]
    repair_dates(report)
    if options.dry_run:
        status = python(*work, "--dry-run")
        return status and refuse("\n".join(["the steps cannot be planned:", *LOG.read_text("utf-8").splitlines()[-5:]]))
    # Wrong data and a mechanism that breaks its contract are refused in one line before the workflow starts.
    if listed or options.mechanisms:
        status = python("study.contract")
        if status:
            return status
    if options.data != "synthetic" and unseen(options, report):
        status = python("study.sources", options.data, "--folds", folds, stdout=subprocess.DEVNULL)
        if status:
            return status
    if options.fresh:
        shutil.rmtree("data/measurements/local", ignore_errors=True)
    for path in report.rglob("*.failed"):
        path.unlink()
    ended = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.append(True))  # the workflow gets them as well, and ends
    status = python(*work, stdout=sys.stderr)
    if status:
        explain(report, status, bool(ended), bool(options.profile))
        return status
    if LOG.exists() and "\nNothing to be done" in LOG.read_text("utf-8", errors="replace"):
        print("nothing has changed: the report is as it was", file=sys.stderr)
    if options.verify:
        status = python("workflow.verify", str(published), str(report), stdout=sys.stderr)
    print(Path(report, "index.html").absolute())
    return status


if __name__ == "__main__":
    sys.exit(main())
