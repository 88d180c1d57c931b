#!/usr/bin/env bash
# The environment when it is missing, then the tests; arguments go to pytest.
# ./run_tests.sh --mechanism NAME tests a class of your own against the contract of docs/mechanism.md instead.
set -euo pipefail
caller=$PWD
cd "$(dirname "$(readlink -f "$0")")"
./run_all.sh --setup >&2
wanted=tests/requirements.txt
if ! cmp -s "$wanted" .venv/tests; then
    .venv/bin/python -I workflow/environment.py -r "$wanted"
    cp "$wanted" .venv/tests
fi
unset ${!PYTHON@} JUPYTER_PATH # what is set for other Pythons
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
if [[ ${1:-} == --mechanism ]]; then
    exec .venv/bin/python -m study.contract --caller "$caller" "${@:2}"
fi
# One more than there are cores: some tests wait, for a cluster or a killed process.
exec .venv/bin/python -m pytest --numprocesses $(($(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal "$@"
