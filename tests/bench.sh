#!/bin/bash
# Every benchmark with its bars: each runs the release binary, checks its figures, and fails when a bar is missed.
# Some ten minutes on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo bench --locked --bench replay -- --strict
cargo bench --locked --bench live -- --strict
cargo bench --locked --bench live -- --wide --strict
cargo bench --locked --bench scale -- --strict
cargo bench --locked --bench scale -- --series 10000 --strict
