#!/bin/sh
# The kernels of aarch64 (NEON), cross-built and run under qemu: make check-neon
#
# usage: tests/check_neon.sh
#
# Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user, which are installed
# where they are missing and this is root.  There is no libcheck for arm64 beside these:
# tests/cross/check.h stands in for it.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
packages='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user'

if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    if [ "$(id -u)" != 0 ]; then
        echo "check_neon: there is no cross compiler or no qemu; as root:" \
            "apt-get install $packages" >&2
        exit 1
    fi
    apt-get update -qq
    # shellcheck disable=SC2086 # words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        $packages >/dev/null
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$top"
for suite in check_kernels check_quant_kernels; do
    aarch64-linux-gnu-gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -Wall -Wextra -Werror \
        -Itests/cross -Itests -Iinclude -Isrc -o "$out/$suite" \
        "tests/$suite.c" src/native/isa.c src/native/kern_math.c src/native/kern_neon.c \
        src/native/kern_neondot.c src/native/kern_portable.c src/native/quant_pack.c \
        src/base/dtype.c src/base/err.c -lm
    for cpu in cortex-a72 max; do # without dot products of bytes, and with them
        qemu-aarch64 -cpu $cpu "$out/$suite"
    done
done
