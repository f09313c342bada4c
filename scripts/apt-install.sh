#!/usr/bin/env bash
# Installs Debian packages if this account may: as root, or through sudo without a password.
# Usage: scripts/apt-install.sh PACKAGE...      Exit code 1 when it may not or cannot.
set -euo pipefail
command -v apt-get >/dev/null 2>&1 || exit 1
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true >/dev/null 2>&1 || exit 1
    as_root=(sudo -n)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf 'setup: installing %s with apt-get\n' "$*"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@")
if ! { "${as_root[@]}" apt-get -qq update && "${install[@]}"; } >"$log" 2>&1; then
    tail -n 3 "$log" >&2
    exit 1
fi
