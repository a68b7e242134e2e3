"""Raw files made by the reference FITS writer and the reference bzip2."""

import bz2
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from raw_material import fits_bytes


@pytest.fixture
def write_raw(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes arrays (or bytes) as a raw file below the test's folder."""

    def write(
        name: str,
        content: bytes | Sequence[np.ndarray],
        cards: dict | None = None,
        level: int = 9,
    ) -> Path:
        raw = content if isinstance(content, bytes) else fits_bytes(content, cards)
        path = tmp_path / f"{name}.fits.bz2"
        path.write_bytes(bz2.compress(raw, level))
        return path

    return write
