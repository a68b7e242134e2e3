"""`make bench`: kernels, the stack against unpacking, and the archive against the truth."""

import subprocess
import sys

PARTS = ("benchmarks.kernels", "benchmarks.unpacking", "benchmarks.catalogue", "benchmarks.truth")

if __name__ == "__main__":
    status = 0
    for part in PARTS:
        print(f"\n== {part}", flush=True)
        status |= subprocess.run([sys.executable, "-m", part], check=False).returncode
    raise SystemExit(status)
