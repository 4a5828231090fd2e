#!/bin/sh
# Scores `skidder redact` on freshly generated log lines: tests/redaction/score.sh [SEED] [LINES]
# Needs Python with Faker, python-stdnum and pycryptodome, and a build of skidder (SKIDDER_BIN, or target/debug/skidder).
set -eu
here=$(dirname "$0")
bin=${SKIDDER_BIN:-$here/../../target/debug/skidder}
set_file=$(mktemp --suffix=.jsonl)
trap 'rm -f "$set_file"' EXIT
python3 "$here/golog.py" --seed "${1:-$$}" --lines "${2:-20000}" > "$set_file"
python3 "$here/eval.py" --cmd "$bin redact" --name skidder --show 12 "$set_file"
