"""bzip2 files, unpacked in parallel while they are read.

lbzip2 does it when it is installed (a subprocess and a pipe). Otherwise the
file is cut at its block marks, each block is made into a stream of its own and
libbz2 unpacks them in threads; whatever does not fit is read again from the
beginning by libbz2 alone, whose verdict is final. indexed_bzip2 is not used: on
some damaged blocks it ends the whole process (an exception thrown in one of its
threads), and it takes some truncated files for complete ones.
"""

import bz2
import fcntl
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Literal, cast

import numpy as np

from roboao_assets.science.errors import RawDataError

Method = Literal["auto", "lbzip2", "blocks"]

_PIPE_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 20
_BLOCK_MAGIC = 0x314159265359
_END_MAGIC = 0x177245385090
_MAGIC_BITS = 48
_HEADER_BITS = 32
# A block holds 900 kB, which bzip2 never makes much longer: what is longer is none.
_LARGEST_BLOCK_BYTES = 2 << 20
# 900 kB of runs: five bytes stand for 259 at most.
_LARGEST_UNPACKED_BLOCK_BYTES = 48 << 20
# Variables from which lbzip2 takes further options.
_LBZIP2_VARIABLES = ("LBZIP2", "BZIP2", "BZIP")


def open_bzip2(
    path: Path, threads: int = 2, method: Method = "auto"
) -> "Lbzip2Stream | BlockStream":
    """Open a bzip2 file to be unpacked from its beginning to its end.

    Parameters
    ----------
    path : Path
    threads : int
        Threads that unpack.
    method : {'auto', 'lbzip2', 'blocks'}
        ``auto``: lbzip2 when it is on PATH, else blocks in threads.

    Returns
    -------
    Lbzip2Stream or BlockStream
        A context manager; its ``readinto(view)`` fills `view` wholly unless the
        end of the data comes first, and returns the number of bytes.

    Raises
    ------
    RawDataError
        If the file is not there, cannot be read or has zero bytes; also by
        ``readinto`` if it is truncated, damaged or no bzip2 file.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise unreadable(path, error) from None
    if size == 0:
        raise RawDataError(f"{str(path)!r} is empty (zero bytes); copy it again from the telescope")
    command = shutil.which("lbzip2") if method in ("auto", "lbzip2") else None
    if command:
        return Lbzip2Stream(path, threads, command)
    if method == "lbzip2":
        raise FileNotFoundError("lbzip2 is not on PATH")
    return BlockStream(path, threads)


def unreadable(path: Path, error: OSError) -> RawDataError:
    """Return the error that says why the operating system did not let a raw file be read."""
    advice = (
        "let the user that the archive runs as read it"
        if isinstance(error, PermissionError)
        else "look whether it is there and its disk is well, or copy it again from the telescope"
    )
    return RawDataError(f"{str(path)!r} cannot be read: {error.strerror or error}; {advice}")


def check_block(source: "Lbzip2Stream | BlockStream") -> None:
    """Read on to the end of the block that the last bytes came from.

    Of a damaged block bytes are handed out before its checksum is looked at: what they hold is
    of no meaning, and that they are damaged is what has to be told.

    Raises
    ------
    RawDataError
        If the block is damaged.
    """
    scratch = memoryview(bytearray(_WINDOW_BYTES))
    for _ in range(_LARGEST_UNPACKED_BLOCK_BYTES // _WINDOW_BYTES + 1):
        if source.readinto(scratch) < len(scratch):
            return


class Lbzip2Stream:
    """The output of ``lbzip2 -dc``."""

    def __init__(self, path: Path, threads: int, command: str):
        self.path = path
        environment = {k: v for k, v in os.environ.items() if k not in _LBZIP2_VARIABLES}
        # Unbuffered, and held: its position is what lbzip2 has read so far.
        self._file = path.open("rb", buffering=0)
        try:
            # From standard input: no name can be mistaken for an option or an unknown suffix.
            self._process = subprocess.Popen(
                [command, "-dc", "-n", str(threads)],
                stdin=self._file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
            )
        except OSError:
            self._file.close()
            raise
        # Unbuffered pipes, both asked for above.
        self._output = cast(FileIO, self._process.stdout)
        self._errors = cast(FileIO, self._process.stderr)
        # The pipe's default of 64 KiB makes the two processes wait for each other.
        with suppress(OSError):
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def consumed_bytes(self) -> int:
        """Bytes of the file that were read so far; unpacking is a few blocks behind."""
        return self._file.tell()

    def readinto(self, view: memoryview) -> int:
        """Fill `view`; return the number of bytes, fewer only at the end of the data."""
        done = 0
        while done < len(view):
            got = self._output.readinto(view[done:])
            if not got:
                self._finish()
                break
            done += got
        return done

    def _finish(self) -> None:
        message = (self._errors.read() or b"").decode(errors="replace").strip()
        status = self._process.wait()
        if status < 0:
            raise ChildProcessError(
                f"lbzip2 was ended by signal {-status} while it unpacked {str(self.path)!r}"
            )
        if status:
            raise RawDataError(
                f"{str(self.path)!r} cannot be unpacked: "
                f"{message or f'lbzip2 ended with status {status}'}; "
                f"the file is truncated or damaged, copy it again from the telescope"
            )

    def close(self) -> None:
        """End lbzip2 if it still works."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._output.close()
        self._errors.close()
        self._file.close()

    def __enter__(self) -> "Lbzip2Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class BlockStream:
    """The blocks of a bzip2 file, unpacked in threads and handed out in their order."""

    def __init__(self, path: Path, threads: int):
        self.path = path
        self._threads = max(1, threads)
        self.consumed_bytes = 0
        self._chunks = self._unpack()
        self._chunk = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        """Fill `view`; return the number of bytes, fewer only at the end of the data."""
        done = 0
        while done < len(view):
            if not self._chunk:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._chunk = memoryview(chunk)
                continue
            count = min(len(self._chunk), len(view) - done)
            view[done : done + count] = self._chunk[:count]
            self._chunk = self._chunk[count:]
            done += count
        return done

    def close(self) -> None:
        """Stop the threads."""
        self._chunk = memoryview(b"")
        self._chunks.close()

    def __enter__(self) -> "BlockStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _unpack(self) -> Generator[bytes]:
        handed_out = 0
        with self.path.open("rb") as file:
            try:
                for chunk in self._unpack_blocks(file.fileno()):
                    handed_out += len(chunk)
                    yield chunk
                return
            except _NotAsExpectedError:
                pass
        yield from _unpack_sequentially(self.path, handed_out)

    def _unpack_blocks(self, descriptor: int) -> Iterator[bytes]:
        pending: deque[Future[tuple[bytes, int]] | int] = deque()
        combined = 0
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bzip2")
        try:
            blocks = _blocks(descriptor)
            exhausted = False
            while pending or not exhausted:
                # A few blocks ahead: threads never starve, and memory stays a few MB.
                while not exhausted and len(pending) < 2 * self._threads + 2:
                    found = next(blocks, None)
                    if found is None:
                        exhausted = True
                    elif isinstance(found, int):
                        pending.append(found)
                    else:
                        self.consumed_bytes = found[1] // 8
                        pending.append(pool.submit(_unpack_block, descriptor, *found))
                if not pending:
                    break
                item = pending.popleft()
                if isinstance(item, int):
                    if item != combined:
                        raise _NotAsExpectedError
                    combined = 0
                    continue
                chunk, crc = item.result()
                combined = ((combined << 1 | combined >> 31) ^ crc) & 0xFFFFFFFF
                yield chunk
        finally:
            pool.shutdown(cancel_futures=True)


class _NotAsExpectedError(Exception):
    """The blocks do not follow each other as in a whole file; libbz2 has to look at it."""


def find_magics(descriptor: int) -> Iterator[tuple[int, bool]]:
    """Find the 48-bit marks of a bzip2 file, which stand at any bit.

    Parameters
    ----------
    descriptor : int
        Of a regular file, open to be read.

    Yields
    ------
    position : int
        Bit at which the mark begins, increasing.
    is_end : bool
        False: a block begins; True: a stream ends.
    """
    # Of a mark at any bit at least five whole bytes are known: those are looked for.
    needles = [
        (magic, shift, (magic << (8 - shift)).to_bytes(7, "big")[1:6], magic == _END_MAGIC)
        for magic in (_BLOCK_MAGIC, _END_MAGIC)
        for shift in range(8)
    ]
    start = 0
    while window := os.pread(descriptor, _WINDOW_BYTES + 6, start):
        found = []
        for magic, shift, needle, is_end in needles:
            at = window.find(needle)
            while at >= 0:
                first = at - 1
                bits = int.from_bytes(window[first : first + 7].ljust(7, b"\0"), "big")
                here = bits >> (8 - shift) & (1 << _MAGIC_BITS) - 1 == magic
                if 0 <= first < _WINDOW_BYTES and here:
                    found.append(((start + first) * 8 + shift, is_end))
                at = window.find(needle, at + 1)
        yield from sorted(found)
        start += _WINDOW_BYTES


def _blocks(descriptor: int) -> Iterator[tuple[int, int] | int]:
    """Yield (first bit, bit after the last) of each block, and each stream's CRC at its end."""
    if not _is_stream_header(os.pread(descriptor, 4, 0)):
        raise _NotAsExpectedError
    expected = _HEADER_BITS
    magics = find_magics(descriptor)
    position, is_end = next(magics, (-1, True))
    while position == expected:
        if not is_end:
            start = position
            position, is_end = next(magics, (-1, True))
            if position < 0 or position - start > 8 * _LARGEST_BLOCK_BYTES:
                break
            yield start, position
            expected = position
            continue
        first, shift = divmod(position + _MAGIC_BITS, 8)
        after = os.pread(descriptor, 5, first)
        if len(after) < (5 if shift else 4):
            break
        yield int.from_bytes(after.ljust(5, b"\0"), "big") >> (8 - shift) & 0xFFFFFFFF
        next_stream = -(-(position + _MAGIC_BITS + 32) // 8)
        if not os.pread(descriptor, 4, next_stream).startswith(b"BZh"):
            return  # the end of the file, or something that is no bzip2 stream: ignored by all
        expected = next_stream * 8 + _HEADER_BITS
        position, is_end = next(magics, (-1, True))
    raise _NotAsExpectedError


def _is_stream_header(start: bytes) -> bool:
    return len(start) == 4 and start[:3] == b"BZh" and start[3] in b"123456789"


def _unpack_block(descriptor: int, start: int, end: int) -> tuple[bytes, int]:
    """Unpack the block at bits [start, end) as a stream of its own; return data and CRC."""
    first, shift = divmod(start, 8)
    packed = np.frombuffer(os.pread(descriptor, -(-end // 8) - first, first) + b"\0", np.uint8)
    aligned = packed[:-1] << np.uint8(shift)
    if shift:
        aligned |= packed[1:] >> np.uint8(8 - shift)
    whole, rest = divmod(end - start, 8)
    body = aligned[:whole].tobytes()
    crc = int.from_bytes(body[6:10], "big")
    # The end of a stream follows the block's last bits, its CRC being that of the only block.
    tail = int(aligned[whole]) >> (8 - rest) if rest else 0
    tail = ((tail << _MAGIC_BITS | _END_MAGIC) << 32 | crc) << (-rest % 8)
    stream = b"BZh9" + body + tail.to_bytes((rest + 80 + 7) // 8, "big")
    decompressor = bz2.BZ2Decompressor()
    try:
        data = decompressor.decompress(stream)
    except OSError:
        raise _NotAsExpectedError from None
    if not decompressor.eof:
        raise _NotAsExpectedError
    return data, crc


def _unpack_sequentially(path: Path, skip: int) -> Iterator[bytes]:
    """Unpack with libbz2 alone, leaving out the first `skip` bytes."""
    advice = "the file is truncated or damaged, copy it again from the telescope"
    try:
        with bz2.open(path) as file:
            while chunk := file.read(_WINDOW_BYTES):
                left_out = min(skip, len(chunk))
                skip -= left_out
                yield chunk[left_out:]
    except EOFError:
        raise RawDataError(
            f"{str(path)!r} cannot be unpacked: unexpected end of file; {advice}"
        ) from None
    except (OSError, ValueError) as error:
        raise RawDataError(f"{str(path)!r} cannot be unpacked: {error}; {advice}") from None
