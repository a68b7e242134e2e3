#!/usr/bin/env bash
# The main job end to end: a raw night becomes an archive.
# Makes it in $DEMO anew each time; NIGHT is its UT date, BIN the environment's programs.
set -euo pipefail

export ROBOAO_RAW_ROOTS="$DEMO/raw" ROBOAO_ARCHIVE_ROOT="$DEMO/archive"
unset DAGSTER_HOME ROBOAO_CONFIG ROBOAO_CATALOGUE_URL
start=$SECONDS
rm -rf "$DEMO"

echo "== a raw night, true to format, with known truth"
"$BIN/roboao" simulate "$NIGHT" --targets 8 --frames 90 --size 256 --seed 7

echo "== Dagster reduces it: calibration, seeing, stacks, Strehl ratios, previews"
"$BIN/roboao" night "$NIGHT"

echo "== the administrator adds single stars to the PSF library"
# shellcheck disable=SC2046 # ids hold no blanks
"$BIN/roboao" psf-library add $("$BIN/python" -m simulator.single_stars "$DEMO/raw/$NIGHT/truth.json")

echo "== the same night again: only what the library changed is made (PCA, contrast)"
"$BIN/roboao" night "$NIGHT"

echo
echo "Done in $((SECONDS - start)) s."
echo "The archive: $DEMO/archive/$NIGHT"
echo "Its pages:   make serve   (once before: make user, the first user of the dashboard)"
