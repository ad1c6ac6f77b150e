#!/usr/bin/env bash
# What the suppression of duplicates costs a producer: the same load on a topic that asks for it and on one that does not,
# in interleaved pairs. Options are those of `compare.py duplicates`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --manifest-path "$here/../../Cargo.toml" --package skylark-broker
exec python3 "$here/compare.py" duplicates "$@"
