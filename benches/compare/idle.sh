#!/usr/bin/env bash
# Start-up time on an empty directory and idle memory of Skylark. Options are those of `compare.py idle`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --manifest-path "$here/../../Cargo.toml" --package skylark-broker
exec python3 "$here/compare.py" idle "$@"
