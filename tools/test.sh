#!/usr/bin/env bash
# All tests but those of `make play`, `make faults` and `make soak`.
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
# Half of the time is waiting for servers, daemons and browsers. A file's tests stay together, as
# they share what is simulated once; the long files come first as they stand.
exec "$bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
