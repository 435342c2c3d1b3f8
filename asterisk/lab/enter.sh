#!/bin/sh
# enter.sh OWNER ROOT STAGE RUN [BIND…] -- COMMAND…
#
# Becomes COMMAND inside a private copy of the root folder ROOT. To be started as
#   setpriv --pdeathsig KILL unshare --mount --propagation private enter.sh …
# so that it dies with OWNER, the process that started it (0: nobody's, it lives on), and so that its
# mounts exist for itself alone: when it ends, in whatever way, none of them is left.
#
# What it sees: ROOT read-only, the host's /dev and /proc, each BIND (a folder) at the very path it has
# outside, and RUN at /run/asterisk. STAGE is an empty folder to build that view in.
set -eu

owner=$1 root=$2 stage=$3 run=$4
shift 4

# The owner may have died before setpriv had its word with the kernel.
[ "$owner" = 0 ] || [ "$PPID" = "$owner" ] || exit 1

mount -t tmpfs -o mode=755,size=16m lab "$stage"
mkdir -p "$stage/dev" "$stage/proc" "$stage/tmp" "$stage/var" "$stage/run/asterisk"
mount --rbind /dev "$stage/dev"
mount --rbind /proc "$stage/proc"
mount --bind "$run" "$stage/run/asterisk"

for name in bin etc lib lib32 lib64 libx32 sbin usr; do
    if [ -L "$root/$name" ]; then
        cp -P "$root/$name" "$stage/"
    elif [ -d "$root/$name" ]; then
        mkdir "$stage/$name"
        mount --bind "$root/$name" "$stage/$name"
        mount -o remount,bind,ro "$stage/$name"
    fi
done

while [ "$1" != -- ]; do
    mkdir -p "$stage$1"
    mount --bind "$1" "$stage$1"
    shift
done
shift

exec chroot "$stage" "$@"
