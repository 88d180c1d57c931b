"""The study killed at random moments, then run on: its tables, claims and figures are an uninterrupted run's.

STUDY_KILLS=20 ./run_tests.sh tests/test_survival.py     (kills 20 times, minutes; without it 3 times)
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import psutil
import pytest
import small_study

from lib import verify

KILLS = int(os.environ.get("STUDY_KILLS", "3"))
SHORTEST, LONGEST = 1.0, 12.0  # seconds until a kill
LIMIT = 600.0  # seconds that a run may take on a loaded machine


def run(clone, *options, **environment):
    command = ["./run_all.sh", "--quick", *options]
    environment = os.environ | environment
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=LIMIT, env=environment)


def start(clone):
    """The study at work, as a user's shell starts it."""
    command = ["./run_all.sh", "--quick"]
    with (clone / "log").open("a") as log:
        return subprocess.Popen(command, cwd=clone, stdout=log, stderr=log, start_new_session=True)


def finish(clone):
    done = run(clone)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{clone}/reports/synthetic/index.html\n"
    return verify.compared_files(clone / "reports" / "synthetic")


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
            if each.cmdline()[1:3] == ["-m", "snakemake"]:
                each.kill()


def end_politely(process):
    with_signal(psutil.Process(process.pid), signal.SIGTERM)


def with_signal(process, number):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def broken_files(clone):
    """Files of the report that are empty or end in the middle."""
    report = clone / "reports" / "synthetic"
    ends = {
        "*.html": (b"</html>", b"</html>\n"),
        "tables/*.csv": b"\n",
        "claims/*.json": b"]\n",
        "figures/*.svg": b"</svg>\n",
    }
    return [
        path for pattern, end in ends.items() for path in report.glob(pattern) if not path.read_bytes().endswith(end)
    ]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return small_study.copy(tmp_path_factory.mktemp("survival") / "study")


def test_a_study_killed_at_random_moments_ends_as_an_uninterrupted_one(clone):
    expected = finish(clone)
    assert {"tables/04_train_softmax.csv", "claims/04_train_softmax.json"} < expected.keys()
    moments, ways = random.Random(KILLS), [end_at_once, end_politely, end_workflow, end_script]
    fresh_start(clone)
    for number in range(KILLS):
        process = start(clone)
        time.sleep(moments.uniform(SHORTEST, LONGEST))
        if process.poll() is not None:
            assert process.returncode == 0
            assert verify.compared_files(clone / "reports" / "synthetic") == expected
            fresh_start(clone)
            continue
        ways[number % len(ways)](process)
        process.wait(LIMIT)
        assert broken_files(clone) == []
    assert finish(clone) == expected
    assert not list((clone / "data" / "runs").glob("*.checkpoint"))


def test_what_changed_is_named_and_nothing_is_written_to_the_home_folder(clone, tmp_path):
    with (clone / "lib" / "pages.py").open("a") as stream:
        stream.write("\n")
    shown = run(clone, "--dry-run").stdout.splitlines()
    assert shown[0] == "reports/synthetic/04_train_softmax.html: Updated input files: lib/pages.py"
    assert shown[-1] == "2 steps would run"
    said = [run(clone, HOME=str(tmp_path)) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0]
    assert ["nothing has changed" in done.stderr for done in said] == [False, True]
    assert list(tmp_path.iterdir()) == []
    assert run(clone, "--dry-run").stdout == "nothing would run\n"
    # As a published report lies in a clone: pages without what they were made from.
    report = clone / "reports" / "synthetic"
    (report / "data.json").unlink()
    for folder in ("runs", "notebooks"):
        shutil.rmtree(report / folder)
    would = run(clone, "--dry-run").stdout
    assert all(f"reports/synthetic/{made}: " in would for made in ("data.json", "04_train_softmax.html", "index.html"))


def test_a_failing_cell_ends_the_run_with_its_name_and_keeps_the_notebook(tmp_path):
    clone = small_study.copy(tmp_path / "study", "01_data", "print('before')", "raise ValueError('too\\nbad')")
    done = run(clone)
    assert (done.returncode, done.stdout) == (1, "")
    partial = "reports/synthetic/notebooks/01_data.partial.ipynb"
    assert done.stderr.splitlines()[-1] == (
        f"FAILED notebooks/01_data.ipynb, cell conclusion (In [4]): ValueError: too · see {partial}"
    )
    assert "before" in (clone / partial).read_text()


def fresh_start(clone):
    shutil.rmtree(clone / "reports")
    for kept in ("raw", "processed", "runs"):
        shutil.rmtree(clone / "data" / kept, ignore_errors=True)
