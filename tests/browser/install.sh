#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests where that is possible: as root, with apt-get. Elsewhere says that
# those tests will be skipped, which CI does not accept.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium for the browser tests"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if apt-get update >"$log" 2>&1 && apt-get install --yes --no-install-recommends chromium >>"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    tail -n 5 "$log" >&2
    rm -f "$log"
    reason="apt-get could not install it"
else
    reason="only root can install it with apt-get"
fi

echo "chromium is absent and $reason: the browser tests will be skipped" >&2
if [ "${CI:-}" = true ]; then exit 1; fi
