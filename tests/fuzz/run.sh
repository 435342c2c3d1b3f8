#!/usr/bin/env bash
# Fuzzes the module's parsers with libFuzzer, ASan and UBSan; installs clang when it is missing.
#
#   run.sh [RUNS [TARGET…]]     default: 10000000 runs of each of: message options
#
# What is found goes to build/fuzz/TARGET-crash-…, and the script fails. Inputs that reach new code are
# kept in build/fuzz/TARGET.corpus and used again by the next run.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-10000000}
targets=(message options)
[ $# -lt 2 ] || targets=("${@:2}")
out=build/fuzz
flags=(-std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -Wno-missing-field-initializers -Iasterisk
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)

declare -A parts=(
    [message]="fork_json fork_json_write fork_keys fork_message"
    [options]="fork_options fork_url"
)

install() { # install PACKAGE…
    local sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || {
            echo "fuzz: as root run: apt-get install -y $*" >&2
            exit 1
        }
        sudo=sudo
    fi
    echo "fuzz: apt-get install $*"
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "$@"
}

has_libfuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d == 0 && n; }' |
        clang -x c -fsanitize=fuzzer,address - -o "$out/probe" 2>/dev/null
}

need_clang() {
    command -v clang >/dev/null || install clang
    has_libfuzzer && return
    local major package
    major=$(clang -dumpversion | cut -d. -f1)
    for package in "libclang-rt-$major-dev" "libclang-common-$major-dev"; do # since, and before Debian 12
        if apt-cache show "$package" >/dev/null 2>&1; then
            install "$package"
            break
        fi
    done
    has_libfuzzer || {
        echo "fuzz: clang $major has no libFuzzer" >&2
        exit 1
    }
}

fuzz() { # fuzz TARGET
    local part sources=("tests/fuzz/fork_$1_fuzz.c")
    [ -n "${parts[$1]:-}" ] || {
        echo "fuzz: unknown target $1; known: ${!parts[*]}" >&2
        exit 1
    }
    for part in ${parts[$1]}; do sources+=("asterisk/$part.c"); done
    clang "${flags[@]}" "${sources[@]}" -o "$out/$1"
    mkdir -p "$out/$1.corpus"
    "$out/$1" -runs="$runs" -max_len=4200 -dict="tests/fuzz/$1.dict" -artifact_prefix="$out/$1-" \
        -print_final_stats=1 "$out/$1.corpus" "tests/fuzz/corpus/$1" 2>&1 | tee "$out/$1.log" |
        grep --line-buffered -E 'pulse|INITED|Done|stat::|ERROR|SUMMARY|does not hold|Test unit|deadly'
}

mkdir -p "$out"
need_clang
for target in "${targets[@]}"; do fuzz "$target"; done
