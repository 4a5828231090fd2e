#!/usr/bin/env bash
# promtool of Debian's prometheus, a program and no server: `provision` prints its path, and unpacks it where it is not installed.
. "$(dirname "$0")/../lib.sh"
R=$BACKENDS_CACHE/promtool

provision() {
  if command -v promtool; then return; fi
  if [ ! -f "$R/ok" ]; then
    rm -rf "$R"; mkdir -p "$R"; cd "$R"
    apt-get update -qq || true
    apt-get download -qq prometheus
    dpkg -x prometheus_*.deb .
    rm ./*.deb; touch ok
  fi
  echo "$R/usr/bin/promtool"
}

start() {
  echo "promtool is no server: there is only provision" >&2
  return 64
}
main "$@"
