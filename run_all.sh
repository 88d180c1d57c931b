#!/usr/bin/env bash
# Lock, environment, then the whole study by workflow/engine.py; the options are in workflow/options.py.
set -euo pipefail
caller=$PWD
cd "$(dirname "$(readlink -f "$0")")"
unset ${!PYTHON@} # what is set for other Pythons

told=$(python3 -I workflow/options.py "$caller" "$@") || exit
[[ $told == cluster=* ]] || { echo "$told"; exit; } # --help
eval "$told"
report=reports/$STUDY_NAME log=.snakemake/log/study.log

# Whatever has failed: on a full disk that is why.
full() { df -Pk . "${TMPDIR:-/tmp}" | awk 'NR > 1 && $4 < 16384 { print $6; exit }'; }
trap '(($? == 0)) || [[ -z $(full) ]] || {
    echo "error: No space left on device: $(full); free some, then run the same command again" >&2
    find lib study workflow .venv/lib -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null
}' EXIT
[[ -z $(full) ]] || export PYTHONDONTWRITEBYTECODE=1 # it would stumble over halves of compiled modules ever after
stamp="$(cat requirements.txt requirements-torch.txt workflow/environment.py | sha256sum) $PWD"
ready() { [[ -f .venv/stamp && $(<.venv/stamp) == "$stamp" ]]; }
folds() { .venv/bin/python -c "import yaml; print(yaml.safe_load(open('study.yaml'))['$STUDY_PROFILE']['folds'])"; }
read_data() { .venv/bin/python -m study.sources "$STUDY_DATA" --folds "$(folds)" "$@"; }
# Reading a folder waits for no other run and leaves everything as it is.
[[ -z $check ]] || ! ready || { read_data --check; exit; }
exec 9>.lock
flock -n 9 || { echo "another run is at work here; waiting for it" >&2; flock 9; }
cancel_jobs() { # of a killed run, waiting or at work: their steps are this run's
    { [[ ! -d .snakemake/slurm_logs ]] || squeue --me --noheader --format='%i %Z' |
        awk -v here="$PWD" 'substr($0, index($0, " ") + 1) == here { print $1 }' | xargs -r scancel; } &&
        { [[ ! -f $cluster/cancel.py || ! -f .venv/profile ]] || .venv/bin/python "$cluster/cancel.py" >&2; }
}
cancel_jobs || echo "the cluster does not answer: jobs that a killed run has left may still be at work" >&2
exec 8<>.steps
flock -n 8 || { echo "waiting for the steps that a killed run has left" >&2; flock 8; }
exec 8>&-
find data reports -name '.*.tmp' -prune -exec rm -rf {} + 2>/dev/null || true # what killed steps left
if [[ -n $setup ]] || ! ready; then
    python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' ||
        { echo "error: Python 3.11 or 3.12 is needed as python3" >&2; exit 2; }
    ready || { rm -f .venv/stamp; python3 -I workflow/environment.py; echo "$stamp" >.venv/stamp; }
    [[ ! -e .git ]] || { git update-index -q --refresh; git config include.path ../workflow/gitconfig; } || echo "git will see outputs of notebooks" >&2
fi
[[ -z $check ]] || { read_data --check; exit; }
wanted=$cluster/requirements.txt
if [[ -n $cluster && -f $wanted ]] && ! cmp -s "$wanted" .venv/profile; then
    .venv/bin/python -I workflow/environment.py -r "$wanted"
    cp "$wanted" .venv/profile
fi
[[ -z $setup ]] || { echo "environment ready: $PWD/.venv"; exit 0; }

export PATH=$PWD/.venv/bin:$PATH PYTHONUNBUFFERED=1
# Nothing is written outside this folder: what tools would keep in the home folder stays here.
cache=$PWD/.cache
export XDG_CACHE_HOME=$cache MPLCONFIGDIR=$cache/matplotlib IPYTHONDIR=$cache/ipython TORCHINDUCTOR_CACHE_DIR=$cache/inductor
export JUPYTER_CONFIG_DIR=$cache/jupyter JUPYTER_DATA_DIR=$cache/jupyter JUPYTER_RUNTIME_DIR=$cache/jupyter
export JUPYTER_PATH=$PWD/.venv/share/jupyter JUPYTER_PREFER_ENV_PATH=1
# This run has its lock already; Snakemake's own would take braces in the folder's name for wildcards.
work=(python -m workflow.engine --nolock --rerun-incomplete ${STUDY_FRESH:+--forceall})
[[ -z $cluster ]] && work+=(--cores all) || work+=(--workflow-profile "$cluster")
if [[ -n $dry_run ]]; then
    "${work[@]}" --dry-run || { tail -n 5 "$log" >&2; exit 2; }
    ! grep -qs '^Nothing to be done' "$log" || echo "no steps would run"; exit
fi
# Wrong data and a mechanism that breaks its contract are refused in one line before the workflow starts.
! grep -q '^ *mechanisms:' study.yaml && [[ $STUDY_MECHANISMS == "[]" ]] || python -m study.contract
[[ $STUDY_DATA == synthetic ]] || read_data >/dev/null
[[ -z $verify || ! -f $report/index.html ]] || rm -rf "$report" "$STUDY_KEPT" # a finished verification's
[[ -z $STUDY_FRESH ]] || rm -rf data/measurements/local
find "$report" -name '*.failed' -delete 2>/dev/null || true
[[ -z $cluster ]] && stop=TERM || stop=INT # at which Snakemake cancels its jobs
status=0 ended=
set -m # the workflow is a process group of its own, so that a signal to this script ends every step
"${work[@]}" >&2 &
trap 'ended=yes; kill -"$stop" -- "-$!" 2>/dev/null' INT TERM HUP
wait $! 2>/dev/null || status=$? # without bash's own words on a killed process
while kill -0 $! 2>/dev/null; do wait $! || status=$?; done
if ((status)); then
    cancel_jobs || true
    said=$(find "$report" -name '*.failed' -exec cat {} + 2>/dev/null | sort) || true
    [[ -z $cluster ]] || said=$(grep -v ": was killed" <<<"$said" || echo "$said") # as jobs look that are cancelled then
    ((status != 137)) || said="FAILED: the workflow (Snakemake) was killed, as happens when memory runs out"
    [[ -z $cluster || ! -d .snakemake/slurm_logs ]] || log=.snakemake/slurm_logs
    [[ -n $ended ]] || printf '%s\n' "all that the steps printed: $PWD/$log" "${said:-$(tail -n 5 "$log")}" >&2
    exit $status
fi
! grep -qs '^Nothing to be done' "$log" || echo "nothing has changed: the report is as it was" >&2
[[ -z $verify ]] || python -m workflow.verify "${report%-verify}" "$report" >&2 || status=$?
echo "$PWD/$report/index.html"
exit $status
