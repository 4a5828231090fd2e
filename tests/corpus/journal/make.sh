#!/bin/sh
# make.sh ROOT OUT
#
# Makes the journals beside this file, whose long fields are compressed with LZ4 and with XZ, in the directory OUT: by a journald
# that can be told so by SYSTEMD_JOURNAL_COMPRESS. They were made by that of Debian 13 (systemd 257), whose packages (systemd and all
# that it depends on) lay unpacked in ROOT: `apt-get --download-only install systemd`, then `dpkg --extract`. Wants root.
set -eu
root=$1 out=$2
for codec in LZ4 XZ; do
  place=$(mktemp -d)
  mkdir -p "$place/run/systemd/journal" "$place/run/systemd/journald.conf.d" "$place/log/journal"
  : >"$place/run/systemd/journal/flushed"
  printf '[Journal]\nStorage=persistent\nSystemMaxFileSize=512K\nRateLimitBurst=0\nReadKMsg=no\nAudit=no\nCompress=yes\n' >"$place/run/systemd/journald.conf.d/test.conf"
  unshare --mount --uts --pid --fork env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -eu -c '
    mount --make-rprivate /
    hostname node-a
    mkdir -p "$2/dev" "$2/proc" "$2/run" "$2/sys" "$2/var/log"
    mount --rbind /dev "$2/dev"
    mount --rbind /sys "$2/sys"
    mount -t proc proc "$2/proc"
    mount --bind "$1/run" "$2/run"
    mount --bind "$1/log" "$2/var/log"
    [ -s "$2/etc/machine-id" ] || echo 0123456789abcdef0123456789abcdef >"$2/etc/machine-id"
    SYSTEMD_JOURNAL_COMPRESS=$3 chroot "$2" /usr/lib/systemd/systemd-journald & journald=$!
    SOCKET=$1/run/systemd/journal/socket python3 - <<"PY"
import os, socket, struct, time
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for attempt in range(40):
    try:
        to.connect(os.environ["SOCKET"])
        break
    except OSError:
        time.sleep(0.1)
def send(**fields):
    text = b""
    for name, value in fields.items():
        value = value.encode()
        text += name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    to.send(text)
for number in range(20):
    send(MESSAGE=f"message {number}", SYSLOG_IDENTIFIER="test", LONG=f"long {number} and on " * 100 * (number + 1))
time.sleep(1)
PY
    kill -TERM $journald
    wait $journald || true
  ' sh "$place" "$root" "$codec"
  find "$place/log" -name '*.journal' -size +0 | while read -r journal; do
    gzip -9nc "$journal" >"$out/$(echo "$codec" | tr "[:upper:]" "[:lower:]").journal.gz"
  done
  rm -r "$place"
done
