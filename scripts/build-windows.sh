#!/usr/bin/env bash
# Builds edr-agent.exe and edr.exe on Linux. Prints the folder where they are.
#
# rustup's target is used where it is or can be had; else Debian's packages of Rust with the sources
# of the standard library, which is then built too.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-pc-windows-gnu

say() { echo "build-windows: $*" >&2; }

install() {
    local missing=()
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    local sudo=""
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

command -v x86_64-w64-mingw32-gcc >/dev/null || install mingw-w64

has_target() { command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$target"; }

if ! has_target && command -v rustup >/dev/null; then
    say "asking rustup for $target"
    timeout 300 rustup target add "$target" >&2 || say "rustup has no $target to give"
fi

# Both at once: the agent's rustls asks AWS-LC for its assembler code ready made, so that no NASM is needed.
wanted=(-p agent --bin edr-agent -p cli --bin edr)
if has_target; then
    cargo build --release --locked --target "$target" "${wanted[@]}" >&2
else
    install rustc-web cargo-web rust-web-src
    say "building with Debian's Rust, and the standard library with it"
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo build -Zbuild-std=std,panic_unwind \
        --release --locked --target "$target" "${wanted[@]}" >&2
fi

folder="${CARGO_TARGET_DIR:-target}/$target/release"
for program in edr-agent.exe edr.exe; do
    [ -f "$folder/$program" ] || { say "$folder/$program was not made"; exit 1; }
done
echo "$folder"
