#!/usr/bin/env bash
# Builds edr-agent.exe, edr.exe and edr-server.exe on Linux. Prints the folder where they are.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "build-windows: $*" >&2; }
. scripts/windows-toolchain.sh

prepare_toolchain
has_target || say "building with Debian's Rust, and the standard library with it"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# All at once: the agent's rustls asks AWS-LC for its assembler code ready made, so that no NASM is needed.
windows_cargo build --release --locked -p agent --bin edr-agent -p cli --bin edr \
    -p server --bin edr-server 2>&1 | tee "$log" >&2
# Those of dependencies are not shown, so what is shown is ours.
if grep -q '^warning: .* generated [0-9]* warning' "$log"; then
    say "warnings are errors here, as in \`make lint\`"
    exit 1
fi

folder="$(windows_target_dir)/$target/release"
for program in edr-agent.exe edr.exe edr-server.exe; do
    [ -f "$folder/$program" ] || { say "$folder/$program was not made"; exit 1; }
done
echo "$folder"
