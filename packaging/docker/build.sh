#!/bin/sh
# build.sh ROOTFS [PROFILE [ARCH]]
#
# Builds a static skidder for ARCH (amd64 or arm64; by default this machine's) with a cargo PROFILE (release) and lays out in
# ROOTFS, which is made anew, all that the image holds. The Dockerfile and `cargo xtask image` both run this, so that what the
# tests look at is what a user builds.
set -eu
rootfs=${1:?the directory to lay the image out in} profile=${2:-release}
cd "$(dirname "$0")/../.."

case $(uname -m) in
  x86_64) here=amd64 ;;
  aarch64) here=arm64 ;;
  *) here=$(uname -m) ;;
esac
arch=${3:-$here}
case $arch in
  amd64) cpu=x86_64 ;;
  arm64) cpu=aarch64 ;;
  *) echo "$arch: amd64 and arm64 can be built" >&2; exit 64 ;;
esac
target=$cpu-unknown-linux-gnu
cross=
if [ "$arch" != "$here" ]; then
  cross=$cpu-linux-gnu-
  command -v "${cross}gcc" >/dev/null || { echo "no ${cross}gcc: install gcc-$cpu-linux-gnu and libc6-dev-$arch-cross" >&2; exit 69; }
  rustup target add "$target"
fi

# What it is built of is written into the program, in a section by the name of .dep-v0, where scanners look for it.
auditable=0.7.7 target_dir=${TARGET_DIR:-target}
tools=$(mkdir -p "$target_dir" && cd "$target_dir" && pwd)/tools/cargo-auditable-$auditable
[ -x "$tools/bin/cargo-auditable" ] || "${CARGO:-cargo}" install --locked --quiet --root "$tools" --target-dir "$target_dir/tools/build" "cargo-auditable@$auditable"

# glibc's static form: since 2.34 the look-ups of users and hosts are in it, so nothing is loaded at run time.
vars=$(echo "$target" | tr 'a-z-' 'A-Z_') lower=$(echo "$target" | tr '-' '_')
export "CARGO_TARGET_${vars}_RUSTFLAGS=-C target-feature=+crt-static"
if [ -n "$cross" ]; then
  export "CARGO_TARGET_${vars}_LINKER=${cross}gcc" "CC_$lower=${cross}gcc" "AR_$lower=${cross}ar"
fi
PATH=$tools/bin:$PATH "${CARGO:-cargo}" auditable build --locked --package skidder --bin skidder --profile "$profile" --target "$target" --target-dir "$target_dir"

rm -rf "$rootfs"
mkdir -p "$rootfs/usr/bin" "$rootfs/etc/ssl/certs" "$rootfs/etc/skidder" "$rootfs/usr/share/doc/skidder" "$rootfs/var/lib/skidder" "$rootfs/var/log" "$rootfs/tmp"
chmod 1777 "$rootfs/tmp"
# Names of functions stay in, for backtraces; the tables of lines would be more than the program.
"${cross}strip" --strip-debug -o "$rootfs/usr/bin/skidder" "$target_dir/$target/$profile/skidder"
chmod 755 "$rootfs/usr/bin/skidder"

# Mozilla's authorities as Debian has them, without what an administrator may have added to the building machine.
if [ -d /usr/share/ca-certificates/mozilla ]; then
  cat /usr/share/ca-certificates/mozilla/*.crt > "$rootfs/etc/ssl/certs/ca-certificates.crt"
else
  cp /etc/ssl/certs/ca-certificates.crt "$rootfs/etc/ssl/certs/ca-certificates.crt" || { echo "no authorities to trust: install ca-certificates" >&2; exit 69; }
fi
echo 'root:x:0:0:root:/:/sbin/nologin' > "$rootfs/etc/passwd"
echo 'root:x:0:' > "$rootfs/etc/group"
echo 'hosts: files dns' > "$rootfs/etc/nsswitch.conf"
cp LICENSE "$rootfs/usr/share/doc/skidder/LICENSE"

# What is Debian's in it, for scanners too, in the way that images without dpkg say it: its C library, which is linked in, and
# the authorities. Built elsewhere it says nothing.
if command -v dpkg-query >/dev/null && [ -e /etc/debian_version ]; then
  status=$rootfs/var/lib/dpkg/status.d
  mkdir -p "$status"
  cp /etc/debian_version "$rootfs/etc/debian_version"
  cp -L /etc/os-release "$rootfs/etc/os-release"
  package() { printf 'Package: %s\nSource: %s\nVersion: %s\nArchitecture: %s\n' "$@"; }
  libc=libc6-dev
  [ -z "$cross" ] || libc=libc6-dev-$arch-cross
  # A cross compiler's has the same source: 2.36-8cross1 is 2.36-8.
  version=$(dpkg-query --showformat='${Version}' --show "$libc" | sed 's/cross[0-9]*$//')
  package libc6 glibc "$version" "$arch" >"$status/libc6"
  version=$(dpkg-query --showformat='${Version}' --show ca-certificates)
  package ca-certificates ca-certificates "$version" all >"$status/ca-certificates"
fi
