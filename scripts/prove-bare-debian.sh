#!/usr/bin/env bash
# Proves that a bare Debian 12 with git, make and Rust's stable toolchain is enough: makes one in a folder,
# clones this repository into it, and runs there what is given (default: make test, then make demo).
# Needs root, debootstrap and some 15 GB. The folder is kept, to look into it; a second run takes a fresh clone.
#
#   scripts/prove-bare-debian.sh /srv/bare [COMMAND]
set -euo pipefail
cd "$(dirname "$0")/.."

root=${1:?usage: prove-bare-debian.sh FOLDER [COMMAND]}
command=${2:-make test && make demo}
fail() { printf 'prove-bare-debian: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root, for debootstrap and chroot"
command -v debootstrap >/dev/null || fail "debootstrap is missing; run: apt-get install debootstrap"
toolchain=$(rustc --print sysroot) || fail "Rust's stable toolchain is missing here; it is copied from this machine"

if [ ! -e "$root/etc/debian_version" ]; then
    debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$root"
    mkdir -p "$root/opt"
    cp -a "$toolchain" "$root/opt/rust"
fi
# Names, certificates and package sources as on this machine: without them nothing is reached from here.
for file in etc/resolv.conf etc/hosts etc/ssl/certs/ca-certificates.crt; do
    if [ -e "/$file" ]; then cp -L "/$file" "$root/$file"; fi
done
printf 'deb http://deb.debian.org/debian %s main\n' bookworm bookworm-updates > "$root/etc/apt/sources.list"
printf 'deb http://deb.debian.org/debian-security bookworm-security main\n' >> "$root/etc/apt/sources.list"

rm -rf "$root/root/rampart"
git clone -q . "$root/root/rampart"
mkdir -p "$root/old-root"

# Not a chroot: in a mount namespace whose root is the bare Debian, paths are what they would be on a machine of its
# own, for the kernel too. All mounts end with the namespace.
export root command RAMPART_NO_SKIP="${RAMPART_NO_SKIP:-}"
unshare --mount --propagation private /bin/bash -ec '
    mount --bind "$root" "$root"
    cd "$root"
    for place in proc sys dev; do mount --rbind "/$place" "$place"; done
    pivot_root . old-root
    cd /
    umount -l /old-root
    exec env -i HOME=/root TERM="${TERM:-dumb}" PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt ${RAMPART_NO_SKIP:+RAMPART_NO_SKIP=1} \
        /bin/bash -ec "cd /root/rampart; $command"
'
