"""What Dask's workers have in hand, as their scheduler sees it, several times a second.

As a program, on a machine that reaches the scheduler, it prints that; `watching` reads it.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HERE = "/opt/roboao/tests/hosts/worker_watch.py"


class Watch:
    """The workers that there are, by address, with the names of the tasks they have."""

    def __init__(self, process: subprocess.Popen):
        self.tasks: dict[str, list[str]] = {}
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.tasks = json.loads(line)

    def end(self) -> None:
        """End the program, and the reading of what it prints."""
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join()
        self._process.stdout.close()

    def busy(self, night: str) -> int:
        """Return how many observations of a night are with the workers."""
        return sum(f"_{night}_" in key for keys in self.tasks.values() for key in keys)


@contextmanager
def watching(enter: list[str], scheduler: str) -> Iterator[Watch]:
    """Yield a watch over the workers of `scheduler`; `enter` goes before the command."""
    process = subprocess.Popen(
        [*enter, "/opt/roboao/.venv/bin/python", HERE, scheduler],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    watch = Watch(process)
    try:
        yield watch
    finally:
        watch.end()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Print the tasks of each worker, a line a look, until the standard input ends."""
    from distributed import Client

    threading.Thread(target=_end_with_input, daemon=True).start()
    with Client(sys.argv[1], timeout=120, set_as_default=False) as client:
        while True:
            tasks = {worker: [str(k) for k in keys] for worker, keys in client.processing().items()}
            print(json.dumps(tasks), flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
