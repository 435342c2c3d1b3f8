#!/bin/sh
# System packages of the tests, the lab and the venv: installed by apt when they are missing.
set -eu
packages="mmdebstrap gcc libc6-dev make libwebsockets-dev libssl-dev pkg-config cppcheck flite espeak-ng openssl redis-tools"

missing=
for package in $packages python3-venv; do
    # a Python of the user's own brings venv itself
    if [ "$package" = python3-venv ] && "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null; then continue; fi
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
