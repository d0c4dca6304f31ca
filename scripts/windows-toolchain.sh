# To be sourced by the scripts that build for Windows: which Rust builds, and what it needs.
#
# rustup's target is used where it is or can be had; else Debian's packages of Rust with the sources
# of the standard library, which is then built too. RAMPART_WINDOWS_RUST=debian takes Debian's in any case.

target=x86_64-pc-windows-gnu

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

has_target() {
    [ "${RAMPART_WINDOWS_RUST:-}" != debian ] && command -v rustup >/dev/null \
        && rustup target list --installed 2>/dev/null | grep -qx "$target"
}

prepare_toolchain() {
    command -v x86_64-w64-mingw32-gcc >/dev/null || install mingw-w64
    if ! has_target && [ "${RAMPART_WINDOWS_RUST:-}" != debian ] && command -v rustup >/dev/null; then
        say "asking rustup for $target"
        timeout 300 rustup target add "$target" >&2 || say "rustup has no $target to give"
    fi
    has_target || install rustc-web cargo-web rust-web-src
}

# cargo for Windows: the command, and then what it is given. What the two toolchains make does not mix, so
# each has a folder of its own.
windows_cargo() {
    local command=$1
    shift
    if has_target; then
        cargo "$command" --target "$target" "$@"
    else
        RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_DIR="$(windows_target_dir)" \
            /usr/bin/cargo "$command" -Zbuild-std=std,panic_unwind --target "$target" "$@"
    fi
}

windows_target_dir() {
    if has_target; then echo "${CARGO_TARGET_DIR:-target}"; else echo "${CARGO_TARGET_DIR:-target}/debian-rust"; fi
}
