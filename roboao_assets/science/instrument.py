"""Instrument profiles: what the physics must know of a telescope and its camera."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from roboao_assets.science.errors import UnknownInstrumentError


@dataclass(frozen=True, kw_only=True)
class FilterProfile:
    """One filter of an instrument.

    Attributes
    ----------
    name : str
        Name as it stands in file names, e.g. ``Si``.
    wavelength_nm : float
        Effective wavelength.
    strehl_factor : float or None
        Published ratio of the peak pixel of the diffraction-limited PSF, at the
        drizzled scale, to its flux in the Strehl box. None: derived from the
        aperture (`roboao_assets.science.diffraction`).
    lower_nm, upper_nm : float or None
        Nominal limits of the passband, at half its height. None: not known.
    """

    name: str
    wavelength_nm: float
    strehl_factor: float | None = None
    lower_nm: float | None = None
    upper_nm: float | None = None


@dataclass(frozen=True, kw_only=True)
class InstrumentProfile:
    """A telescope and camera. All lengths on the sky are in arcsec, on the detector in raw px.

    Attributes
    ----------
    name, telescope, camera : str
        `camera` is the token of that name in file names.
    valid_from, valid_until : datetime
        UTC span in which `camera` means this profile (half open).
    plate_scale_arcsec : float
        Raw pixel on the sky.
    detector_px : int
        Side of a full frame (raw px).
    drizzle_scale : int
        Output pixels a raw pixel, per axis.
    drizzle_pixfrac : float
        Side of the drop (raw px). Small drops are sharper; where the image hardly moves from
        frame to frame they leave stripes, and 1 is right.
    primary_diameter_m, secondary_diameter_m : float
        Aperture of the diffraction-limited model.
    frames_calibrated : bool
        True: frames come dark-subtracted and flat-fielded; no masters are needed.
    east_is_left : bool
        True: with y up, east is towards smaller x (as on the sky).
    y_axis_pa_deg : float
        Position angle of the +y axis, east of north.
    read_noise_adu, gain_e_per_adu, saturation_adu : float
        Detector; `saturation_adu` is the level above which the guide star is flagged.
    guide_box_px : int
        Side of the box in which frames are measured and registered (raw px).
    edge_px : int
        The guide star is not looked for closer to the edge.
    star_sigma_px, background_sigma_px : float
        Difference of Gaussians that finds the guide star.
    strehl_box_half_px : int
        Half-width of the box cut for Strehl and PCA (drizzled px): side 2 n + 1.
    strehl_flux_box_arcsec : float
        Side of the box in which the flux of a Strehl ratio is summed.
    core_fit_radius_px : float
        Radius of the fit of the core (drizzled px).
    core_limit_arcsec, halo_limit_arcsec : float
        The Strehl is `OK` if core >= and halo <= these.
    seeing_min_fwhm_px : float
        A seeing FWHM below this (raw px) is discarded.
    cropped_preview_arcsec : float
        Side of the cropped preview.
    site_latitude_deg, site_altitude_m : float
        Of the telescope; without a latitude refraction is not taken into account.
    filters : dict of str to FilterProfile
    """

    name: str
    telescope: str
    camera: str
    valid_from: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    valid_until: datetime = datetime(9999, 1, 1, tzinfo=UTC)
    plate_scale_arcsec: float
    detector_px: int = 1024
    drizzle_scale: int = 2
    drizzle_pixfrac: float = 0.45
    primary_diameter_m: float
    secondary_diameter_m: float
    frames_calibrated: bool = False
    east_is_left: bool = True
    y_axis_pa_deg: float = 0.0
    read_noise_adu: float
    gain_e_per_adu: float
    saturation_adu: float
    guide_box_px: int
    edge_px: int
    star_sigma_px: float
    background_sigma_px: float
    strehl_box_half_px: int
    strehl_flux_box_arcsec: float
    core_fit_radius_px: float
    core_limit_arcsec: float
    halo_limit_arcsec: float
    seeing_min_fwhm_px: float
    cropped_preview_arcsec: float
    site_latitude_deg: float | None = None
    site_altitude_m: float = 0.0
    filters: dict[str, FilterProfile] = field(default_factory=dict)

    @property
    def drizzled_scale_arcsec(self) -> float:
        """Pixel of the stacked products on the sky (arcsec)."""
        return self.plate_scale_arcsec / self.drizzle_scale

    def filter(self, name: str) -> FilterProfile:
        """Return the filter called `name`.

        Raises
        ------
        UnknownInstrumentError
            If the profile has no such filter.
        """
        try:
            return self.filters[name]
        except KeyError:
            raise UnknownInstrumentError(
                f"filter {name!r} is not in the profile {self.name} "
                f"(it has {', '.join(sorted(self.filters))}); add it to the profile with its "
                f"effective wavelength, or correct the file name"
            ) from None

    def position_angle_deg(self, dx: float, dy: float) -> float:
        """Position angle (deg east of north, 0..360) of the offset (dx, dy) in detector axes."""
        from math import atan2, degrees

        towards_east = -dx if self.east_is_left else dx
        return (degrees(atan2(towards_east, dy)) + self.y_axis_pa_deg) % 360.0


def select_profile(
    profiles: dict[str, InstrumentProfile], camera: str, utc: datetime, name: str = ""
) -> InstrumentProfile:
    """Return the profile of `camera` at `utc`, or the one called `name` if that is not empty.

    Raises
    ------
    UnknownInstrumentError
        If no profile fits.
    """
    if name:
        if name not in profiles:
            raise UnknownInstrumentError(
                f"instrument profile {name!r} does not exist (there are {', '.join(profiles)})"
            )
        return profiles[name]
    for profile in profiles.values():
        if profile.camera == camera and profile.valid_from <= utc < profile.valid_until:
            return profile
    raise UnknownInstrumentError(
        f"no instrument profile has camera {camera!r} at {utc:%Y-%m-%d} (there are "
        + ", ".join(f"{p.name}: {p.camera}" for p in profiles.values())
        + "); add a profile, or name one in the setting `instrument`"
    )
