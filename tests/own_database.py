"""A database of a test's own, on a port that stays: to be stopped, frozen and started again."""

import signal
import subprocess
from pathlib import Path

from deployment import free_port
from mongodb_server import STOP_LIMIT_S, built_ferretdb, url_printed


class OwnDatabase:
    """FerretDB with its data in `folder`; not started yet."""

    def __init__(self, folder: Path):
        self._program, self._folder = built_ferretdb(), folder
        self._data = folder / "database"
        self._data.mkdir()
        self._address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen | None = None
        self._starts = 0

    @property
    def url(self) -> str:
        return f"mongodb://{self._address}/roboao"

    def start(self) -> None:
        self._starts += 1
        output = self._folder / f"database.{self._starts}.txt"
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                [self._program, "-directory", self._data, "-listen", self._address],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
            )
        url_printed(self._process, output)

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT: it hangs, and goes on; it answers nobody in between."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """It is gone: who asks is refused."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process = None
