#!/usr/bin/env bash
# All tests, quick ones first.
set -euo pipefail
bin=.venv/bin
export DAGSTER_DISABLE_TELEMETRY=1
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/lint-imports"
exec "$bin/python" -m pytest "$@"
