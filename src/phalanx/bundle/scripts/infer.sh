#!/usr/bin/env bash
# Predicts with the networks of this bundle, without network:
#
#   bash infer.sh data.root=DIR out=FILE.csv
#
#   data.root=DIR      a data set like that of training, whose test images are predicted; or images=DIR, any folder
#   out=FILE.csv       what is written (default: submissions/@NAME@.csv)
#   device=auto  batch=  precision=  workers=  devices=  progress=     as of phalanx infer, if its task has them
#
# It compares all files with SHA256SUMS, installs the packages in wheels/ into an environment, once, and predicts.
#
#   PYTHON=/path/to/python    the interpreter (default: python@PYTHON@, python3)
#   PHALANX_VENV=DIR          where the environment is made (default: below ~/.cache/phalanx)
#   PHALANX_ENV=present       use the packages of PYTHON instead, such as those of a notebook with its build of torch;
#                             only what is missing there is installed into it, from wheels/
set -euo pipefail
BUNDLE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
WANTED="@PYTHON@"
MACHINE="@MACHINE@"
ENVIRONMENT="${PHALANX_ENV:-venv}"
MARK=made-by-infer.sh # in folders that this script may replace

fail() {
    echo "infer.sh: $*" >&2
    exit 2
}

# The interpreter: with the Python that the wheels are for, or of any version from 3.11 on if its packages are used.
find_python() {
    local name test="sys.version_info[:2] == tuple(map(int, '$WANTED'.split('.')))"
    [[ "$ENVIRONMENT" == venv ]] || test="sys.version_info >= (3, 11)"
    for name in ${PYTHON:+"$PYTHON"} ${PYTHON:-"python$WANTED" python3 python}; do
        if "$name" -c "import sys; sys.exit(not ($test))" 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    if [[ "$ENVIRONMENT" == venv ]]; then
        fail "the wheels here are for Python $WANTED, and ${PYTHON:-python$WANTED or python3} is not that; name one with" \
            "PYTHON=/path/to/python$WANTED, bundle with python= of this machine, or use its packages with PHALANX_ENV=present"
    fi
    fail "no Python 3.11 or later found (${PYTHON:-python3}); name one with PYTHON=/path/to/python"
}

check_files() {
    "$1" - "$BUNDLE" <<'PYTHON'
import hashlib
import pathlib
import sys

bundle = pathlib.Path(sys.argv[1])
listed = {}
try:
    for line in (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        value, _, name = line.partition("  ")
        listed[name] = value
    for name, value in listed.items():
        with (bundle / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != value:
                sys.exit(f"infer.sh: {name}: was altered or cut off; copy the bundle again")
except OSError as error:
    sys.exit(f"infer.sh: {error.filename}: {error.strerror}; copy the bundle again")
for part in ("runs", "exports", "files"):
    for path in sorted((bundle / part).rglob("*")):
        if not path.is_dir() and path.relative_to(bundle).as_posix() not in listed:
            sys.exit(f"infer.sh: {path}: is not of this bundle; move it away")
if not {"manifest.json", "infer.sh", "requirements.txt"} <= listed.keys():
    sys.exit("infer.sh: SHA256SUMS: does not list the files of a bundle; copy the bundle again")
PYTHON
}

# pip without network, indexes and configuration of this machine.
pip_install() {
    local python="$1"
    shift
    PIP_CONFIG_FILE=/dev/null "$python" -m pip install --isolated --quiet --disable-pip-version-check --no-index \
        --find-links "$BUNDLE/wheels" "$@"
}

# What identifies this bundle, and below it a folder for what is installed or unpacked, each on a line.
places() {
    "$1" - "$BUNDLE/SHA256SUMS" "${PHALANX_VENV:-}" <<'PYTHON'
import hashlib
import os
import pathlib
import sys
import tempfile

key = hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()
if sys.argv[2]:
    print(key, os.path.abspath(sys.argv[2]), sep="\n")
    sys.exit()
cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
place = cache / "phalanx"
try:
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place):
        pass
except OSError:
    place = pathlib.Path(tempfile.gettempdir()) / f"phalanx-bundles-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.getuid():
        sys.exit(f"infer.sh: {place}: is not a folder of this user; name one with PHALANX_VENV=DIR")
print(key, place / f"{key[:16]}-{sys.version_info[0]}.{sys.version_info[1]}", sep="\n")
PYTHON
}

# Whether a folder was made by this script, or is not there, so that it may be replaced.
may_replace() {
    [[ ! -e "$1" || -f "$1/$MARK" ]] || { [[ -d "$1" && ! -L "$1" ]] && [[ -z "$(ls -A "$1")" ]]; }
}

prepare_venv() {
    local python="$1" venv="$2" key="$3" hashes=()
    [[ ! -f "$venv/ready" || "$(<"$venv/ready")" != "$key" ]] || return 0
    [[ "$(uname -sm)" == "$MACHINE" ]] ||
        fail "the wheels here are for $MACHINE, and this is $(uname -sm); bundle with platform= of this machine"
    [[ -n "$(find "$BUNDLE/wheels" -name '*.whl' ! -name 'phalanx-*' -print -quit)" ]] ||
        fail "wheels/ has no packages: run bash fetch_wheels.sh where there is network, or use those of this Python with" \
            "PHALANX_ENV=present"
    may_replace "$venv" || fail "$venv: was not made by this script; name another folder with PHALANX_VENV=DIR"
    echo "infer.sh: preparing $venv with $("$python" --version); some minutes, once" >&2
    mkdir -p "$(dirname "$venv")"
    exec 9>>"$venv.lock"
    if command -v flock >/dev/null; then flock 9; fi # two started at once: the second waits
    if [[ -f "$venv/ready" && "$(<"$venv/ready")" == "$key" ]]; then return; fi
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/$MARK"
    "$python" -m venv "$venv" ||
        fail "$python cannot make an environment; install its venv module, or use its packages with PHALANX_ENV=present"
    if grep -q -- --hash= "$BUNDLE/requirements.txt"; then hashes=(--require-hashes); fi
    pip_install "$venv/bin/python" ${hashes[@]+"${hashes[@]}"} -r "$BUNDLE/requirements.txt" ||
        fail "the packages cannot be installed from wheels/, see above"
    pip_install "$venv/bin/python" --no-deps "$BUNDLE"/wheels/phalanx-*.whl
    printf '%s' "$key" >"$venv/ready.part"
    mv "$venv/ready.part" "$venv/ready"
    exec 9>&-
}

# The code alone, for a Python that has the packages; of several started at once, the last stays.
unpack_code() {
    local python="$1" code="$2" key="$3"
    [[ ! -f "$code/ready" || "$(<"$code/ready")" != "$key" ]] || return 0
    may_replace "$code" || fail "$code: was not made by this script; name another folder with PHALANX_VENV=DIR"
    mkdir -p "$code.$$"
    touch "$code.$$/$MARK"
    "$python" -m zipfile -e "$BUNDLE"/wheels/phalanx-*.whl "$code.$$"
    printf '%s' "$key" >"$code.$$/ready"
    rm -rf "$code"
    mv "$code.$$" "$code" 2>/dev/null || rm -rf "$code.$$"
}

for word in "$@"; do
    if [[ "$word" == --help || "$word" == -h ]]; then
        sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit 0
    fi
done
[[ "$ENVIRONMENT" == venv || "$ENVIRONMENT" == present ]] || fail "PHALANX_ENV=$ENVIRONMENT: is neither venv nor present"
python="$(find_python)"
check_files "$python" || exit 2
found="$(places "$python")" || exit 2
key="${found%%$'\n'*}" place="${found#*$'\n'}"
export HF_HUB_OFFLINE=1 NO_ALBUMENTATIONS_UPDATE=1 # nothing asks the network
if [[ "$ENVIRONMENT" == venv ]]; then
    unset PYTHONPATH PYTHONHOME
    prepare_venv "$python" "$place" "$key"
    python="$place/bin/python"
else
    pip_install "$python" -r "$BUNDLE/ranges.txt" ||
        fail "$python lacks a package that is not in wheels/, see above; install it, or bundle with wheels=true"
    unpack_code "$python" "$place.code" "$key"
    export PYTHONPATH="$place.code"
fi
exec "$python" -P -m phalanx infer bundle="$BUNDLE" "$@"
