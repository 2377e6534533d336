#!/usr/bin/env bash
# Runs the tests: bash test.sh [pytest options]. The default takes some minutes; `bash test.sh -m slow` the long ones.
# Two processes share them, a file each at a time; `-n 0` runs them one after another, as a debugger needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
for word in "$@"; do
    if [[ "$word" == --help || "$word" == -h ]]; then
        sed -n 2,3p test.sh | cut -c3-
        exit 0
    fi
done
prepare
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$VENV/bin/python" -m pytest -n 2 --dist loadfile "$@"
