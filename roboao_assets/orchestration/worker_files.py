"""The files of a worker without mounts: fetched from the run when needed, products given to it.

The worker asks under a topic of the run (`Worker.log_event`), the run answers by functions that
it lets run in the worker's process (`Client.run`). Both pass through the scheduler, over Dask's
own connections: worker and run need not reach each other. What answers is in `file_transfer`.
"""

import asyncio
import atexit
import errno
import fcntl
import hashlib
import logging
import os
import queue
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from distributed import Worker, get_worker

from roboao_assets.science.errors import TransferError
from roboao_assets.storage.mirror import (
    Mirror,
    MirroredRoot,
    RemoteFile,
    SharedFiles,
    working_in,
)
from roboao_assets.storage.mirrored_files import TransferRefusedError
from roboao_assets.storage.product_files import file_sha256

# How long a worker waits for the next word of the run (s). It comes a chunk at a time, and waits
# for its turn where many workers ask at once.
SILENCE_S = 300.0
# How long a word of the run waits until what came before is written: a hanging disk keeps it from
# others.
_FULL_S = 60.0
# Chunks that wait to be written: the next one travels meanwhile, and no more are in memory.
_WAITING_CHUNKS = 2
_SCRATCH_PREFIX = "roboao-files-"
# Of a disk that is to hold a file, beside the file's own size.
_SPARE_BYTES = 64 << 20


@dataclass
class _Conversation:
    """What a worker waits for, or offers, under a token."""

    answers: "queue.Queue[tuple[str, Any]]"
    offered: Path | None = None


# Of this process, by token: what the run calls finds here whom it is for.
_conversations: dict[str, _Conversation] = {}


async def deliver(token: str, kind: str, content: Any) -> bool:
    """Give whoever waits under `token` a word of the run (False: nobody waits any more)."""
    conversation = _conversations.get(token)
    if conversation is None:
        return False
    try:
        await asyncio.to_thread(conversation.answers.put, (kind, content), timeout=_FULL_S)
    except queue.Full:
        return False
    return True


async def give(token: str, offset: int, n_bytes: int) -> bytes:
    """Return a piece of the file that is offered under `token`; empty if none is any more."""
    conversation = _conversations.get(token)
    if conversation is None or conversation.offered is None:
        return b""
    return await asyncio.to_thread(_read_piece, conversation.offered, offset, n_bytes)


def _read_piece(path: Path, offset: int, n_bytes: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), n_bytes, offset)


@dataclass(frozen=True, kw_only=True)
class DaskCarrier:
    """Brings files to this worker, and takes what it made, over the Dask scheduler.

    Attributes
    ----------
    worker : distributed.Worker
    topic : str
        Under which the run listens.
    observation : str
        Whose files they are.
    """

    worker: Worker
    topic: str
    observation: str

    def describe(self) -> dict[str, Any]:
        """What the mirror is made from: `roots`, `folders` and `files`."""
        return dict(self._answer("describe"))

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Write the content of `file` to `target`, compared with the SHA-256 that the run sends."""
        _check_room(target.parent, file)
        digest = hashlib.sha256()
        # The next chunk may overtake one.
        early: dict[int, bytes] = {}
        with (
            self._talk(
                "fetch", name=file.name, size=file.size_bytes, mtime_ns=file.mtime_ns
            ) as heard,
            target.open("xb") as out,
        ):
            for kind, content in heard:
                if kind == "end":
                    if content != digest.hexdigest() or out.tell() != file.size_bytes:
                        raise TransferError(f"{file.name} came damaged (SHA-256 differs)")
                    return
                early[content[0]] = content[1]
                while (chunk := early.pop(out.tell(), None)) is not None:
                    digest.update(chunk)
                    _write(out, chunk, file)

    def head(self, name: str, n_bytes: int) -> bytes:
        """Return the first bytes of a file."""
        return bytes(self._answer("head", name=name, n_bytes=n_bytes))

    def push(self, source: Path, name: str) -> int:
        """Let the run put the content of `source` in the place of `name`; return its time (ns)."""
        status = source.stat()
        answer = self._answer(
            "push",
            source,
            name=name,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=file_sha256(source),
        )
        return int(answer)

    def remove(self, name: str) -> None:
        """Let the run remove a file."""
        self._answer("remove", name=name)

    def list_folder(self, name: str) -> Sequence[RemoteFile]:
        """Return the files of a folder."""
        return [RemoteFile(**file) for file in self._answer("list", name=name)]

    def _answer(self, ask: str, offered: Path | None = None, **about: Any) -> Any:
        with self._talk(ask, offered, **about) as heard:
            return next(heard)[1]

    @contextmanager
    def _talk(
        self, ask: str, offered: Path | None = None, **about: Any
    ) -> Iterator[Iterator[tuple[str, Any]]]:
        token = uuid.uuid4().hex
        conversation = _Conversation(queue.Queue(_WAITING_CHUNKS), offered)
        _conversations[token] = conversation
        try:
            self.worker.log_event(
                self.topic,
                {
                    "ask": ask,
                    "token": token,
                    "worker": self.worker.address,
                    "observation": self.observation,
                    **about,
                },
            )
            yield self._words(conversation)
        finally:
            del _conversations[token]

    def _words(self, conversation: _Conversation) -> Iterator[tuple[str, Any]]:
        while True:
            try:
                kind, content = conversation.answers.get(timeout=SILENCE_S)
            except queue.Empty:
                raise TransferError(
                    f"the run that has the files of {self.observation} has not answered the "
                    f"worker {self.worker.address} for {SILENCE_S:g} s: see whether the run and "
                    f"the Dask scheduler still work"
                ) from None
            if kind == "refused":
                raise TransferRefusedError(content)
            if kind == "failed":
                raise TransferError(content)
            yield kind, content


def _check_room(folder: Path, file: RemoteFile) -> None:
    free = shutil.disk_usage(folder).free
    if free < file.size_bytes + _SPARE_BYTES:
        raise _full(file, free)


def _write(out: BinaryIO, content: bytes, file: RemoteFile) -> None:
    try:
        out.write(content)
        out.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(file, shutil.disk_usage(Path(out.name).parent).free) from error


def _full(file: RemoteFile, free: int) -> TransferError:
    scratch = _process_scratch.folder if _process_scratch is not None else "the scratch folder"
    return TransferError(
        f"the scratch folder {scratch} of the worker on {socket.gethostname()} has "
        f"{free / 1e9:.2f} GB free, and {file.name} needs {file.size_bytes / 1e9:.2f} GB: make "
        f"room there, or name another folder in the setting worker_scratch"
    )


class WorkerScratch:
    """A folder of this process, which the next one removes should this one not.

    The lock beside the folder is held as long as the process lives: a folder whose lock can be
    had is nobody's.
    """

    def __init__(self, base: Path):
        base.mkdir(parents=True, exist_ok=True)
        self.base = base
        name = f"{_SCRATCH_PREFIX}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock_path = base / f"{name}.lock"
        self._lock = _locked(self._lock_path)
        self.folder = base / name
        self.folder.mkdir(mode=0o700)
        self.shared = SharedFiles(self.folder / "shared")
        atexit.register(self.remove)
        remove_abandoned(base)

    @contextmanager
    def task_folder(self) -> Iterator[Path]:
        """Yield an empty folder, which is removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="task-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder, for the process ends."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()


def _locked(path: Path) -> BinaryIO:
    while True:
        file = path.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever tidied up between the two lines has taken the name away.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


def remove_abandoned(base: Path) -> list[Path]:
    """Remove what processes that ended have left in `base`; return the folders."""
    removed = []
    for path in base.glob(f"{_SCRATCH_PREFIX}*.lock"):
        folder = path.with_suffix("")
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)
            removed.append(folder)
    return removed


_process_scratch: WorkerScratch | None = None
_scratch_lock = Lock()


def _scratch(worker: Worker, named: str) -> WorkerScratch:
    """The scratch folder of this process; another setting begins another."""
    global _process_scratch  # noqa: PLW0603 - of the process
    base = Path(named).absolute() if named else Path(worker.local_directory).absolute().parent
    with _scratch_lock:
        if _process_scratch is None or _process_scratch.base != base:
            try:
                _process_scratch = WorkerScratch(base)
            except OSError as error:
                raise TransferError(
                    f"the scratch folder {base} of the worker on {socket.gethostname()} cannot be "
                    f"used ({error}): make it, or name another in the setting worker_scratch"
                ) from error
        return _process_scratch


class _NotOfChunks(logging.Filter):
    """Leaves out what Dask says of each function that is run here: a line a chunk."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        ours = {deliver.__name__, give.__name__}
        return "out-of-band" not in str(record.msg) or not ours & set(record.args or ())


@contextmanager
def worker_files(topic: str, observation: str, scratch_folder: str) -> Iterator[None]:
    """Let an observation be reduced in a mirror of the run's files.

    Parameters
    ----------
    topic : str
        Under which the run listens.
    observation : str
    scratch_folder : str
        Setting `worker_scratch`.

    Raises
    ------
    TransferError
        If the run does not answer or the scratch folder cannot be used.
    """
    worker = get_worker()
    logger = logging.getLogger("distributed.worker")
    if not any(isinstance(one, _NotOfChunks) for one in logger.filters):
        logger.addFilter(_NotOfChunks())
    scratch = _scratch(worker, scratch_folder)
    carrier = DaskCarrier(worker=worker, topic=topic, observation=observation)
    with scratch.task_folder() as folder:
        described = carrier.describe()
        files = [RemoteFile(**file) for file in described["files"]]
        scratch.shared.retain(files)
        roots = [MirroredRoot(**root) for root in described["roots"]]
        mirror = Mirror(folder, roots, carrier, scratch.shared)
        mirror.expect(files, described["folders"])
        with working_in(mirror):
            yield
