#!/usr/bin/env bash
# Skylark beside Apache RocketMQ (fetched by Maven): a table of medians. Options are those of `compare.py load`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
cargo build --release --manifest-path "$here/../../Cargo.toml" --package skylark-broker
mkdir -p "$target/tmp"
# What was fetched once is enough.
package=(mvn -q -B -f "$here/apache/pom.xml" "-Dout=$(cd "$target" && pwd)/tmp/apache-rocketmq" package)
"${package[@]}" -o >/dev/null || "${package[@]}"
exec python3 "$here/compare.py" load "$@"
