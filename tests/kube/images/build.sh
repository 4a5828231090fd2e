#!/bin/bash
# pause and busybox images; an agent's image is made the same way from a folder with its binary
set -euo pipefail
cd "$(dirname "$0")"; out=${IMAGES:?}; mkdir -p "$out"; w=$(mktemp -d); trap 'rm -rf "$w"' EXIT
mkdir -p "$w/pause" "$w/bb/bin" "$w/bb/tmp" "$w/bb/etc"
cc -Os -static -s -o "$w/pause/pause" pause.c
python3 mkimage.py localhost/pause:1 "$out/pause.tar" "$w/pause" --entrypoint /pause
cp /bin/busybox "$w/bb/bin/busybox"; chmod 1777 "$w/bb/tmp"
echo 'root:x:0:0:root:/:/bin/sh' > "$w/bb/etc/passwd"
for c in $(/bin/busybox --list); do [ -e "$w/bb/bin/$c" ] || ln -s busybox "$w/bb/bin/$c"; done
python3 mkimage.py localhost/busybox:1 "$out/busybox.tar" "$w/bb" --entrypoint /bin/sh
ls -l "$out"
