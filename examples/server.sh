# Sourced by the examples' run.sh with the name of a server in tests/servers: starts it, with what it says of itself in "$dir", and
# stops it at the end. `skidder` is the agent: SKIDDER_BIN, or built with cargo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
backend=tests/servers/$1/backend.sh
dir=$(mktemp -d)
trap '"$backend" stop "$dir"; rm -rf "$dir"' EXIT
"$backend" provision
"$backend" start "$dir"

skidder() {
  local command
  read -ra command <<<"${SKIDDER_BIN:-cargo run --quiet --bin skidder --}"
  "${command[@]}" "$@"
}
