#!/usr/bin/env bash
# Trains folds: bash train.sh fold=0..4 experiment=NAME data=NAME key=value ... (--help tells all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
phalanx_command train "$@"
