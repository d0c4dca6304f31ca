#!/usr/bin/env bash
# Lints what is only compiled for Windows, where what that takes is there: installing it is for `make windows`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "lint-windows: $*" >&2; }
. scripts/windows-toolchain.sh

if ! has_target || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
    # Debian's Rust, which builds where there is none of rustup's, has no clippy.
    say "skipped: takes rustup's $target and mingw-w64; \`make windows\` refuses warnings all the same"
    exit 0
fi
windows_cargo clippy --release --locked -p agent -p cli -p server -p response -p sensor-windows -p win32 \
    -p os-files -p file-scan -- -D warnings
