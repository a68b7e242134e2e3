"""A clock that tests set back and forth, for the processes of one deployment alone."""

import os
import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("stepped_clock.c")


class SteppedClock:
    """The time of day of the processes that have `environment`; this process keeps its own."""

    def __init__(self, folder: Path):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            reason = "there is no C compiler to make the clock that is set (needs cc)"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        library = folder / "stepped_clock.so"
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE],
            check=True,
        )
        self._file = folder / "stepped_clock"
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._file)}

    def set(self, step: timedelta) -> None:
        """Set the clock to this far from the right time, at once and for all."""
        # In place: the processes have the file in their memory.
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", int(step.total_seconds())))
