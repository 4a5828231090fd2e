# Sourced by every backend.sh, whose verbs are
#   provision             puts what the server needs under $BACKENDS_CACHE; does nothing where it is there already
#   start DIR [SETTING…]  starts it with data, log, pid and port under DIR, and prints its URL when it answers;
#                         a second start in the same DIR has the same port and the same data
#   stop DIR              stops it
# Everything listens on loopback. See README.md.
set -euo pipefail
: "${BACKENDS_CACHE:=$HOME/.cache/backends}"
mkdir -p "$BACKENDS_CACHE"
HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)

free_port() {
  python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# port DIR NAME: the port of that name, chosen at the first start and kept for the next.
port() {
  [ -s "$1/$2" ] || free_port >"$1/$2"
  cat "$1/$2"
}

# jdk FROM TO: a Java home whose major version is in that range, the newest there is.
jdk() {
  local home version best='' best_version=0
  for home in ${JAVA_HOME:+"$JAVA_HOME"} /usr/lib/jvm/*; do
    [ -x "$home/bin/javac" ] && [ -r "$home/release" ] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
    if ((version >= $1 && version <= $2 && version > best_version)); then best=$home best_version=$version; fi
  done
  [ -n "$best" ] || { echo "no JDK of version $1 to $2: set JAVA_HOME or install one under /usr/lib/jvm" >&2; return 1; }
  echo "$best"
}

# spawn DIR COMMAND…: in the background and in a session of its own. Ended when the process $OWNER_PID, the test, has gone.
spawn() {
  local dir=$1 pid; shift
  setsid "$@" >>"$dir/log" 2>&1 </dev/null 8>&- &
  pid=$!
  echo "$pid" >"$dir/pid"
  if [ -n "${OWNER_PID:-}" ]; then
    setsid bash -c "while kill -0 $OWNER_PID && kill -0 $pid; do sleep 1; done; kill -9 $pid" >/dev/null 2>&1 </dev/null 8>&- &
  fi
}

# wait_up DIR SECONDS COMMAND…: until COMMAND succeeds; fails where the process ends before, or time is up.
wait_up() {
  local dir=$1 pid tries=$(($2 * 5)); shift 2
  pid=$(cat "$dir/pid")
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null || ((tries-- <= 0)); then
      echo "the server does not come up; the end of $dir/log:" >&2
      tail -20 "$dir/log" >&2
      return 1
    fi
    sleep 0.2
  done
  cat "$dir/url"
}

stop() {
  local pid; pid=$(cat "$1/pid")
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$pid"
}

main() {
  local verb=${1:?provision, start DIR or stop DIR}; shift
  case $verb in
    # One at a time, whoever asks: tests, other checkouts, the build that goes on beside the tests.
    provision) exec 8>"$BACKENDS_CACHE/${LOCK_NAME:-$(basename "$HERE")}.lock"; flock 8; provision ;;
    start) mkdir -p "${1:?DIR}"; start "$(realpath "$1")" "${@:2}" ;;
    stop) stop "${1:?DIR}" ;;
    *) echo "no such verb: $verb" >&2; return 64 ;;
  esac
}
