#!/usr/bin/env bash
# Environment, then the whole study: data, trainings, notebooks, pages (the graph of steps is in workflow/Snakefile).
set -euo pipefail
caller=$PWD
cd "$(dirname "$(readlink -f "$0")")"
unset ${!PYTHON@} # what is set for other Pythons

usage() {
    cat <<'TEXT'
Usage: ./run_all.sh [options]        (the last line printed is the path of the report)
  --data synthetic|sberbank|DIR   the transactions: generated (default), the public set (downloaded), or a folder
                                  with transactions.csv[.gz] and gender_train.csv in the bank's format, or with
                                  any labelled events that its dataset.yaml describes
  --quick, --full                 small parameters: minutes instead of tens of minutes; large ones: many hours
  --fresh                         ignore caches, kept measurements and earlier results
  --out NAME                      folder of the report under reports/ (default: the data's name)
  --profile slurm|kubernetes|DIR  the steps as jobs of a cluster (docs/cluster.md), instead of on all cores here;
                                  DIR: a folder with a Snakemake profile (config.yaml) of your own
  --threads N                     threads of every step (default 1, as everything published): with others, rounding differs
  --dry-run                       print what would run and why, and stop
  --verify                        make a report anew beside the old one and name every table row that differs: the one
                                  of --data or --out, by default the published quick one, reports/quick
  --check                         read and verify the folder of --data, print what was found, and stop
  --setup                         make the environment (.venv), keep outputs of notebooks out of git, and stop
  --help                          this text
STUDY_TORCH_INDEX=URL takes torch from that package index (for example a CPU-only one).
TEXT
}
refuse() { echo "error: $1" >&2; exit 2; }

data=synthetic profile=default fresh='' out='' setup='' dry='' verify='' cluster='' only_check='' threads=1
while (($#)); do
    case $1 in
        --data|--out|--profile|--threads)
            [[ $# -gt 1 && -n $2 ]] || refuse "$1 needs a value; see ./run_all.sh --help"
            case $1 in --data) data=$2 ;; --out) out=$2 ;; --profile) cluster=$2 ;; --threads) threads=$2 ;; esac
            shift ;;
        --quick|--full) profile=${1#--} ;; --fresh) fresh=yes ;; --setup) setup=yes ;;
        --dry-run) dry=yes ;; --verify) verify=yes ;; --check) only_check=yes ;;
        --help|-h) usage; exit 0 ;;
        *) refuse "unknown option $1; see ./run_all.sh --help" ;;
    esac
    shift
done
# A colon ends a folder in PATH; the others have a meaning in the first lines of commands that pip installs.
[[ $PWD != *[:\"\\\$\`$'\n']* ]] || refuse "$PWD: the study cannot live in a folder with one of : \" \\ \$ \` in its path"
[[ -z $only_check || ($data != synthetic && $data != sberbank) ]] || refuse "--check needs --data DIR"
[[ $threads =~ ^[1-9][0-9]*$ ]] || refuse "--threads $threads: give a whole number, at least 1"
if [[ $data != synthetic && $data != sberbank ]]; then
    data=$(cd "$caller" && readlink -m -- "$data")
    [[ -d $data ]] || refuse "$data: no such folder; give --data synthetic, sberbank or a folder"
    [[ -f $data/dataset.yaml || -f $data/transactions.csv || -f $data/transactions.csv.gz ]] ||
        refuse "$data: no transactions.csv or transactions.csv.gz, and no dataset.yaml that names other files"
fi
[[ -z $verify || -n $out || $data != synthetic ]] || out=quick
named=$out out=${out:-$(basename -- "$data" | LC_ALL=C sed -E 's/[^A-Za-z0-9._-]+/_/g; s/^[^A-Za-z0-9]+//')}
[[ -n $only_check || $out =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
    refuse "${out:-$data}: cannot name a report; give --out NAME of Latin letters, digits, dots, dashes and underscores"
report=reports/$out
if [[ -n $cluster ]]; then
    known=$(cd workflow/profiles && echo * | sed 's/ /, /g') given=$cluster
    [[ -d workflow/profiles/$cluster ]] && cluster=$PWD/workflow/profiles/$cluster || cluster=$(cd "$caller" && readlink -m -- "$cluster")
    [[ -f $cluster/config.yaml ]] || refuse "$given: no such profile; known: $known, or a folder with a config.yaml"
fi

# Whatever has failed: on a full disk that is why.
full() { df -Pk . "${TMPDIR:-/tmp}" | awk 'NR > 1 && $4 < 16384 { print $6; exit }'; }
trap '(($? == 0)) || [[ -z $(full) ]] || {
    echo "error: No space left on device: $(full); free some, then run the same command again" >&2
    find lib study workflow -name __pycache__ -prune -exec rm -rf {} +
}' EXIT
# On a full disk Python leaves halves of compiled modules, over which it would stumble ever after.
[[ -z $(full) ]] || export PYTHONDONTWRITEBYTECODE=1
stamp="$(cat requirements.txt requirements-torch.txt workflow/{environment,jupyter_config}.py | sha256sum) $PWD"
ready() { [[ -f .venv/stamp && $(<.venv/stamp) == "$stamp" ]]; }
check_data() {
    local folds='import sys, yaml; print(yaml.safe_load(open("study.yaml"))[sys.argv[1]]["folds"])'
    .venv/bin/python -m study.sources "$data" "$@" --folds "$(.venv/bin/python -c "$folds" "$profile")"
}
# Reading a folder waits for no other run and leaves everything as it is.
[[ -z $only_check ]] || ! ready || { check_data --check; exit; }
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
    python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || refuse "Python 3.11 or 3.12 is needed as python3"
    python3 -I workflow/environment.py "$stamp"
fi
[[ -z $only_check ]] || { check_data --check; exit; }
wanted=$cluster/requirements.txt
if [[ -n $cluster && -f $wanted ]] && ! cmp -s "$wanted" .venv/profile; then
    .venv/bin/python -I workflow/environment.py -r "$wanted"
    cp "$wanted" .venv/profile
fi
[[ -z $setup ]] || { echo "environment ready: $PWD/.venv"; exit 0; }

export PATH=$PWD/.venv/bin:$PATH STUDY_THREADS=$threads PYTHONUNBUFFERED=1
# Nothing is written outside this folder: what tools would keep in the home folder stays here.
export XDG_CACHE_HOME=$PWD/.cache MPLCONFIGDIR=$PWD/.cache/matplotlib IPYTHONDIR=$PWD/.cache/ipython
export TORCHINDUCTOR_CACHE_DIR=$PWD/.cache/torchinductor
# The kernel of .venv comes before all others.
export JUPYTER_PATH=$PWD/.venv/share/jupyter JUPYTER_PREFER_ENV_PATH=1
export JUPYTER_CONFIG_DIR=$PWD/.cache/jupyter JUPYTER_DATA_DIR=$PWD/.cache/jupyter JUPYTER_RUNTIME_DIR=$PWD/.cache/jupyter
noted() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2" 2>/dev/null || true; }
made_from=$(noted "$report/data.json" source)
[[ -n $named || -z $made_from || $made_from == "$data" ]] ||
    refuse "$report was made from $made_from; give --out NAME or remove that report"
if [[ -n $verify ]]; then
    published=$report out=$out-verify
    profile=$(noted "$report/parameters.json" profile)
    [[ -n $profile && ${made_from:-$data} == "$data" ]] || refuse "$report: no finished report of $data to verify"
    report=reports/$out made_from=''
    export STUDY_KEPT=$PWD/data/verify/$out
    [[ ! -f $report/index.html ]] || rm -rf "$report" "$STUDY_KEPT" # a killed verification goes on, a finished one is over
fi
export STUDY_DATA=$data STUDY_NAME=$out STUDY_PROFILE=$profile STUDY_FRESH=$fresh
# This run has its lock already; Snakemake's own would take braces in the folder's name for wildcards.
work=(python -m workflow.run "$report" --cores all --nolock) stop=TERM
# At SIGINT Snakemake cancels its jobs; a run in the background of a script would ignore it.
[[ -z $cluster ]] || work=(env --default-signal=INT python -m workflow.run "$report" --nolock --workflow-profile "$cluster") stop=INT
work+=(--rerun-incomplete ${fresh:+--forceall})
# A clock that went back makes files of the future: sources count as new, results as old, so that contents decide.
touch .lock
find lib study workflow notebooks data/facts data/measurements data/tuning -newer .lock -exec touch -r .lock {} + 2>/dev/null || true
find "$report" -newer .lock -exec touch -t 197001020000 {} + 2>/dev/null || true
log=.snakemake/log/study.log
if [[ -n $dry ]]; then
    plan=$("${work[@]}" --dry-run) || refuse "the steps cannot be planned: $(tail -n 5 "$log")"
    echo "$plan"
    exit
fi

# Wrong data are refused in one line before the workflow starts, unless a finished report has seen the same data.
check=$fresh
[[ $made_from == "$data" && $(noted "$report/parameters.json" profile) == "$profile" ]] || check=yes
kept=${data/#sberbank/data/raw/sberbank}
[[ ! -d $kept || -z $(find -L "$kept" -maxdepth 1 -newer "$report/data.json" 2>/dev/null) ]] || check=yes
[[ $data == synthetic || -z $check ]] || check_data >/dev/null
[[ -z $fresh ]] || rm -rf data/measurements/local
made() { date -r "$report/index.html" +%s%N 2>/dev/null || true; }
before=$(made)
find "$report" -name '*.failed' -delete 2>/dev/null || true
set -m # the workflow is a process group of its own, so that a signal to this script ends every step
"${work[@]}" >&2 &
status=0 ended=''
trap 'ended=yes; kill -"$stop" -- "-$!" 2>/dev/null' INT TERM HUP
wait $! || status=$?
while kill -0 $! 2>/dev/null; do wait $! || status=$?; done
if [[ $status != 0 ]]; then
    cancel_jobs || true
    [[ ! -d .snakemake/slurm_logs ]] || echo "what failed jobs printed: $PWD/.snakemake/slurm_logs"
    said=$(find "$report" -name '*.failed' -exec cat {} + 2>/dev/null || true)
    why=$(echo "$said" | grep -v ": was killed" || true)
    [[ -z $cluster || -z $why ]] || said=$why # the jobs that are cancelled then look killed, too
    [[ -n $ended || $status == 137 || -n $cluster ]] || echo "all that the steps printed: $PWD/$log"
    [[ -n $ended || $status == 137 ]] || echo "${said:-$(tail -n 5 "$log")}"
    ((status != 137)) || echo "FAILED: the workflow (Snakemake) was killed, as happens when memory runs out"
    exit $status
fi >&2
[[ -z $before || $before != "$(made)" ]] || echo "nothing has changed: the report is as it was" >&2
[[ -z $verify ]] || python -m workflow.verify "$published" "$report" >&2 || status=1
echo "$PWD/$report/index.html"
exit $status
