#!/usr/bin/env bash
# How long Skylark takes after kill -9 until it acknowledges and serves: with a log of 50 MiB and one of 5 GiB, which
# needs 6 GB in the target directory for a minute or two. Options are those of `compare.py restart`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --manifest-path "$here/../../Cargo.toml" --package skylark-broker
exec python3 "$here/compare.py" restart "$@"
