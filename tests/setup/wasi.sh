#!/bin/sh
# What the tests of the wasm executor compile their C programs with: Debian's clang and its C library for WASI.
set -eu

if [ -e /usr/lib/wasm32-wasi/libc.a ] && command -v clang-14 >/dev/null && command -v wasm-ld-14 >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "SKIPPED tests/setup/wasi.sh: only root on Debian can install clang-14, lld-14 and wasi-libc by it" >&2
    exit 0
fi
apt-get update -q
apt-get install -qy --no-install-recommends clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32
