#!/bin/sh
# System packages and the project's venv: scripts/setup.sh VENV
set -eu
venv=$1
python=${PYTHON:-python3}
"$(dirname "$0")/packages.sh"
"$python" - <<'EOF' || exit 1
import sys
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit(f"setup: Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: PYTHON=python3.12 make …")
EOF
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,bus,dev]'
rm -f "$venv"/.ready-*
