#!/usr/bin/env bash
# Makes rampart-windows-VERSION.zip of edr-agent.exe, edr.exe and what installs them. Prints where it is.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "package-windows: $*" >&2; }
. scripts/windows-toolchain.sh

install zip
folder=$(scripts/build-windows.sh | tail -n 1)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name="rampart-windows-$version"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir "$made/$name"
cp "$folder/edr-agent.exe" "$folder/edr.exe" packaging/windows/install.ps1 packaging/windows/README.txt "$made/$name/"
[ -f LICENSE ] && cp LICENSE "$made/$name/"
(cd "$made" && find "$name" -type f -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS && mv SHA256SUMS "$name/")
mkdir -p "$folder/package"
to="$PWD/$folder/package"
case $folder in /*) to="$folder/package" ;; esac
rm -f "$to/$name.zip"
(cd "$made" && zip -q -X -r "$to/$name.zip" "$name")
echo "$to/$name.zip"
