"""Work on many frames a few at a time: what a block needs stays in the processor's cache."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# 16 boxes of 128 px are 1 MiB: a block and its spectra fit the second-level cache.
BLOCK_FRAMES = 16


def map_blocks(
    work: Callable[[slice], Result], count: int, *, threads: int = 1, block: int = BLOCK_FRAMES
) -> list[Result]:
    """Call `work` for each block of frames; return what it returned, in the order of the frames.

    The blocks do not depend on the number of threads, so neither do the results.

    Parameters
    ----------
    work : callable
        Takes the slice of a block's frame numbers. Gains by threads as far as it is
        NumPy's or a kernel's work, which goes on without the interpreter's lock.
    count : int
        Number of frames.
    threads : int
        1 works in the calling thread.
    block : int
        Frames in a block.
    """
    # Matrices this small gain nothing by threads of their own.
    with _libraries().limit(limits=1):
        return _map(work, count, threads, block)


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _map(work: Callable[[slice], Result], count: int, threads: int, block: int) -> list[Result]:
    blocks = [slice(first, min(first + block, count)) for first in range(0, count, block)]
    if threads <= 1 or len(blocks) <= 1:
        return [work(part) for part in blocks]
    with ThreadPoolExecutor(threads, thread_name_prefix="frames") as pool:
        return list(pool.map(work, blocks))
