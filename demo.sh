#!/usr/bin/env bash
# The whole job on synthetic hands: bash demo.sh [quick=true] (--help tells all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
phalanx_command demo "$@"
