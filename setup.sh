#!/usr/bin/env bash
# Prepares .venv once; the other scripts source this. A later call compares one stamp and returns at once.
#
#   PYTHON=python3.12 bash setup.sh        another interpreter (3.11 or later)
#   TORCH_INDEX=URL bash setup.sh          torch and torchvision from another package index, such as PyTorch's own
#                                          for CPU-only builds (much smaller) or another CUDA version
#   PHALANX_VENV=/path bash setup.sh       another place than .venv
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
VENV="${PHALANX_VENV:-$ROOT/.venv}"

prepare() {
    local wanted
    wanted="$(cat "$ROOT/requirements.txt" "$ROOT/pyproject.toml") ${PYTHON:-} ${TORCH_INDEX:-} $ROOT"
    if [[ -f "$VENV/ready" && "$(<"$VENV/ready")" == "$wanted" ]]; then
        return
    fi
    mkdir -p "$(dirname "$VENV")"
    exec 9>"$VENV.lock"
    if command -v flock >/dev/null; then flock 9; fi # two scripts started at once: the second waits
    if [[ -f "$VENV/ready" && "$(<"$VENV/ready")" == "$wanted" ]]; then
        return
    fi
    local python began=$SECONDS
    python="$(find_python)"
    echo "setup: preparing $VENV with $("$python" --version); some minutes, once" >&2
    rm -f "$VENV/ready"
    [[ -x "$VENV/bin/python" ]] && "$VENV/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$VENV"
    if [[ -n "${TORCH_INDEX:-}" ]]; then
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --index-url "$TORCH_INDEX" \
            $(grep -E '^(torch|torchvision)==' "$ROOT/requirements.txt")
    fi
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements.txt"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e "$ROOT"
    echo "$((SECONDS - began))" >"$VENV/seconds"
    printf '%s' "$wanted" >"$VENV/ready.part"
    mv "$VENV/ready.part" "$VENV/ready"
    echo "setup: done in $(<"$VENV/seconds") s" >&2
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "setup: no Python 3.11 or later found (${PYTHON:-python3}); install one, or name it with PYTHON=/path/to/python" >&2
    exit 2
}

# Runs `phalanx COMMAND ...`. Help needs no environment: any Python prints it.
phalanx_command() {
    local word
    for word in "${@:2}"; do
        if [[ "$word" == --help || "$word" == -h ]]; then
            local python
            python="$(find_python)"
            PYTHONPATH="$ROOT/src" exec "$python" -m phalanx "$@"
        fi
    done
    prepare
    exec "$VENV/bin/phalanx" "$@"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    prepare
    echo "setup: ready; commands are in $VENV/bin"
fi
