#!/bin/bash
# Every benchmark with its bars: each runs the release binary, checks its figures, and fails when a bar is missed.
# Some twenty minutes on a machine that does nothing else; as root, for the gate's is on a real Postfix.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/rig/install
cargo bench --locked --bench replay -- --strict
cargo bench --locked --bench live -- --strict
cargo bench --locked --bench live -- --wide --strict
cargo bench --locked --bench scale -- --strict
cargo bench --locked --bench scale -- --series 10000 --strict
cargo bench --locked --bench gate -- --strict
