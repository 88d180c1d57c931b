#!/usr/bin/env bash
# Lock, environment, then the whole study by workflow/run.py; the options are in workflow/options.py.
set -euo pipefail
export STUDY_CALLER=$PWD
cd "$(dirname "$(readlink -f "$0")")"
unset ${!PYTHON@} # what is set for other Pythons

told=$(python3 -I workflow/options.py "$STUDY_CALLER" "$@") || exit
[[ $told == cluster=* ]] || { echo "$told"; exit; } # --help
eval "$told"

# Whatever has failed: on a full disk that is why.
full() { df -Pk . "${TMPDIR:-/tmp}" | awk 'NR > 1 && $4 < 16384 { print $6; exit }'; }
trap '(($? == 0)) || [[ -z $(full) ]] || {
    echo "error: No space left on device: $(full); free some, then run the same command again" >&2
    find lib study workflow .venv/lib -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null
}' EXIT
# On a full disk Python leaves halves of compiled modules, over which it would stumble ever after.
[[ -z $(full) ]] || export PYTHONDONTWRITEBYTECODE=1
stamp="$(cat requirements.txt requirements-torch.txt workflow/{environment,jupyter_config}.py | sha256sum) $PWD"
ready() { [[ -f .venv/stamp && $(<.venv/stamp) == "$stamp" ]]; }
# Reading a folder waits for no other run and leaves everything as it is.
check_data() { [[ -z $check ]] || { .venv/bin/python -m workflow.run "$@"; exit; }; }
! ready || check_data "$@"
exec 9>.lock
flock -n 9 || { echo "another run is at work here; waiting for it" >&2; flock 9; }
# Jobs of a killed run, waiting or at work: their steps are this run's.
cancel_jobs() {
    { [[ ! -d .snakemake/slurm_logs ]] || squeue --me --noheader --format='%i %Z' |
        awk -v here="$PWD" 'substr($0, index($0, " ") + 1) == here { print $1 }' | xargs -r scancel; } &&
        { [[ ! -f $cluster/cancel.py || ! -f .venv/profile ]] || .venv/bin/python "$cluster/cancel.py"; }
}
cancel_jobs || echo "the cluster does not answer: jobs that a killed run has left may still be at work" >&2
exec 8<>.steps
flock -n 8 || { echo "waiting for the steps that a killed run has left" >&2; flock 8; }
exec 8>&-
find data reports -name '.*.tmp' -prune -exec rm -rf {} + 2>/dev/null || true # what killed steps left
if [[ -n $setup ]] || ! ready; then
    python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' ||
        { echo "error: Python 3.11 or 3.12 is needed as python3" >&2; exit 2; }
    python3 -I workflow/environment.py "$stamp"
fi
check_data "$@"
wanted=$cluster/requirements.txt
if [[ -n $cluster && -f $wanted ]] && ! cmp -s "$wanted" .venv/profile; then
    .venv/bin/python -I workflow/environment.py -r "$wanted"
    cp "$wanted" .venv/profile
fi
[[ -z $setup ]] || { echo "environment ready: $PWD/.venv"; exit 0; }

export PATH=$PWD/.venv/bin:$PATH PYTHONUNBUFFERED=1
# Nothing is written outside this folder: what tools would keep in the home folder stays here.
export XDG_CACHE_HOME=$PWD/.cache MPLCONFIGDIR=$PWD/.cache/matplotlib IPYTHONDIR=$PWD/.cache/ipython
export TORCHINDUCTOR_CACHE_DIR=$PWD/.cache/torchinductor
# The kernel of .venv comes before all others.
export JUPYTER_PATH=$PWD/.venv/share/jupyter JUPYTER_PREFER_ENV_PATH=1
export JUPYTER_CONFIG_DIR=$PWD/.cache/jupyter JUPYTER_DATA_DIR=$PWD/.cache/jupyter JUPYTER_RUNTIME_DIR=$PWD/.cache/jupyter
stop=TERM
[[ -z $cluster ]] || stop=INT # at which Snakemake cancels its jobs
set -m # the workflow is a process group of its own, so that a signal to this script ends every step
status=0
python -m workflow.run "$@" &
trap 'kill -"$stop" -- "-$!" 2>/dev/null' INT TERM HUP
wait $! || status=$?
while kill -0 $! 2>/dev/null; do wait $! || status=$?; done
((status == 0)) || cancel_jobs || true
exit $status
