#!/usr/bin/env bash
# Makes what the lab runs: a root folder with a real Asterisk, the words its subscriber says, and our
# module compiled for exactly that Asterisk.
#
#   build.sh                        prints  root=…  speech=…  module=…  (progress goes to stderr)
#   build.sh --no-module            the same without the module
#   build.sh --warnings-are-errors  compiles the module afresh and throws it away; prints nothing, or
#                                   the compiler's warnings, and then it fails
#
# Each with --asterisk 16, 22 or all (one after the other); without it ${ASTERISK_DIALOG_LAB:-16}.
# ASTERISK_DIALOG_SANITIZE=1: the module is compiled with AddressSanitizer and
# UndefinedBehaviorSanitizer, and the lab's PBX is started with them (lab_sanitizer.py).
#
# All of it is kept outside the checkout, in
#   ${ASTERISK_DIALOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/asterisk-dialog}
#     root/<hash of the root's recipe>/           Asterisk, a compiler, a voice; one per version
#     speech/<hash of the words' recipe>/         yes.wav, no.wav, …
#     module/<hash of the C sources and root>/    what `make install` makes of them
# each made again when what it is made of changes; old ones may be deleted at any time.
# Two builds at once wait for each other (flock); an interrupted one leaves nothing that counts.
set -euo pipefail

# Where each version comes from.
declare -A SUITES=(
    [16]=bullseye # the last Debian with Asterisk 16 (16.28.0)
    [22]=sid      # the only one with 22 (22.10.1), and it moves: one day it will have another
)
MIRRORS="ASTERISK_DIALOG_MIRROR names another mirror, such as a snapshot of Debian at an older day"

# Recipe of the root: besides its suite, whatever changes it stands between these two lines.
COMPONENT=main # alone: the security suite of a closed release is not always complete
PACKAGES=asterisk,asterisk-dev,gcc,libc6-dev,make,libwebsockets-dev,libssl-dev
PACKAGES+=,asterisk-core-sounds-en-gsm,flite,espeak-ng,sox
HOSTS=$'127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback' # its /etc/hosts
# End of the recipe.

# Recipe of the words.
VOICE=slt
PHRASES=(
    "yes=Yes."
    "no=No."
    "over=Yes please."
    "question=Hello! Will you come tomorrow? Please say yes or no."
    "long=Wait a moment please, I do not want to listen to all of this, let me say something first."
    "okay=Okay."
    "uh-huh=Uh-huh."
    "thank-you=Thank you."
    "no-thank-you=No thank you."
    "unavailable=The number you have dialed is switched off or unavailable. Please try again later."
)
# A cough: noise that begins at once and dies away. -R: the same noise each time.
COUGH=(synth 0.3 whitenoise band 1000 700 fade q 0.005 0.3 0.25 norm -6)
# 8 kHz, 16 bit, mono; silence cut off at both ends, so that a file's start is the start of speech
SHAPE=(silence 1 0.005 "0.5%" reverse silence 1 0.005 "0.5%" reverse norm -3)
# End of the recipe.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
asterisk_dir=$(dirname "$here")
cache=${ASTERISK_DIALOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/asterisk-dialog}
flags=()
[ -z "${ASTERISK_DIALOG_SANITIZE:-}" ] ||
    flags=(CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined'
        LDFLAGS='-fsanitize=address,undefined')

say() { echo "lab: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# Reads more of what the thing is made of from stdin.
hash_of_recipe() { # hash_of_recipe NAME
    { sed -n "/^# Recipe of the $1/,/^# End of the recipe/p" "${BASH_SOURCE[0]}"; cat; } |
        sha256sum | cut -c1-16
}

# Prints Debian's own mirror as this machine knows it; nothing about hosts is written here.
mirror() {
    local found=${ASTERISK_DIALOG_MIRROR:-}
    [ -n "$found" ] || found=$(debian_in_apt)
    if [ -z "$found" ]; then # apt knows its targets only after its first update
        apt-get update -qq >&2
        found=$(debian_in_apt)
    fi
    [ -n "$found" ] || fail "no Debian mirror in this machine's apt configuration:" \
        "name one in ASTERISK_DIALOG_MIRROR"
    echo "$found"
}

debian_in_apt() {
    apt-get indextargets --format '$(REPO_URI)|$(LABEL)|$(COMPONENT)' |
        awk -F'|' '$2 == "Debian" && $3 == "main" && !n++ { print $1 }'
}

need_mmdebstrap() {
    command -v mmdebstrap >/dev/null && return
    say "installing mmdebstrap"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap; } >&2 ||
        fail "mmdebstrap is missing: apt-get install mmdebstrap"
}

make_root() { # make_root VERSION FOLDER
    local from found suite=${SUITES[$1]}
    from=$(mirror)
    need_mmdebstrap
    say "making the root folder of Asterisk $1 ($suite); takes about a minute, once"
    mmdebstrap --quiet --variant=minbase --include="$PACKAGES" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --aptopt='Acquire::Retries "3"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        "$suite" "$2" "deb $from $suite $COMPONENT" >&2 ||
        fail "Asterisk $1 cannot be had from Debian's $suite now (see above). $MIRRORS"
    found=$(chroot "$2" asterisk -V)
    [[ $found == "Asterisk $1."* ]] ||
        fail "Asterisk $1 is no longer in Debian's $suite: it has $found. $MIRRORS"
    rm -f "$2/etc/resolv.conf" "$2/etc/hostname" # this machine's, and of no use on the loopback
    echo "$HOSTS" >"$2/etc/hosts"
}

make_speech() { # make_speech ROOT FOLDER: synthesised inside the root, with the root's own voices
    local phrase name inside=speech.$$
    mkdir -p "$2" "$1/$inside"
    for phrase in "${PHRASES[@]}"; do
        name=${phrase%%=*}
        chroot "$1" flite -voice "$VOICE" -t "${phrase#*=}" -o "/$inside/$name.raw.wav"
        chroot "$1" sox "/$inside/$name.raw.wav" -r 8000 -c 1 -b 16 "/$inside/$name.wav" \
            "${SHAPE[@]}"
        mv "$1/$inside/$name.wav" "$2/"
    done
    chroot "$1" sox -R -n -r 8000 -c 1 -b 16 "/$inside/cough.wav" "${COUGH[@]}"
    mv "$1/$inside/cough.wav" "$2/"
    rm -rf "${1:?}/$inside"
}

# Makes FOLDER by MAKER (which is given its other arguments and where to make it), whole or not at all.
build() { # build FOLDER MAKER [ARGUMENT…]
    local folder=$1 part=$1.part
    shift
    [ ! -d "$folder" ] || return 0
    rm -rf "$part"
    mkdir -p "$(dirname "$folder")"
    "$@" "$part"
    mv "$part" "$folder"
}

# Runs COMMAND as the only build on this machine.
locked() { # locked COMMAND…
    [ "$(id -u)" = 0 ] || fail "needs root: run it with sudo -E"
    mkdir -p "$cache"
    (
        flock 9
        "$@"
    ) 9>"$cache/.lock"
}

# The module's own files, relative to asterisk/. A change in one of them makes a new module.
module_sources() {
    (cd "$asterisk_dir" && find . -maxdepth 1 -type f \
        \( -name '*.c' -o -name '*.h' -o -name '*.xml' -o -name Makefile \) | sort
        { find ./documentation ./config/audiofork.conf.sample -type f 2>/dev/null || true; } | sort)
}

hash_of_module() { # hash_of_module RECIPE_HASH
    (cd "$asterisk_dir" && { echo "$1" "${flags[@]}"; module_sources | tr '\n' '\0' | xargs -0 sha256sum; }) |
        sha256sum | cut -c1-16
}

# Puts the sources into a folder of their own in ROOT, which is gone when this script ends.
unpack_module() { # unpack_module ROOT FOLDER_IN_ROOT
    local list=()
    mapfile -t list < <(module_sources)
    mkdir -p "$1/$2"
    # shellcheck disable=SC2064  # the folder of now is meant, not that of exit
    trap "rm -rf '$1/$2'" EXIT
    (cd "$asterisk_dir" && cp --parents "${list[@]}" "$1/$2/")
}

check_module() { # check_module ROOT
    local inside=build/check.$$
    unpack_module "$1" "$inside"
    chroot "$1" make -s -C "/$inside" WERROR=1 >&2
}

make_module() { # make_module ROOT FOLDER
    local inside=build/$$
    say "compiling app_audiofork.so"
    unpack_module "$1" "$inside"
    chroot "$1" make -s -C "/$inside" "${flags[@]}" >&2
    chroot "$1" make -s -C "/$inside" install DESTDIR="/$inside/out" >&2
    [ -n "$(find "$1/$inside/out" -name app_audiofork.so)" ] ||
        fail "make install made no app_audiofork.so"
    mv "$1/$inside/out" "$2"
}

# Makes what is missing of one version, and prints where all of it is.
make_all() { # make_all VERSION WHAT
    local root speech module=
    root=$(echo "${SUITES[$1]} $(dpkg --print-architecture)" | hash_of_recipe root)
    speech=$cache/speech/$(hash_of_recipe words </dev/null)
    [ "$2" = --no-module ] || module=$cache/module/$(hash_of_module "$root")
    root=$cache/root/$root
    if [ "$2" = --warnings-are-errors ]; then
        locked build "$root" make_root "$1"
        check_module "$root"
        return
    fi
    if [ ! -d "$root" ] || [ ! -d "$speech" ] || { [ -n "$module" ] && [ ! -d "$module" ]; }; then
        locked build "$root" make_root "$1"
        locked build "$speech" make_speech "$root"
        [ -z "$module" ] || locked build "$module" make_module "$root"
    fi
    printf 'root=%s\nspeech=%s\nmodule=%s\n' "$root" "$speech" "$module"
}

main() {
    local version=${ASTERISK_DIALOG_LAB:-16} what=
    while [ $# -gt 0 ]; do
        case $1 in
        --asterisk)
            [ $# -gt 1 ] || fail "--asterisk: which? 16, 22 or all"
            version=$2
            shift
            ;;
        --no-module | --warnings-are-errors) what=$1 ;;
        *) fail "unknown option $1; known: --asterisk, --no-module, --warnings-are-errors" ;;
        esac
        shift
    done
    [ -f "$asterisk_dir/Makefile" ] || fail "$asterisk_dir/Makefile is missing"
    case $version in
    16 | 22) make_all "$version" "$what" ;;
    all)
        (make_all 16 "$what")
        (make_all 22 "$what")
        ;;
    *) fail "no lab has Asterisk '$version'; known: 16, 22, all" ;;
    esac
}

main "$@"
