"""The frames of raw files, unpacked straight into a cube in memory.

From the compressed file to the cube there is no scratch file and no copy but the
kernel's own between two processes: unpacking, the parsing of the FITS structure,
hashing, and what the caller makes of the frames so far go on at the same time.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import roboao_native
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.bzip2 import (
    BlockStream,
    Lbzip2Stream,
    Method,
    check_block,
    open_bzip2,
    unreadable,
)
from roboao_assets.storage.fits_cards import read_cards
from roboao_assets.storage.fits_stream import MOST_UNPACKED_BYTES, FitsStream, ImageLayout
from roboao_assets.storage.frame_memory import FrameMemory

_HASH_BYTES = 1 << 20
_SCRATCH_BYTES = 1 << 20

FramesCallback = Callable[[NDArray, int], None]
ProgressCallback = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class RawFileRecord:
    """Identity of a raw file.

    Attributes
    ----------
    name : str
        Without folder.
    size_bytes, mtime_ns : int
    sha256 : str
        Of the file as it is (compressed), hexadecimal.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class FrameCube:
    """All frames of an exposure, or of a group of calibration files.

    Attributes
    ----------
    frames : ndarray of uint16 or float32, (n, y, x)
        In native byte order. uint16 for 16-bit unsigned files, else float32 with
        BSCALE, BZERO and BLANK applied.
    header : astropy.io.fits.Header
        The primary header of the first file.
    files : tuple of RawFileRecord
    first_frame : tuple of int
        Index in `frames` of the first frame of each file.
    nonfinite_frames : tuple of int
        Frames (of float32 cubes) that hold a NaN or an infinity.
    """

    frames: NDArray[np.uint16] | NDArray[np.float32]
    header: fits.Header
    files: tuple[RawFileRecord, ...]
    first_frame: tuple[int, ...]
    nonfinite_frames: tuple[int, ...] = ()


def file_record(path: Path, known: RawFileRecord | None = None) -> RawFileRecord:
    """Return the identity of a raw file.

    Parameters
    ----------
    path : Path
    known : RawFileRecord, optional
        An earlier record: if name, size and modification time are the same, it
        is returned and the file is not read.

    Raises
    ------
    RawDataError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        status = path.stat()
        identity = (path.name, status.st_size, status.st_mtime_ns)
        if known and identity == (known.name, known.size_bytes, known.mtime_ns):
            return known
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_HASH_BYTES):
                digest.update(piece)
    except OSError as error:
        raise unreadable(path, error) from None
    return RawFileRecord(
        name=path.name,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=digest.hexdigest(),
    )


def read_frames(
    files: Sequence[Path],
    *,
    threads: int = 2,
    on_frames: FramesCallback | None = None,
    on_progress: ProgressCallback | None = None,
    block: int = 16,
    known: Sequence[RawFileRecord] = (),
    method: Method = "auto",
    most_bytes: int = MOST_UNPACKED_BYTES,
) -> FrameCube:
    """Unpack all frames of `files`, in order, into one cube.

    Parameters
    ----------
    files : sequence of Path
        ``*.fits.bz2``, in the order of their frames.
    threads : int
        Threads that unpack.
    on_frames : callable, optional
        Called in this thread as ``on_frames(new, first)`` while unpacking goes on:
        a view of the frames that have come, and the index of the first of them.
        What it raises ends the reading and is raised here.
    on_progress : callable, optional
        Called after that as ``on_progress(frames, part)``: the frames that have come, and the
        part (0..1) of the compressed bytes that were read for them. No raw file says how many
        frames it has.
    block : int
        Frames in each such call (the last call may have fewer).
    known : sequence of RawFileRecord
        Earlier records: files that did not change since are not hashed again.
    method : {'auto', 'lbzip2', 'blocks'}
        How to unpack (`bzip2.open_bzip2`).
    most_bytes : int
        A file that unpacks to more is refused, of which no more than that is read.

    Returns
    -------
    FrameCube

    Raises
    ------
    RawDataError
        A file is empty, truncated, damaged, no FITS file, without an image, of
        another shape or type than the first, larger than `most_bytes`, or changed while it was
        read; or no
        frame has finite values in at least half of its pixels.
    """
    files = tuple(Path(path) for path in files)
    if not files:
        raise RawDataError("no raw file was given to read frames from")
    reading = _Reading(files, threads, max(1, block), method, most_bytes)
    before = [_size_and_time(path) for path in files]
    earlier = {record.name: record for record in known}
    with ThreadPoolExecutor(2, thread_name_prefix="raw-frames") as pool:
        records = pool.submit(lambda: [file_record(p, earlier.get(p.name)) for p in files])
        done = pool.submit(reading.run)
        try:
            while (span := reading.spans.get()) is not None:
                frames, first, part = span
                if on_frames is not None:
                    on_frames(frames, first)
                if on_progress is not None:
                    on_progress(first + len(frames), part)
        finally:
            reading.stop.set()
        try:
            done.result()
            unchanged = records.result()
        except RawDataError:
            # What still arrives ends anywhere: that is told, not the fault that was met there.
            _check_unchanged(files, before)
            raise
    _check_unchanged(files, before)
    for path, record in zip(files, unchanged, strict=True):
        if file_record(path, record) != record:
            raise _changed(path)
    return FrameCube(
        frames=reading.frames(),
        header=reading.header,
        files=tuple(unchanged),
        first_frame=tuple(reading.first_frame),
        nonfinite_frames=tuple(reading.nonfinite),
    )


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _check_unchanged(files: Sequence[Path], before: Sequence[tuple[int, int] | None]) -> None:
    for path, identity in zip(files, before, strict=True):
        if _size_and_time(path) != identity:
            raise _changed(path)


def _changed(path: Path) -> RawDataError:
    return RawDataError(
        f"{str(path)!r} changed while it was read; it is read again when it has settled"
    )


def count_frames(
    files: Sequence[Path],
    *,
    threads: int = 2,
    method: Method = "auto",
    most_bytes: int = MOST_UNPACKED_BYTES,
) -> tuple[int, ...]:
    """Count the frames of each file, keeping none of them.

    A raw file does not say how many extensions follow, and nothing short of
    unpacking does: bzip2 blocks hold a number of bytes that depends on the data.
    So this streams through the file, in constant memory. Where the frames are
    needed as well, take the number from `read_frames`.

    Raises
    ------
    RawDataError
        As `read_frames` does, for single files.
    """
    counts = []
    scratch = bytearray(_SCRATCH_BYTES)
    for path in map(Path, files):
        with open_bzip2(path, threads, method) as source:
            stream = FitsStream(source, path, most_bytes)
            with _damage_first(source):
                while (image := stream.next_image()) is not None:
                    stream.skip_frames(image[0], scratch)
        counts.append(stream.frames_read)
    return tuple(counts)


@contextmanager
def _damage_first(source: Lbzip2Stream | BlockStream) -> Iterator[None]:
    """Tell of what a damaged block holds that it is damaged."""
    try:
        yield
    except RawDataError:
        check_block(source)
        raise


class _StoppedError(Exception):
    """The caller wants no more frames."""


class _Reading:
    """One pass over the files, in a thread of its own; `spans` tells what has come."""

    def __init__(
        self, files: tuple[Path, ...], threads: int, block: int, method: Method, most_bytes: int
    ):
        self.files = files
        self.spans: SimpleQueue[tuple[NDArray, int, float] | None] = SimpleQueue()
        self.stop = Event()
        self.header = fits.Header()
        self.first_frame: list[int] = []
        self.nonfinite: list[int] = []
        self._threads, self._block, self._method = threads, block, method
        self._most_bytes = most_bytes
        self._layout: ImageLayout | None = None
        self._memory: FrameMemory | None = None
        self._usable = 0
        self._count = 0
        self._told = 0
        self._source: Lbzip2Stream | BlockStream | None = None
        self._bytes_total = sum((_size_and_time(path) or (0,))[0] for path in files)
        self._bytes_before = 0

    def run(self) -> None:
        try:
            for path in self.files:
                self._read_file(path)
            self._tell()
            if not self._usable:
                raise RawDataError(
                    f"none of the {self._count} frames of {_names(self.files)} has finite values "
                    f"in half of its pixels; copy it again from the telescope"
                )
        except _StoppedError:
            pass
        finally:
            self.spans.put(None)

    def frames(self) -> NDArray:
        return self._allocated().frames(0, self._count)

    def _read_file(self, path: Path) -> None:
        self.first_frame.append(self._count)
        with open_bzip2(path, self._threads, self._method) as source:
            self._source = source
            with _damage_first(source):
                self._read_images(FitsStream(source, path, self._most_bytes))
            self._bytes_before += source.consumed_bytes
            self._source = None
        if self._count == self.first_frame[-1]:
            raise RawDataError(f"{str(path)!r} holds no image, only headers without data")

    def _read_images(self, stream: FitsStream) -> None:
        is_primary = True
        while (image := stream.next_image()) is not None:
            layout, header = image
            if is_primary and len(self.first_frame) == 1:
                self.header = read_cards(header)
            is_primary = False
            if layout.n_frames:
                self._check(layout, stream)
                self._read_image(layout, stream)

    def _check(self, layout: ImageLayout, stream: FitsStream) -> None:
        if self._layout is None:
            self._layout = layout
            self._memory = FrameMemory(layout.shape, layout.dtype, self._bytes_total)
        elif (layout.shape, layout.dtype) != (self._layout.shape, self._layout.dtype):
            raise stream.problem(
                f"the first frame is {self._layout.describe()}, this one is {layout.describe()}; "
                f"frames of one exposure (or of one kind of calibration file) must be alike"
            )

    def _read_image(self, layout: ImageLayout, stream: FitsStream) -> None:
        memory = self._allocated()
        raw = None if layout.is_uint16 else np.empty(layout.frame_bytes, np.uint8)
        for _ in range(layout.n_frames):
            if self.stop.is_set():
                raise _StoppedError
            frame = memory.slot(self._count)
            if raw is None:
                stream.read_frame(frame.data.cast("B"))
                self._usable += 1
            else:
                stream.read_frame(raw.data)
                layout.convert(raw, frame)
                self._note_finite(frame)
            self._count += 1
            if self._count - self._told >= self._block:
                self._tell()

    def _note_finite(self, frame: NDArray[np.float32]) -> None:
        finite = int(np.count_nonzero(np.isfinite(frame)))
        if finite < frame.size:
            self.nonfinite.append(self._count)
        self._usable += 2 * finite >= frame.size

    def _tell(self) -> None:
        if self._count > self._told:
            new = self._allocated().frames(self._told, self._count)
            if new.dtype == np.uint16:
                roboao_native.decode_uint16(new)
            read = self._bytes_before + (self._source.consumed_bytes if self._source else 0)
            self.spans.put((new, self._told, min(1.0, read / max(1, self._bytes_total))))
            self._told = self._count

    def _allocated(self) -> FrameMemory:
        # There is memory from the first image on, and no frame without one.
        assert self._memory is not None
        return self._memory


def _names(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
    return ", ".join(path.name for path in files[:3]) + more
