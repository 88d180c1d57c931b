"""The study killed at any moment, then run on: its tables, claims and figures are an uninterrupted run's.

STUDY_KILLS=20 ./run_tests.sh tests/test_survival.py     (kills 20 times, minutes; without it once)
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from base64 import urlsafe_b64encode

import psutil
import pytest
import small_study
from small_study import LIMIT, broken_files, results, run

KILLS = int(os.environ.get("STUDY_KILLS", "1"))
SHORTEST, LONGEST = 1.0, 12.0  # seconds until a kill
AT_WORK = 50 * 2**20  # bytes of memory


def start(clone):
    """The study at work, as a user's shell starts it."""
    command = ["./run_all.sh", "--quick"]
    with (clone / "log").open("a") as log:
        return subprocess.Popen(command, cwd=clone, stdout=log, stderr=log, start_new_session=True)


def whole_tree(process):
    family = psutil.Process(process.pid)
    return [*family.children(recursive=True), family]


def end(number, *processes):
    """Send a signal to those that still live."""
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


WAYS = [
    # A power cut or a closed session; Ctrl-C or a shutdown; the script alone, whose steps live on; a full memory.
    lambda process: end(signal.SIGKILL, *whole_tree(process)),
    lambda process: end(signal.SIGTERM, psutil.Process(process.pid)),
    lambda process: end(signal.SIGKILL, psutil.Process(process.pid)),
    lambda process: end(signal.SIGKILL, max(whole_tree(process), key=lambda each: each.memory_info().rss)),
]
KILLED = {
    "workflow.engine": r"FAILED: the workflow \(Snakemake\) was killed, as happens when memory runs out",
    "study.train": r"FAILED reports/synthetic/runs/softmax\.json: was killed, as happens when memory runs out",
    "ipykernel_launcher": r"FAILED notebooks/04_train_softmax.ipynb, .*: its kernel was killed, as happens when .*",
}
"""What is killed, and the last line of a run then."""


def killed(word, process):
    """Whether a process with the word in its command line was at work, and now is not."""
    for each in whole_tree(process):
        with contextlib.suppress(psutil.Error):
            if word in each.cmdline() and each.memory_info().rss > AT_WORK:
                each.kill()
                return True
    return False


def test_a_study_killed_at_any_moment_says_what_was_and_ends_as_an_uninterrupted_one(tmp_path, uninterrupted):
    clone, moments = small_study.copy(tmp_path / "study"), random.Random(KILLS)
    for victim, said in KILLED.items():
        process = start(clone)
        while process.poll() is None and not killed(victim, process):
            time.sleep(0.05)
        assert process.wait(LIMIT) != 0
        assert re.fullmatch(said, (clone / "log").read_text().splitlines()[-1])
    for number in range(KILLS):
        process = start(clone)
        time.sleep(moments.uniform(SHORTEST, LONGEST))
        if process.poll() is None:
            WAYS[number % len(WAYS)](process)
        process.wait(LIMIT)
        assert broken_files(clone / "reports" / "synthetic") == []
        if process.returncode == 0:
            assert results(clone) == results(uninterrupted)
            for made in ("reports", "data/raw", "data/processed", "data/runs"):
                shutil.rmtree(clone / made)
    done = run(clone)
    assert (done.returncode, done.stdout) == (0, f"{clone}/reports/synthetic/index.html\n"), done.stderr[-3000:]
    assert {"tables/04_train_softmax.csv", "claims/04_train_softmax.json"} < results(clone).keys()
    assert results(clone) == results(uninterrupted)
    assert not [*clone.glob("data/runs/*.checkpoint"), *clone.glob("reports/**/*.failed")]


@pytest.fixture
def finished(uninterrupted, tmp_path):
    """The small study after a run, and what a plan says of it then."""
    clone = small_study.again(uninterrupted, tmp_path / "study")
    return clone, lambda: run(clone, "--dry-run").stdout


def test_what_changed_runs_again_and_nothing_else(finished):
    clone, would = finished
    with (clone / "workflow" / "pages.py").open("a") as stream:
        stream.write("\n")
    shown = "reports/synthetic/index.html: Updated input files: workflow/pages.py\nsteps that would run: 1\n"
    assert would() == shown
    said = [run(clone) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0]
    assert ["nothing has changed" in done.stderr for done in said] == [False, True]
    # As a published report lies in a clone: pages without what they were made from.
    report = clone / "reports" / "synthetic"
    (report / "data.json").unlink()
    for folder in (report / "runs", report / "notebooks", clone / ".snakemake"):
        shutil.rmtree(folder)
    plan = would()
    assert all(f"reports/synthetic/{made}: " in plan for made in ("data.json", "runs/softmax.json", "index.html"))


def test_nothing_stale_hides_behind_dates_or_lost_records(finished):
    clone, would = finished
    for path in (clone / "reports").rglob("*.*"):
        os.utime(path, times=(2**32, 2**32))  # made while the clock was wrong, far in the future
    assert would() == "no steps would run\n"
    with (clone / "workflow" / "pages.py").open("a") as stream:
        stream.write("ANOTHER = 1\n")
    os.utime(clone / "workflow" / "pages.py", (1, 1))  # unpacked from an archive of older files
    assert would().startswith("reports/synthetic/index.html: ")
    for record, content in ("data.json", '{"rule": "da'), ("runs/softmax.json", ""):
        name = urlsafe_b64encode(f"reports/synthetic/{record}".encode()).decode()
        (clone / ".snakemake" / "metadata" / name).write_text(content)
    plan = would()
    assert all(f"reports/synthetic/{made}: " in plan for made in ("data.json", "runs/softmax.json"))


def test_a_failing_cell_ends_the_run_with_its_name_and_keeps_the_notebook(finished):
    clone, _ = finished
    path = clone / "notebooks" / "04_train_softmax.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][-2]["source"] = "print('before')"
    notebook["cells"][-1]["source"] = "raise ValueError('too\\nbad')"
    path.write_text(json.dumps(notebook))
    done = run(clone)
    assert (done.returncode, done.stdout) == (1, "")
    partial = "reports/synthetic/notebooks/04_train_softmax.partial.ipynb"
    step, *ends = done.stderr.splitlines()
    assert step.startswith("[1/2] notebook 04 train softmax · ")
    assert ends == [
        f"all that the steps printed: {clone}/.snakemake/log/study.log",
        f"FAILED notebooks/04_train_softmax.ipynb, cell conclusion: ValueError: too · see {partial}",
    ]
    assert "before" in (clone / partial).read_text()
