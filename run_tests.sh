#!/usr/bin/env bash
# The environment when it is missing, then the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
./run_all.sh --setup >&2
unset ${!PYTHON@} JUPYTER_PATH # what is set for other Pythons
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} exec .venv/bin/python -m pytest --numprocesses auto "$@"
