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
    if is_ready; then return; fi
    mkdir -p "$(dirname "$VENV")"
    exec 9>>"$VENV.lock" # to append, which changes nothing behind a link
    if command -v flock >/dev/null; then flock 9; fi # two scripts started at once: the second waits
    if is_ready; then return; fi
    local python began=$SECONDS choice="${PYTHON:-} ${TORCH_INDEX:-}"
    python="$(find_python)"
    echo "setup: preparing $VENV with $("$python" --version); some minutes, once" >&2
    if [[ ! -f "$VENV/choice" || "$(<"$VENV/choice")" != "$choice" ]] || ! "$VENV/bin/python" -c '' 2>/dev/null; then
        "$python" -m venv --clear "$VENV"
        printf '%s' "$choice" >"$VENV/choice"
    fi
    rm -f "$VENV/ready"
    local pip=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
    if [[ -n "${TORCH_INDEX:-}" ]]; then
        # shellcheck disable=SC2046 # two words are wanted
        "${pip[@]}" --index-url "$TORCH_INDEX" $(grep -E '^(torch|torchvision)==' "$ROOT/requirements.txt")
    fi
    "${pip[@]}" -r "$ROOT/requirements.txt"
    "${pip[@]}" --no-deps --no-build-isolation -e "$ROOT"
    # what making it took; a later update, much quicker, is another thing (--clear takes the file away)
    [[ -f "$VENV/seconds" ]] || echo "$((SECONDS - began))" >"$VENV/seconds"
    stamp >"$VENV/ready.part"
    mv "$VENV/ready.part" "$VENV/ready"
    exec 9>&-
    echo "setup: done in $((SECONDS - began)) s" >&2
}

# What an environment is made from; a choice by variables holds until another is made.
stamp() { printf '%s' "$(<"$ROOT/requirements.txt")" "$(<"$ROOT/pyproject.toml")" "$ROOT"; }

is_ready() {
    [[ -f "$VENV/ready" && "$(<"$VENV/ready")" == "$(stamp)" ]] || return 1
    [[ -z "${PYTHON:-}${TORCH_INDEX:-}" || "$(<"$VENV/choice")" == "${PYTHON:-} ${TORCH_INDEX:-}" ]]
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
