"""A field of stars with known places on the sky, and the reference catalogue of it.

From a pixel to the sky by way of what light went through, backwards: the camera's distortion,
scale and orientation, then the air. Nothing of the archive's own astrometry is used: it is what
is measured by this.
"""

from dataclasses import dataclass
from datetime import datetime
from math import cos, exp, pi, radians, sin

import erfa
import numpy as np
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from roboao_assets.science.instrument import InstrumentProfile
from simulator.headers import Pointing
from simulator.targets import Companion

CATALOGUE_NAME = "reference_stars.ecsv"
CATALOGUE_EPOCH = 2016.0
# Neighbours are apart, and the guide star has its surroundings to itself.
STAR_DISTANCE_ARCSEC = 0.9
GUIDE_DISTANCE_ARCSEC = 1.8
EDGE_PX = 14.0
FAINTEST_DMAG = 3.0
BRIGHTEST_DMAG = 0.8
# What the camera is off its profile's scale and orientation; of the published distortion.
SCALE_RATIO = 1.0012
TURN_DEG = 0.35
BOW_PER_PX = -5.4e-5
POINTING_ERROR_ARCSEC = 12.0
# Of the catalogue: others within this radius, a few of the field's stars missing, its errors.
SURVEYED_ARCSEC = 60.0
OTHERS = 80
MISSING = 3
CATALOGUE_ERROR_MAS = 0.3
PROPER_MOTION_MAS_YR = 8.0
_ARCSEC = pi / 648000.0


@dataclass(frozen=True, kw_only=True)
class SkyView:
    """How a camera looks at the sky in one exposure.

    Attributes
    ----------
    ra_deg, dec_deg : float
        ICRS, of the middle of the frame.
    plate_scale_arcsec, y_axis_pa_deg, east_is_left
        Of the camera there, as in an instrument profile.
    bow_per_px : float
        Distortion: a star at (x, y) from the middle is seen as if at y + `bow_per_px` (x^2 + y^2).
    middle_px : float
        The middle of the frame, 0-based, in x and y.
    zenith_distance_deg, zenith_pa_deg : float
        As seen; position angle of the zenith.
    refraction : (float, float)
        A and B of A tan z + B tan^3 z (rad), z as seen.
    """

    ra_deg: float
    dec_deg: float
    plate_scale_arcsec: float
    y_axis_pa_deg: float
    east_is_left: bool
    bow_per_px: float
    middle_px: float
    zenith_distance_deg: float
    zenith_pa_deg: float
    refraction: tuple[float, float]

    def offsets_arcsec(self, x: NDArray, y: NDArray) -> NDArray[np.float64]:
        """True offsets (east, north; (n, 2), tangent plane) of raw pixels from the middle."""
        dx, dy = np.asarray(x) - self.middle_px, np.asarray(y) - self.middle_px
        dy = dy + self.bow_per_px * (dx**2 + dy**2)
        turn = radians(self.y_axis_pa_deg)
        west = np.array([-cos(turn), sin(turn)]) * (1.0 if self.east_is_left else -1.0)
        north = np.array([sin(turn), cos(turn)])
        seen = self.plate_scale_arcsec * (dx[:, None] * west + dy[:, None] * north)
        return self._without_air(seen)

    def _without_air(self, seen: NDArray[np.float64]) -> NDArray[np.float64]:
        turn = radians(self.zenith_pa_deg)
        up, along = np.array([sin(turn), cos(turn)]), np.array([cos(turn), -sin(turn)])
        z = radians(self.zenith_distance_deg)
        # Unit vectors: towards the zenith and two horizontal ones, in the vertical and across it.
        rise, across = (seen @ up) * _ARCSEC, (seen @ along) * _ARCSEC
        high = cos(z) + rise * sin(z)
        out = sin(z) - rise * cos(z)
        level = np.hypot(out, across)
        distance = np.arctan2(level, high)
        distance = distance + self._lifted(distance)
        bearing = np.arctan2(across, out)
        z += float(self._lifted(np.array(z)))
        high, out, across = (
            np.cos(distance),
            np.sin(distance) * np.cos(bearing),
            np.sin(distance) * np.sin(bearing),
        )
        depth = high * cos(z) + out * sin(z)
        rise = (high * sin(z) - out * cos(z)) / depth
        return ((rise[:, None] * up) + (across / depth)[:, None] * along) / _ARCSEC

    def _lifted(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b = self.refraction
        return a * np.tan(z) + b * np.tan(z) ** 3

    def sky(self, offsets_arcsec: NDArray[np.float64]) -> NDArray[np.float64]:
        """Right ascension and declination (deg, (n, 2)) of true offsets from the middle."""
        ra, dec = radians(self.ra_deg), radians(self.dec_deg)
        middle = np.array([cos(dec) * cos(ra), cos(dec) * sin(ra), sin(dec)])
        east = np.array([-sin(ra), cos(ra), 0.0])
        north = np.array([-sin(dec) * cos(ra), -sin(dec) * sin(ra), cos(dec)])
        e, n = offsets_arcsec.T * _ARCSEC
        vector = middle + e[:, None] * east + n[:, None] * north
        return np.degrees(
            np.stack(
                [
                    np.arctan2(vector[:, 1], vector[:, 0]) % (2.0 * pi),
                    np.arctan2(vector[:, 2], np.hypot(vector[:, 0], vector[:, 1])),
                ],
                axis=-1,
            )
        )

    def scale_and_turn(self) -> tuple[float, float]:
        """Plate scale (root of a pixel's area, arcsec) and position angle of +y, at the middle."""
        at = self.middle_px + np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        offsets = self.offsets_arcsec(*at.T)
        along_x, along_y = (offsets[0] - offsets[1]) / 2.0, (offsets[2] - offsets[3]) / 2.0
        area = abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
        return float(np.sqrt(area)), float(np.degrees(np.arctan2(*along_y)))


@dataclass(frozen=True, kw_only=True)
class StarField:
    """The stars of an exposure, the guide star first.

    Attributes
    ----------
    view : SkyView
    x_px, y_px : ndarray
        Mean positions (raw px, 0-based).
    dmag : ndarray
        Fainter than the guide star.
    sky_deg : ndarray
        Right ascension and declination (ICRS, (n, 2)) when the exposure began.
    catalogue : Table
        Reference stars: ``ra, dec, pmra, pmdec, mag, epoch``.
    in_catalogue : ndarray of bool
    pointing_error_arcsec : float
    """

    view: SkyView
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    dmag: NDArray[np.float64]
    sky_deg: NDArray[np.float64]
    catalogue: Table
    in_catalogue: NDArray[np.bool_]
    pointing_error_arcsec: float

    def companions(self, profile: InstrumentProfile) -> tuple[Companion, ...]:
        """All but the guide star, in the words of a target: by the profile's axes."""
        dx, dy = self.x_px - self.x_px[0], self.y_px - self.y_px[0]
        return tuple(
            Companion(
                sep_arcsec=float(np.hypot(dx[i], dy[i])) * profile.plate_scale_arcsec,
                pa_deg=profile.position_angle_deg(float(dx[i]), float(dy[i])),
                dmag=float(self.dmag[i]),
                is_field_star=True,
            )
            for i in range(1, len(dx))
        )


def draw_star_field(
    rng: np.random.Generator,
    profile: InstrumentProfile,
    pointing: Pointing,
    *,
    utc: datetime,
    stars: int,
    size_px: int,
    guide_px: tuple[float, float],
    magnitude: float,
    wavelength_nm: float,
) -> StarField:
    """Draw a field of at most `stars` stars, as many as have room.

    Parameters
    ----------
    rng : numpy.random.Generator
    profile : InstrumentProfile
    pointing : Pointing
        What the header says; the telescope looks a little beside it.
    utc : datetime
    stars, size_px : int
        Side of the frames.
    guide_px : (float, float)
        Mean position (x, y) of the guide star.
    magnitude : float
        Of the guide star.
    wavelength_nm : float
        Of the filter.
    """
    view, error = _look(rng, profile, pointing, size_px, wavelength_nm)
    x, y = _places(rng, stars, size_px, guide_px, profile.plate_scale_arcsec)
    dmag = np.append(0.0, rng.uniform(BRIGHTEST_DMAG, FAINTEST_DMAG, len(x) - 1))
    sky = view.sky(view.offsets_arcsec(x, y))
    year = Time(utc).jyear
    missing = 1 + rng.choice(len(x) - 1, min(MISSING, len(x) - 1), replace=False)
    known = np.ones(len(x), bool)
    known[missing] = False
    others = view.sky(_others(rng, size_px * profile.plate_scale_arcsec))
    faint = rng.uniform(magnitude, magnitude + 6.0, len(others))
    catalogue = _catalogue(
        rng,
        np.concatenate([sky[known], others]),
        np.concatenate([magnitude + dmag[known], faint]),
        year,
    )
    return StarField(
        view=view,
        x_px=x,
        y_px=y,
        dmag=dmag,
        sky_deg=sky,
        catalogue=catalogue,
        in_catalogue=known,
        pointing_error_arcsec=error,
    )


def _look(
    rng: np.random.Generator,
    profile: InstrumentProfile,
    pointing: Pointing,
    size_px: int,
    wavelength_nm: float,
) -> tuple[SkyView, float]:
    told = SkyCoord(
        pointing.right_ascension,
        pointing.declination,
        unit=("hourangle", "deg"),
        frame=FK5(equinox="J2000"),
    ).icrs
    direction = float(rng.uniform(0.0, 360.0))
    error = POINTING_ERROR_ARCSEC * float(rng.uniform(0.5, 1.0))
    true = told.directional_offset_by(direction * u.deg, error * u.arcsec)
    altitude_m, latitude = profile.site_altitude_m, profile.site_latitude_deg or 0.0
    pressure = 1013.25 * exp(-altitude_m / 8400.0)
    a, b = erfa.refco(pressure, 10.0, 0.0, wavelength_nm / 1000.0)
    view = SkyView(
        ra_deg=float(true.ra.deg),
        dec_deg=float(true.dec.deg),
        plate_scale_arcsec=profile.plate_scale_arcsec * SCALE_RATIO,
        y_axis_pa_deg=profile.y_axis_pa_deg + TURN_DEG,
        east_is_left=profile.east_is_left,
        bow_per_px=BOW_PER_PX,
        middle_px=(size_px - 1) / 2.0,
        zenith_distance_deg=90.0 - pointing.elevation_deg,
        zenith_pa_deg=_zenith_pa_deg(pointing, latitude),
        refraction=(float(a), float(b)),
    )
    return view, error


def _zenith_pa_deg(pointing: Pointing, latitude_deg: float) -> float:
    """Position angle of the zenith, from the vectors to star, pole and zenith."""
    azimuth, elevation = radians(pointing.azimuth_deg), radians(pointing.elevation_deg)
    latitude = radians(latitude_deg)
    # North, east, up.
    star = np.array([cos(elevation) * cos(azimuth), cos(elevation) * sin(azimuth), sin(elevation)])
    pole = np.array([cos(latitude), 0.0, sin(latitude)])
    # On the sky east is to the left of north: these axes are left-handed.
    north, east = pole - (pole @ star) * star, np.cross(star, pole)
    zenith = np.array([0.0, 0.0, 1.0])
    return float(np.degrees(np.arctan2(zenith @ east, zenith @ north)))


def _places(
    rng: np.random.Generator,
    stars: int,
    size_px: int,
    guide_px: tuple[float, float],
    scale_arcsec: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places = [np.array(guide_px)]
    for _ in range(400 * stars):
        if len(places) == stars:
            break
        place = rng.uniform(EDGE_PX, size_px - EDGE_PX, 2)
        distance = scale_arcsec * np.hypot(*(np.array(places) - place).T)
        if distance[0] > GUIDE_DISTANCE_ARCSEC and distance.min() > STAR_DISTANCE_ARCSEC:
            places.append(place)
    x, y = np.array(places).T
    return x, y


def _others(rng: np.random.Generator, side_arcsec: float) -> NDArray[np.float64]:
    """Offsets of catalogue stars round the field, none of which the frame shows."""
    offsets = rng.uniform(-SURVEYED_ARCSEC, SURVEYED_ARCSEC, (OTHERS, 2))
    return offsets[np.hypot(*offsets.T) > 0.75 * side_arcsec]


def _catalogue(
    rng: np.random.Generator, sky_deg: NDArray[np.float64], magnitude: NDArray, year: float
) -> Table:
    number = len(sky_deg)
    motion = rng.normal(0.0, PROPER_MOTION_MAS_YR, (number, 2))
    back = motion * (CATALOGUE_EPOCH - year) + rng.normal(0.0, CATALOGUE_ERROR_MAS, (number, 2))
    back /= 3.6e6
    order = rng.permutation(number)
    table = Table(
        {
            "ra": sky_deg[:, 0] + back[:, 0] / np.cos(np.radians(sky_deg[:, 1])),
            "dec": sky_deg[:, 1] + back[:, 1],
            "pmra": motion[:, 0],
            "pmdec": motion[:, 1],
            "mag": magnitude + rng.normal(0.0, 0.05, number),
            "epoch": np.full(number, CATALOGUE_EPOCH),
        }
    )[order]
    units = {"ra": "deg", "dec": "deg", "pmra": "mas/yr", "pmdec": "mas/yr", "epoch": "yr"}
    for name, digits in {"ra": 9, "dec": 9, "pmra": 3, "pmdec": 3, "mag": 3, "epoch": 1}.items():
        table[name].unit = units.get(name)
        table[name].info.format = f".{digits}f"
    return table
