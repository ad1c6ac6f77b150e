#!/usr/bin/env bash
# What ten million delayed messages cost Skylark while they wait for up to a year, how late messages come at 10,000 due in
# a second, and how long a start takes with them. Takes ten minutes and 10 GB in the target directory; a first look is
# `timers.sh --pending 100000 --pairs 1 --window 1 --due-seconds 10 --lead 15 --output /dev/stderr`. Options are those of
# `compare.py timers`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --manifest-path "$here/../../Cargo.toml" --package skylark-broker
exec python3 "$here/compare.py" timers "$@"
