#!/usr/bin/env bash
# Predicts the test set: bash infer.sh experiment=NAME[,NAME...] key=value ... (--help tells all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
phalanx_command infer "$@"
