"""What the study does to disks: a full one stops it and spoils nothing; outside of its own place it writes nothing."""

import namespace
import pytest
import small_study

from workflow import verify

LIMIT = 900.0  # seconds that all runs of a test may take on a loaded machine

GROWING = """
study=$1 kept=$2; shift 2
mkdir "$kept" "$kept/disk"
mount -t tmpfs small "$kept/disk"
cp -a "$study/." "$kept/disk"
mount --bind "$kept/disk" "$study"
cd "$study"
for room; do
    mkdir "$kept/$room"
    mount -o remount,size=$(($(du -sk . | cut -f 1) + room))k "$kept/disk"
    ./run_all.sh --quick >"$kept/$room/out" 2>"$kept/$room/err" && status=0 || status=$?
    echo $status
    [[ ! -d reports ]] || cp -a reports/. "$kept/$room"
done
"""
"""The study $1 on a disk that is by $3, $4, ... KiB larger than what is on it, in turn; what it says goes to $2."""
ROOMS = {
    100: "FAILED reports/synthetic/data.json: ",
    1100: "FAILED reports/synthetic/runs/softmax.json: ",
    6000: "FAILED notebooks/04_train_softmax.ipynb, ",
}
"""KiB of room, and how the run ends that has no more: events take 1,000, trainings 4,000, the notebook 8,000."""
ENOUGH = 40000
PRINTED = "\nprint('much' * 2_000_000)"
"""What the notebook prints."""

SEALED = """
writable=("$1" "$2" "$3"); cd "$1"; shift 3
for place in "${writable[@]}"; do mount --bind "$place" "$place"; done
while read -r _ _ _ _ mounted _; do
    mounted=$(printf %b "$mounted")
    [[ " ${writable[*]} " == *" $mounted "* ]] || mount -o remount,bind,ro "$mounted"
done </proc/self/mountinfo
cd "$PWD"
[[ ! -w /tmp ]]
./run_all.sh "$@"
"""
"""The study $1 where only it and the folders $2 and $3 can be written; options follow."""


@pytest.fixture(autouse=True)
def _own_file_systems():
    namespace.needed()


def test_a_full_disk_stops_the_study_in_one_line_and_spoils_nothing(tmp_path, uninterrupted):
    study, kept = small_study.copy(tmp_path / "study", body=small_study.BODY + PRINTED), tmp_path / "kept"
    done = namespace.run(GROWING, study, kept, *ROOMS, ENOUGH, limit=LIMIT)
    assert done.stdout.split() == [*["1"] * len(ROOMS), "0"], done.stderr
    for room, ends in ROOMS.items():
        *_, failed, why = (kept / str(room) / "err").read_text().splitlines()
        assert failed.startswith(ends)
        assert "No space left on device" in failed
        assert why == f"error: No space left on device: {study}; free some, then run the same command again"
        assert small_study.broken_files(kept / str(room) / "synthetic") == []
    assert verify.compared_files(kept / str(ENOUGH) / "synthetic") == small_study.results(uninterrupted)


def test_nothing_is_written_outside_the_study_and_the_temporary_folder(tmp_path, bank_folder):
    study = small_study.copy(tmp_path / "study", "01_data")  # it trains itself
    places = [tmp_path / "home", tmp_path / "temporary"]
    for place in places:
        place.mkdir()
    options = ("--quick", "--data", bank_folder, "--out", "bank")
    done = namespace.run(SEALED, study, *places, *options, limit=LIMIT, HOME=places[0], TMPDIR=places[1])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{study}/reports/bank/index.html\n"
    assert [path for place in places for path in place.iterdir()] == []
