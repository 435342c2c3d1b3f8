#!/bin/sh
# System packages (apt, when missing) and the project's venv: scripts/setup.sh VENV
set -eu
venv=$1
python=${PYTHON:-python3}
packages="mmdebstrap gcc libc6-dev make libwebsockets-dev libssl-dev pkg-config cppcheck flite espeak-ng openssl redis-tools"

missing=
for package in $packages python3-venv; do
    # a Python of the user's own brings venv itself
    if [ "$package" = python3-venv ] && "$python" -c 'import ensurepip' 2>/dev/null; then continue; fi
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; else
        echo "setup: as root run: apt-get install -y$missing" >&2
        exit 1
    fi
    echo "setup: apt-get install$missing"
    $sudo apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing
fi

"$python" - <<'EOF' || exit 1
import sys
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit(f"setup: Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: PYTHON=python3.12 make …")
EOF
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,bus,dev]'
rm -f "$venv"/.ready-*
