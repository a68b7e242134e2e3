"""Memory for a cube of frames whose number is not known before the last one is unpacked."""

import mmap
from contextlib import suppress

import numpy as np

# Absent from the mmap module before Python 3.13; the same number on all Linux but MIPS and Alpha.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
# Unpacked bytes reserved for each compressed one: camera frames come to 2 to 4.
_RESERVED_RATIO = 64
_SPARE_BYTES = 64 << 20


class FrameMemory:
    """A growing (n, y, x) array in reserved address space.

    Address space costs nothing: a page is taken when it is first written, and
    all of them go back to the system with the last array that was handed out.
    Should the reservation not do after all (frames that are nearly all alike
    compress a thousandfold), the frames are copied once into one twice as large;
    arrays handed out before stay as they are.

    Parameters
    ----------
    shape : tuple of int
        (y, x) of a frame.
    dtype : numpy.dtype
    compressed_bytes : int
        Size of the files: the reservation is a generous multiple.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype, compressed_bytes: int):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.frame_bytes = shape[0] * shape[1] * self.dtype.itemsize
        self._reserve(max(1, (compressed_bytes * _RESERVED_RATIO + _SPARE_BYTES)))

    def _reserve(self, n_bytes: int) -> None:
        least = 2 * self.frame_bytes
        while True:
            capacity = max(n_bytes, least) // self.frame_bytes
            try:
                area = mmap.mmap(
                    -1,
                    capacity * self.frame_bytes,
                    flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE,
                    prot=mmap.PROT_READ | mmap.PROT_WRITE,
                )
                break
            except OSError as error:
                # Where address space is limited (ulimit -v, strict overcommit): ask for less.
                if n_bytes <= least:
                    raise MemoryError(f"no memory for frames of {self.shape} px") from error
                n_bytes //= 2
        with suppress(OSError):
            # Fewer page faults while the cube fills.
            area.madvise(mmap.MADV_HUGEPAGE)
        self.capacity = capacity
        self._frames = np.frombuffer(area, self.dtype).reshape(capacity, *self.shape)

    def slot(self, index: int) -> np.ndarray:
        """Return the (writable) frame `index`, which is at most one after the last so far."""
        if index >= self.capacity:
            old = self._frames
            self._reserve(2 * self.capacity * self.frame_bytes)
            if self.capacity <= index:
                raise MemoryError(f"no address space for more than {index} frames of {self.shape}")
            self._frames[:index] = old[:index]
        return self._frames[index]

    def frames(self, first: int, last: int) -> np.ndarray:
        """Return the frames [first, last), a view."""
        return self._frames[first:last]
