"""Prints, several times a second, how many tasks the workers of a Dask scheduler have in hand."""

import json
import sys
import time

from distributed import Client


def main() -> None:
    with Client(sys.argv[1], set_as_default=False) as client:
        while True:
            tasks = {worker: [str(k) for k in keys] for worker, keys in client.processing().items()}
            print(json.dumps(tasks), flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
