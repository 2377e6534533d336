#!/usr/bin/env bash
# Downloads the packages of requirements.txt into wheels/, for infer.sh where there is no network: bash fetch_wheels.sh
#
#   PYTHON=/path/to/python    any Python with pip (default: python3); the wheels are for Python @PYTHON@ on @MACHINE@
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
"${PYTHON:-python3}" -m pip @WORDS@
echo "fetch_wheels.sh: $(find wheels -name "*.whl" | wc -l) wheels, $(du -sh wheels | cut -f1)"
