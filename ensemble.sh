#!/usr/bin/env bash
# Votes members into one CSV: bash ensemble.sh mode=soft|hard members=A,B,C out=FILE.csv ... (--help tells all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
phalanx_command ensemble "$@"
