#!/usr/bin/env bash
# The kernels' tests with AddressSanitizer and UndefinedBehaviorSanitizer.
set -euo pipefail
bin=${BIN:-.venv/bin}
folder=build/sanitized
rm -rf "$folder"
"$bin/python" -m pip install --quiet --no-deps --no-build-isolation --target "$folder" \
  --config-settings=cmake.define.ROBOAO_SANITIZE=ON \
  --config-settings=build-dir=build/sanitized-objects .

libraries=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so.6)
# The interpreter itself leaks on purpose. Files compiled for the tests must not hide a failure.
exec env LD_PRELOAD="$libraries" \
  ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
  ROBOAO_TEST_SANITIZED="$PWD/$folder" "$bin/python" tools/sanitized_tests.py
