#!/usr/bin/env bash
# Installs what the tests of containers need: an engine, a runtime that works with every control group, and a shell that
# is one file, to make an image of. Does nothing where they are. Containers are left out where nothing can be installed.
set -euo pipefail

missing=()
command -v podman >/dev/null || missing+=(podman)
command -v runc >/dev/null || missing+=(runc)
[ -x /bin/busybox ] || missing+=(busybox-static)

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "SKIPPED: ${missing[*]} can't be installed here; install them to test containers" >&2
    exit 0
fi
apt-get update -q
apt-get install -qy --no-install-recommends "${missing[@]}"
