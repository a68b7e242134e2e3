#!/usr/bin/env bash
# All tests, quick ones first.
set -euo pipefail
bin=.venv/bin
export DAGSTER_DISABLE_TELEMETRY=1
# The tests' archives are their own: no setting of the site's may reach them.
for name in $(compgen -e ROBOAO_); do
  case $name in ROBOAO_TEST_*) ;; *) unset "$name" ;; esac
done
unset DAGSTER_HOME
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/lint-imports"
exec "$bin/python" -m pytest "$@"
