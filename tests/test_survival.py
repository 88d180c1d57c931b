"""The study killed at random moments, then run on: its tables, claims and figures are an uninterrupted run's.

STUDY_KILLS=20 ./run_tests.sh tests/test_survival.py     (kills 20 times, minutes; without it twice)
"""

import contextlib
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

KILLS = int(os.environ.get("STUDY_KILLS", "2"))
SHORTEST, LONGEST = 1.0, 12.0  # seconds until a kill
AT_WORK = 50 * 2**20  # bytes of memory


def start(clone):
    """The study at work, as a user's shell starts it."""
    command = ["./run_all.sh", "--quick"]
    with (clone / "log").open("a") as log:
        return subprocess.Popen(command, cwd=clone, stdout=log, stderr=log, start_new_session=True)


def finish(clone):
    done = run(clone)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{clone}/reports/synthetic/index.html\n"
    return results(clone)


def whole_tree(process):
    family = psutil.Process(process.pid)
    return [*family.children(recursive=True), family]


def end_at_once(process):
    """What a full memory, a power cut or a closed session does to all of it."""
    for each in whole_tree(process):
        with_signal(each, signal.SIGKILL)


def end_script(process):
    with_signal(psutil.Process(process.pid), signal.SIGKILL)


def end_workflow(process):
    """Only the scheduler dies; its steps live on and must not be disturbed by the next run."""
    for each in whole_tree(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.cmdline()[1:3] == ["-m", "workflow.engine"]:
                each.kill()


def end_largest(process):
    """What the system does when memory runs out."""
    with contextlib.suppress(psutil.NoSuchProcess):
        max(whole_tree(process), key=lambda each: each.memory_info().rss).kill()


def end_politely(process):
    with_signal(psutil.Process(process.pid), signal.SIGTERM)


def with_signal(process, number):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@pytest.fixture
def clone(tmp_path):
    return small_study.copy(tmp_path / "study")


def test_a_study_killed_at_random_moments_ends_as_an_uninterrupted_one(clone, uninterrupted):
    assert {"tables/04_train_softmax.csv", "claims/04_train_softmax.json"} < results(uninterrupted).keys()
    moments, ways = random.Random(KILLS), [end_at_once, end_script, end_politely, end_largest, end_workflow]
    for number in range(KILLS):
        process = start(clone)
        time.sleep(moments.uniform(SHORTEST, LONGEST))
        if process.poll() is not None:
            assert process.returncode == 0
            assert results(clone) == results(uninterrupted)
            fresh_start(clone)
            continue
        ways[number % len(ways)](process)
        process.wait(LIMIT)
        assert broken_files(clone / "reports" / "synthetic") == []
    assert finish(clone) == results(uninterrupted)
    assert not list((clone / "data" / "runs").glob("*.checkpoint"))


KILLED = {
    "workflow.engine": r"FAILED: the workflow \(Snakemake\) was killed, as happens when memory runs out",
    "study.train": r"FAILED reports/synthetic/runs/softmax\.json: was killed, as happens when memory runs out",
    "ipykernel_launcher": r"FAILED notebooks/04_train_softmax.ipynb, .*: its kernel was killed, as happens when .*",
}
"""What is killed, and the last line of a run then."""


def test_a_run_says_which_of_its_processes_was_killed_and_goes_on(clone, uninterrupted):
    for victim, said in KILLED.items():
        process = start(clone)
        while process.poll() is None and not killed(victim, process):
            time.sleep(0.05)
        assert process.wait(LIMIT) != 0
        assert re.fullmatch(said, (clone / "log").read_text().splitlines()[-1])
    assert finish(clone) == results(uninterrupted)
    assert not list(clone.glob("reports/**/*.failed"))


def killed(word, process):
    """Whether a process with the word in its command line was at work, and now is not."""
    for each in whole_tree(process):
        with contextlib.suppress(psutil.Error):
            if word in each.cmdline() and each.memory_info().rss > AT_WORK:
                each.kill()
                return True
    return False


def test_what_changed_is_named_and_nothing_is_written_to_the_home_folder(uninterrupted, tmp_path):
    clone, home = small_study.again(uninterrupted, tmp_path / "study"), tmp_path / "home"
    home.mkdir()
    with (clone / "workflow" / "pages.py").open("a") as stream:
        stream.write("\n")
    shown = run(clone, "--dry-run").stdout.splitlines()
    assert shown == [
        "reports/synthetic/index.html and others: Updated input files: workflow/pages.py",
        "1 steps would run",
    ]
    said = [run(clone, HOME=str(home)) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0]
    assert ["nothing has changed" in done.stderr for done in said] == [False, True]
    assert list(home.iterdir()) == []
    assert run(clone, "--dry-run").stdout == "nothing would run\n"
    # As a published report lies in a clone: pages without what they were made from.
    report = clone / "reports" / "synthetic"
    (report / "data.json").unlink()
    for folder in ("runs", "notebooks"):
        shutil.rmtree(report / folder)
    would = run(clone, "--dry-run").stdout
    assert all(f"reports/synthetic/{made}: " in would for made in ("data.json", "notebooks/04_train_softmax.ipynb"))
    assert "reports/synthetic/index.html and others: " in would


def test_nothing_stale_hides_behind_dates_or_lost_records(uninterrupted, tmp_path):
    clone = small_study.again(uninterrupted, tmp_path / "study")

    def would():
        return run(clone, "--dry-run").stdout

    for path in (clone / "reports").rglob("*.*"):
        os.utime(path, times=(2**32, 2**32))  # made while the clock was wrong, far in the future
    assert would() == "nothing would run\n"
    report = clone / "reports" / "synthetic"
    for path in report.rglob("*.*"):
        os.utime(path)
    with (clone / "workflow" / "pages.py").open("a") as stream:
        stream.write("ANOTHER = 1\n")
    os.utime(clone / "workflow" / "pages.py", (1, 1))  # unpacked from an archive of older files
    assert would().startswith("reports/synthetic/index.html and others: ")
    for record, content in ("data.json", '{"rule": "da'), ("runs/softmax.json", ""):
        name = urlsafe_b64encode(f"reports/synthetic/{record}".encode()).decode()
        (clone / ".snakemake" / "metadata" / name).write_text(content)
    made = report / "notebooks" / "04_train_softmax.ipynb"
    made.write_bytes(made.read_bytes()[:-7])  # what a power cut leaves
    for file in ("data.json", "runs/softmax.json", "notebooks/04_train_softmax.ipynb"):
        assert f"reports/synthetic/{file}: " in would()


def test_a_failing_cell_ends_the_run_with_its_name_and_keeps_the_notebook(tmp_path):
    clone = small_study.copy(tmp_path / "study", "01_data", "print('before')", "raise ValueError('too\\nbad')")
    done = run(clone)
    assert (done.returncode, done.stdout) == (1, "")
    partial = "reports/synthetic/notebooks/01_data.partial.ipynb"
    assert done.stderr.splitlines()[-1] == (
        f"FAILED notebooks/01_data.ipynb, cell conclusion (In [4]): ValueError: too · see {partial}"
    )
    assert "before" in (clone / partial).read_text()
    log = f"all that the steps printed: {clone}/.snakemake/log/study.log"
    steps, (said, _) = done.stderr.splitlines()[:-2], done.stderr.splitlines()[-2:]
    assert said == log
    # A line when each step begins, and the failure once.
    assert [re.sub(" · .*", "", step) for step in steps] == ["[1/3] data", "[2/3] notebook 01_data"]


def fresh_start(clone):
    shutil.rmtree(clone / "reports")
    for kept in ("raw", "processed", "runs"):
        shutil.rmtree(clone / "data" / kept, ignore_errors=True)
