#!/usr/bin/env bash
# Runs the Windows agent under Wine against the real server of this machine. Words choose tests by parts of their names.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "test-windows: $*" >&2; }

wine=$(command -v wine64 || command -v /usr/lib/wine/wine64 || true)
if [ -z "$wine" ]; then
    say "installing wine64"
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wine64 >&2
    wine=$(command -v wine64 || command -v /usr/lib/wine/wine64)
fi

folder=$(scripts/build-windows.sh | tail -n 1)
cargo build --release --locked -p server --bin edr-server -p cli --bin edr

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cp "$folder/edr-agent.exe" "$folder/edr.exe" "$folder/edr-server.exe" "$made/"
# Wine 8 lacks this DLL, which real Windows has: see the file's first line.
x86_64-w64-mingw32-gcc -O1 -shared -o "$made/bcryptprimitives.dll" tests/windows/bcryptprimitives.c -ladvapi32
x86_64-w64-mingw32-gcc -O1 -o "$made/waits.exe" tests/windows/waits.c -lws2_32
for program in registry service; do
    x86_64-w64-mingw32-gcc -O1 -o "$made/$program.exe" "tests/windows/$program.c" -ladvapi32
done

RAMPART_WINDOWS_DIR="$made" RAMPART_WINE="$wine" RAMPART_NO_SKIP=1 \
    cargo test --release --locked -p end-to-end --test windows -- --ignored --nocapture --test-threads=1 "$@"
