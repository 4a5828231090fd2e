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

# glibc's static form: since 2.34 the look-ups of users and hosts are in it, so nothing is loaded at run time.
vars=$(echo "$target" | tr 'a-z-' 'A-Z_') lower=$(echo "$target" | tr '-' '_')
export "CARGO_TARGET_${vars}_RUSTFLAGS=-C target-feature=+crt-static"
if [ -n "$cross" ]; then
  export "CARGO_TARGET_${vars}_LINKER=${cross}gcc" "CC_$lower=${cross}gcc" "AR_$lower=${cross}ar"
fi
"${CARGO:-cargo}" build --locked --package skidder --bin skidder --profile "$profile" --target "$target" ${TARGET_DIR:+--target-dir "$TARGET_DIR"}

rm -rf "$rootfs"
mkdir -p "$rootfs/usr/bin" "$rootfs/etc/ssl/certs" "$rootfs/etc/skidder" "$rootfs/usr/share/doc/skidder" "$rootfs/var/lib/skidder" "$rootfs/var/log" "$rootfs/tmp"
chmod 1777 "$rootfs/tmp"
# Names of functions stay in, for backtraces; the tables of lines would be more than the program.
"${cross}strip" --strip-debug -o "$rootfs/usr/bin/skidder" "${TARGET_DIR:-target}/$target/$profile/skidder"
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
