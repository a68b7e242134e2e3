"""One AO-off exposure: averaged, cleaned, fitted with both profiles, drawn."""

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.calibration import frame_calibration
from roboao_assets.pipelines.frames import frame_shape
from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.previews import seeing_exposure_preview
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import FitFailedError, NoStarError, RawDataError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.seeing import (
    SeeingMeasurement,
    airmass_at,
    measure_fwhm_error,
    measure_seeing,
    reduce_to_standard,
)
from roboao_assets.storage.files import write_bytes_whole
from roboao_assets.storage.raw_frames import file_record, read_frames
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_night import RawExposure

# Interleaved averages of the frames, from whose scatter the error is known.
_GROUPS = 4


@dataclass(frozen=True, kw_only=True)
class MeasuredExposure:
    """One AO-off exposure, as the night's document keeps it.

    `fwhm_arcsec` is by the model of the settings, as it was or at the zenith and 500 nm
    (`seeing.standard`); the FWHM of either model and `fwhm_standard_arcsec` stand beside it,
    None where they cannot be told.
    """

    id: str
    utc: datetime
    filter: str
    fwhm_arcsec: float
    fwhm_x_arcsec: float
    fwhm_y_arcsec: float
    fwhm_error_arcsec: float | None
    fwhm_gaussian_arcsec: float | None
    fwhm_moffat_arcsec: float | None
    fwhm_standard_arcsec: float | None
    beta: float | None
    airmass: float | None
    exposure_s: float | None
    frames: int
    fingerprint: str
    products: list[list[Any]]


def measure_exposure(
    ws: Workspace,
    night: str,
    exposure: RawExposure,
    known: dict[str, Any] | None,
    *,
    force: bool,
) -> tuple[MeasuredExposure, bool]:
    """Measure one exposure, or return what is known of it; and whether it was measured."""
    if exposure.problem:
        raise RawDataError(exposure.problem)
    name = exposure.name
    profile = ws.settings.profile(name.camera, name.utc)
    header = read_header(exposure.files[0])
    facts = parse_facts(header)
    calibration, _, masters = frame_calibration(
        ws,
        night,
        profile,
        mode=facts.mode,
        filter_name=name.filter_name,
        shape=frame_shape(header, exposure.files[0]),
    )
    records = [file_record(path) for path in exposure.files]
    options = ws.settings.seeing
    identity = fingerprint(
        "seeing", [r.sha256 for r in records], masters, options.fingerprint(), profile.name
    )
    if not force and ws.kept(known, identity):
        return MeasuredExposure(**known), False
    averager = FrameAverager(calibration, groups=_GROUPS, threads=ws.settings.threads)
    read_frames(
        exposure.files,
        threads=ws.settings.threads,
        on_frames=averager.add,
        known=records,
        most_bytes=ws.settings.most_raw_file_bytes,
    )
    image = _clean_cosmic_rays(averager.mean_image(), ws)
    shared = {"smoothing_px": options.smoothing_px, "bad_pixels": calibration.bad_pixels}
    seeing = measure_seeing(image, profile, model=options.model, **shared)
    error = measure_fwhm_error(averager.group_images(), seeing, profile, **shared)
    other = "gaussian" if options.model == "moffat" else "moffat"
    widths = {options.model: seeing.fwhm_arcsec, other: _fwhm(image, profile, other, shared)}
    airmass = _airmass(facts.elevation_deg)
    standard = None
    if airmass is not None:
        wavelength_nm = profile.filter(name.filter_name).wavelength_nm
        standard = reduce_to_standard(1.0, wavelength_nm=wavelength_nm, airmass=airmass)
    factor = 1.0
    if options.standard:
        if standard is None:
            raise RawDataError(
                f"the header of {exposure.files[0].name} has no usable elevation (ELVATION): its "
                f"seeing cannot be told at the zenith, as the setting seeing.standard asks"
            )
        factor = standard
    path = _draw(ws, night, exposure, image, seeing, profile)
    measured = MeasuredExposure(
        id=exposure.id,
        utc=name.utc,
        filter=name.filter_name,
        fwhm_arcsec=float(seeing.fwhm_arcsec) * factor,
        fwhm_x_arcsec=float(seeing.fwhm_x_arcsec) * factor,
        fwhm_y_arcsec=float(seeing.fwhm_y_arcsec) * factor,
        fwhm_error_arcsec=_or_none(error * factor),
        fwhm_gaussian_arcsec=_or_none(widths["gaussian"]),
        fwhm_moffat_arcsec=_or_none(widths["moffat"]),
        fwhm_standard_arcsec=None if standard is None else float(seeing.fwhm_arcsec) * standard,
        beta=_or_none(seeing.beta),
        airmass=airmass,
        exposure_s=facts.exposure_s,
        frames=len(averager.bias),
        **product_record(ws.paths.root, identity, [path]),
    )
    return measured, True


def _fwhm(
    image: NDArray[np.float32], profile: InstrumentProfile, model: str, shared: dict[str, Any]
) -> float:
    """FWHM by a model that is not the chosen one; NaN if it does not fit."""
    try:
        return measure_seeing(image, profile, model=model, **shared).fwhm_arcsec
    except (FitFailedError, NoStarError):
        return math.nan


def _airmass(elevation_deg: float | None) -> float | None:
    return None if elevation_deg is None or elevation_deg <= 0 else airmass_at(elevation_deg)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _draw(
    ws: Workspace,
    night: str,
    exposure: RawExposure,
    image: NDArray[np.float32],
    seeing: SeeingMeasurement,
    profile: InstrumentProfile,
) -> Path:
    picture = seeing_exposure_preview(
        image,
        x=seeing.x,
        y=seeing.y,
        fwhm_x_arcsec=seeing.fwhm_x_arcsec,
        fwhm_y_arcsec=seeing.fwhm_y_arcsec,
        fwhm_arcsec=seeing.fwhm_arcsec,
        plate_scale_arcsec=profile.plate_scale_arcsec,
        title=exposure.id,
    )
    path = ws.paths.seeing_preview(night, exposure.id)
    write_bytes_whole(path, picture)
    ws.catalogue.put_image(f"{night}/seeing/{exposure.id}", picture, night=night)
    return path


def _clean_cosmic_rays(image: NDArray[np.float32], ws: Workspace) -> NDArray[np.float32]:
    import astroscrappy

    options = ws.settings.cosmic_rays
    _, cleaned = astroscrappy.detect_cosmics(
        image,
        sigclip=options.sigclip,
        sigfrac=options.sigfrac,
        objlim=options.objlim,
        gain=options.gain,
        readnoise=options.readnoise,
        satlevel=options.satlevel,
        niter=options.niter,
    )
    return cleaned
