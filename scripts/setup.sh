#!/usr/bin/env bash
# Creates .venv and installs edgeflow with the exact versions of constraints.txt. Safe to run again.
# Usage: scripts/setup.sh EXTRAS      for example: scripts/setup.sh train,dev
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-train,tflm,hls,dev}

say() { printf 'setup: %s\n' "$*"; }
stop() { printf 'setup: %s\n' "$@" >&2; exit 1; }

suitable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if command -v "$name" >/dev/null 2>&1 && suitable "$name"; then
            command -v "$name"
            return
        fi
    done
    stop "Python 3.11, 3.12 or 3.13 is needed and none was found" \
        "  fix: install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3"
}

make_environment() {
    local python=$1 version
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        scripts/apt-install.sh "$version-venv" || stop "$python cannot create virtual environments" \
            "  fix: apt-get install $version-venv (as root), then run make setup again"
    fi
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

if ! { [ -x .venv/bin/python ] && suitable .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    python=$(find_python)
    make_environment "$python"
fi
scripts/system-tools.sh
say "installing edgeflow[$extras] into .venv (the first time: 3 GB, about a minute)"
.venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable ".[$extras]"
.venv/bin/python -m pip --disable-pip-version-check check >/dev/null || stop "the installed packages do not fit together" \
    "  see: .venv/bin/python -m pip check" "  fix: rm -r .venv, then make setup"
say "ready"
