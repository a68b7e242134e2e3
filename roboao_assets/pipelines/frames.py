"""The raw frames of an observation and what calibrates them: unpacked once for all stages."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from astropy.io import fits

from roboao_assets.pipelines.calibration import frame_calibration, known_records
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError, RawDataError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.raw_frames import FrameCube, RawFileRecord, file_record, read_frames
from roboao_assets.storage.raw_header import ExposureFacts, parse_facts, read_header
from roboao_assets.storage.raw_night import RawExposure

# Told the frames read so far and the part of the raw bytes that they were.
FrameProgress = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class LoadedFrames:
    """All frames of an observation in memory, as they came, and their averages."""

    cube: FrameCube
    averager: FrameAverager


@dataclass(kw_only=True)
class ObservationFrames:
    """The frames of one observation: read when a stage first needs them, held till released."""

    ws: Workspace
    night: str
    exposure: RawExposure
    profile: InstrumentProfile
    on_progress: FrameProgress | None = None
    _loaded: LoadedFrames | None = field(default=None, init=False)
    _failure: ArchiveError | None = field(default=None, init=False)

    @cached_property
    def header(self) -> fits.Header:
        """Primary header of the first file (RawDataError if the night's listing found a fault)."""
        if self.exposure.problem:
            raise RawDataError(self.exposure.problem)
        return read_header(self.exposure.files[0])

    @cached_property
    def facts(self) -> ExposureFacts:
        """What the header says of the exposure."""
        return parse_facts(self.header)

    @cached_property
    def wavelength_nm(self) -> float:
        """Effective wavelength of the filter."""
        return self.profile.filter(self.exposure.name.filter_name).wavelength_nm

    @property
    def calibration(self) -> FrameCalibration:
        """What calibrates the frames."""
        return self._calibration[0]

    @property
    def masters(self) -> list[Path]:
        """The master files it was made from."""
        return self._calibration[1]

    @cached_property
    def _calibration(self) -> tuple[FrameCalibration, list[Path], list[str]]:
        return frame_calibration(
            self.ws,
            self.night,
            self.profile,
            mode=self.facts.mode,
            filter_name=self.exposure.name.filter_name,
            shape=frame_shape(self.header, self.exposure.files[0]),
        )

    @cached_property
    def records(self) -> tuple[RawFileRecord, ...]:
        """Identities of the raw files; hashed here unless they were read or are known."""
        if self._loaded is not None:
            records = self._loaded.cube.files
        else:
            known = self._known
            records = tuple(file_record(p, known.get(p.name)) for p in self.exposure.files)
        self.ws.catalogue.set_raw_records(self.exposure.id, [asdict(r) for r in records])
        return records

    @property
    def _known(self) -> dict[str, RawFileRecord]:
        return known_records(self.ws.catalogue.raw_records(self.exposure.id))

    @property
    def inputs(self) -> list[Any]:
        """What the frames and their calibration are, for a fingerprint."""
        return [
            [[r.name, r.sha256] for r in self.records],
            self._calibration[2],
            self.profile.name,
        ]

    def load(self) -> LoadedFrames:
        """Return the frames, unpacked at most once.

        Raises
        ------
        RawDataError, CalibrationMissingError
            The same for every stage that asks.
        """
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            try:
                self._loaded = self._read()
            except ArchiveError as error:
                self._failure = error
                raise
        return self._loaded

    def release(self) -> None:
        """Give the memory back."""
        self._loaded = None

    def _read(self) -> LoadedFrames:
        settings = self.ws.settings
        averager = FrameAverager(
            self.calibration, groups=settings.bright_star.groups, threads=settings.threads
        )
        cube = read_frames(
            self.exposure.files,
            threads=settings.threads,
            on_frames=averager.add,
            on_progress=self.on_progress,
            known=tuple(self._known.values()),
            most_bytes=settings.most_raw_file_bytes,
        )
        return LoadedFrames(cube=cube, averager=averager)


def frame_shape(header: fits.Header, path: Path) -> tuple[int, int]:
    """Shape (y, x) of the frames that a primary header announces.

    Raises
    ------
    RawDataError
        If it announces no image.
    """
    try:
        return int(header["NAXIS2"]), int(header["NAXIS1"])
    except (KeyError, TypeError, ValueError) as error:
        raise RawDataError(
            f"{path} has no image in its primary header: NAXIS1 and NAXIS2 are needed ({error})"
        ) from None
