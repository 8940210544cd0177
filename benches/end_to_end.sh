#!/usr/bin/env bash
# The end-to-end figures, on real brokers: benches/end_to_end.sh [ROW…]. See benches/end_to_end/main.rs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec .ci/brokers.sh cargo bench --locked --bench end_to_end -- "$@"
