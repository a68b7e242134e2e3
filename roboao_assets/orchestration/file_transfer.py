"""The run's side of workers without mounts: it sends them files and takes their products.

Every request is served by a thread of its own, so that the run goes on collecting results. A
file travels in chunks, of which a few are on their way at any time, whatever the number of
workers: that bounds the memory of run and scheduler, and the workers take turns. The run alone
makes paths of names (`storage.mirrored_files`). What it takes stands whole in the archive, with
the SHA-256 that the worker told, before the worker hears that it does.
"""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event, Lock
from typing import Any, BinaryIO

from distributed import Client

from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
from roboao_assets.orchestration.worker_files import deliver, give
from roboao_assets.science.errors import TransferError
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.mirrored_files import MirroredFiles, TransferRefusedError
from roboao_assets.storage.settings import Settings

CHUNK_BYTES = 4 << 20
# On their way at the same time, of all files and of one.
_MOST_CHUNKS, _MOST_OF_ONE = 8, 3
# Each serves a worker that waits; they are begun as they are needed.
_MOST_THREADS = 256
_HEAD_LIMIT_BYTES = 4 << 20

log = logging.getLogger(__name__)


@dataclass
class FileTraffic:
    """What has travelled: files and bytes of their content.

    Attributes
    ----------
    fetched_files, fetched_bytes : int
        Sent to workers; beginnings of files count by their bytes alone.
    pushed_files, pushed_bytes : int
        Taken from workers.
    """

    fetched_files: int = 0
    fetched_bytes: int = 0
    pushed_files: int = 0
    pushed_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, **amounts: int) -> None:
        """Count more."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def __str__(self) -> str:
        return (
            f"{self.fetched_files} files ({self.fetched_bytes / 1e6:.1f} MB) sent to the workers, "
            f"{self.pushed_files} files ({self.pushed_bytes / 1e6:.1f} MB) taken from them"
        )


@contextmanager
def served_files(
    client: Client, rules: TaskRules, settings: Settings, tasks: Sequence[ObservationTask]
) -> Iterator[FileTraffic]:
    """Serve the workers that reduce `tasks` the files they ask for, if they have none of their own.

    Parameters
    ----------
    client : distributed.Client
    rules : TaskRules
    settings : Settings
        Of this run, which has raw roots and archive.
    tasks : sequence of ObservationTask
        Only their observations' files are sent and taken.

    Yields
    ------
    FileTraffic
        What has travelled so far.
    """
    traffic = FileTraffic()
    if not rules.send_files:
        yield traffic
        return
    mirrored = {
        task.observation: MirroredFiles(settings, task.night, task.observation) for task in tasks
    }
    server = _FileServer(client, mirrored, traffic)
    client.subscribe_topic(rules.files_topic, server.note)
    try:
        yield traffic
    finally:
        if client.status == "running":
            client.unsubscribe_topic(rules.files_topic)
        server.close()


class _FileServer:
    def __init__(self, client: Client, mirrored: Mapping[str, MirroredFiles], traffic: FileTraffic):
        self._client, self._mirrored, self._traffic = client, mirrored, traffic
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="files")
        self._carriers = ThreadPoolExecutor(_MOST_CHUNKS, thread_name_prefix="chunks")
        self._closed = Event()

    def note(self, event: tuple[float, Any]) -> None:
        """Take a request; called in the client's own thread, which must not wait."""
        if not self._closed.is_set():
            self._pool.submit(self._serve, event[1])

    def close(self) -> None:
        """Serve nobody any more; what is under way ends at its next chunk."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)
        self._carriers.shutdown(cancel_futures=True)

    def _serve(self, message: Mapping[str, Any]) -> None:
        try:
            kind, content = self._end(message)
        except TransferRefusedError as error:
            log.error("%s", error)
            kind, content = "refused", str(error)
        except (TransferError, OSError) as error:
            log.warning("%s of %s: %s", message.get("ask"), message.get("name"), error)
            kind = "failed"
            content = f"{message.get('name')} could not be sent or taken by the run: {error}"
        except Exception as error:
            log.exception("defect in serving %s", message)
            kind, content = "refused", f"{type(error).__name__}: {error} (a defect of the run)"
        try:
            self._tell(message, kind, content)
        except Exception as error:
            # The worker died, or the scheduler; whoever polls the task learns of it.
            log.warning("the worker %s cannot be told: %s", message.get("worker"), error)

    def _end(self, message: Mapping[str, Any]) -> tuple[str, Any]:
        """Serve a request; return the last word of the answer."""
        observation = str(message["observation"])
        mirrored = self._mirrored.get(observation)
        if mirrored is None:
            raise TransferRefusedError(f"this run does not reduce {observation[:300]!r}")
        asks: dict[str, Callable[[MirroredFiles, Mapping[str, Any]], Any]] = {
            "describe": self._describe,
            "list": lambda m, about: [asdict(f) for f in m.folder_files(str(about["name"]))],
            "head": self._head,
            "fetch": self._fetch,
            "push": self._push,
            "remove": self._remove,
        }
        ask = asks.get(str(message["ask"]))
        if ask is None:
            raise TransferRefusedError(f"a worker asked for {message['ask']!r}, which nobody knows")
        return "end", ask(mirrored, message)

    def _tell(self, message: Mapping[str, Any], kind: str, content: Any) -> bool:
        worker = str(message["worker"])
        told = self._client.run(
            deliver, str(message["token"]), kind, content, workers=[worker], nanny=False
        )
        return bool(told[worker])

    def _describe(self, mirrored: MirroredFiles, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "roots": [asdict(root) for root in mirrored.roots],
            "folders": mirrored.folders(),
            "files": [asdict(file) for file in mirrored.files()],
        }

    def _head(self, mirrored: MirroredFiles, message: Mapping[str, Any]) -> bytes:
        wanted = min(int(message["n_bytes"]), _HEAD_LIMIT_BYTES)
        with mirrored.readable(str(message["name"])).open("rb") as file:
            head = file.read(wanted)
        self._traffic.add(fetched_bytes=len(head))
        return head

    def _fetch(self, mirrored: MirroredFiles, message: Mapping[str, Any]) -> str:
        path = mirrored.readable(str(message["name"]))
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != (message["size"], message["mtime_ns"]):
                raise TransferError(f"{path} has changed since the reduction began")

            def send(offset: int) -> bytes:
                chunk = os.pread(file.fileno(), CHUNK_BYTES, offset)
                if not self._tell(message, "chunk", (offset, chunk)):
                    raise TransferError("the worker does not wait for it any more")
                return chunk

            for chunk in self._in_turn(send, status.st_size):
                digest.update(chunk)
                self._traffic.add(fetched_bytes=len(chunk))
        self._traffic.add(fetched_files=1)
        return digest.hexdigest()

    def _in_turn(self, carry: Callable[[int], bytes], size: int) -> Iterator[bytes]:
        """Yield the chunks of a file in their order; the next is carried meanwhile.

        None is read before it is carried, and the files that wait take turns.
        """
        offsets = iter(range(0, size, CHUNK_BYTES))
        under_way: deque[Future[bytes]] = deque()
        try:
            while True:
                for offset in islice(offsets, _MOST_OF_ONE - len(under_way)):
                    if self._closed.is_set():
                        raise TransferError("the run has ended")
                    under_way.append(self._carriers.submit(carry, offset))
                if not under_way:
                    return
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
            # The file must stay open for those that cannot be cancelled.
            wait(under_way)

    def _push(self, mirrored: MirroredFiles, message: Mapping[str, Any]) -> int:
        path = mirrored.writable(str(message["name"]))
        size, mtime_ns = int(message["size"]), int(message["mtime_ns"])
        with write_whole(path) as partial:
            with partial.open("wb") as out:
                self._take(message, out, size)
            os.utime(partial, ns=(mtime_ns, mtime_ns))
        self._traffic.add(pushed_files=1, pushed_bytes=size)
        return path.stat().st_mtime_ns

    def _take(self, message: Mapping[str, Any], out: BinaryIO, size: int) -> None:
        worker, digest = str(message["worker"]), hashlib.sha256()

        def take(offset: int) -> bytes:
            wanted = min(CHUNK_BYTES, size - offset)
            chunk = self._client.run(
                give, str(message["token"]), offset, wanted, workers=[worker], nanny=False
            )[worker]
            if not isinstance(chunk, bytes) or len(chunk) != wanted:
                raise TransferError(f"the worker {worker} does not offer it any more")
            return chunk

        for chunk in self._in_turn(take, size):
            digest.update(chunk)
            out.write(chunk)
        if digest.hexdigest() != message["sha256"]:
            raise TransferError(f"it came damaged from the worker {worker} (SHA-256 differs)")

    def _remove(self, mirrored: MirroredFiles, message: Mapping[str, Any]) -> None:
        path: Path = mirrored.writable(str(message["name"]))
        path.unlink(missing_ok=True)
