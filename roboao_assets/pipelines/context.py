"""One observation as its stages see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from roboao_assets.pipelines.frames import ObservationFrames
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.raw_night import RawExposure

# What an owner claims of an observation.
CLAIM = "reduction"


class NothingToMakeError(ArchiveError):
    """There is, for a reason that is no error, nothing for a stage to make: it is skipped."""


@dataclass(kw_only=True)
class ObservationContext:
    """An observation, its instrument, and what earlier stages of this task left in memory."""

    ws: Workspace
    night: str
    exposure: RawExposure
    profile: InstrumentProfile
    frames: ObservationFrames
    force: bool = False
    # What a stage leaves for later ones of this task, by a name of its own.
    memory: dict[str, Any] = field(default_factory=dict)
    _images: dict[Path, tuple[NDArray[np.float32], fits.Header]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The observation's id."""
        return self.exposure.id

    def kept(self, record: Mapping[str, Any] | None, fingerprint: str) -> str:
        """Fingerprint of the recorded product if it need not be made again, else ""."""
        return "" if self.force else self.ws.kept(record, fingerprint)

    def product(self, name: str) -> dict[str, Any]:
        """What the catalogue has of a product, e.g. `bright_star.strehl`; empty if nothing."""
        value: Any = self.ws.catalogue.observation(self.id) or {}
        for key in ("pipelined", *name.split(".")):
            value = value.get(key) or {}
        return dict(value)

    def keep_image(self, path: Path, image: NDArray[np.float32], header: fits.Header) -> None:
        """Keep a product just written, so that later stages of this task need not read it."""
        self._images[path] = (image, header)

    def image(self, path: Path) -> tuple[NDArray[np.float32], fits.Header]:
        """A product's image and header, from memory or disk."""
        if path not in self._images:
            self._images[path] = read_image(path)
        return self._images[path]
