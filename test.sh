#!/usr/bin/env bash
# Runs the tests: bash test.sh [pytest options]. The default takes some minutes; `bash test.sh -m slow` the long ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
for word in "$@"; do
    if [[ "$word" == --help || "$word" == -h ]]; then
        sed -n 2p test.sh | cut -c3-
        exit 0
    fi
done
prepare
exec "$VENV/bin/python" -m pytest "$@"
