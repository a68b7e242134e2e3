"""What is observed in a simulated night: stars, their companions and how they are observed."""

from dataclasses import dataclass, field, replace
from math import cos, pi, radians, sin
from typing import Any

import numpy as np

from roboao_assets.science.instrument import InstrumentProfile
from simulator.adaptive_optics import Correction
from simulator.detector import FRAME_TIME_S
from simulator.resolved_disc import Disc, Spot

# Detected photo-electrons a second and square metre of a star of magnitude 0, in the filters'
# pass bands, after atmosphere, optics and detector.
ZERO_POINT_E = {"Sg": 0.9e9, "Sr": 1.2e9, "Si": 1.2e9, "Sz": 0.7e9, "lp600": 2.6e9, "c": 4.0e9}
SKY_MAG_PER_ARCSEC2 = 19.8


@dataclass(frozen=True, kw_only=True)
class Companion:
    """A star beside the guide star.

    Attributes
    ----------
    sep_arcsec, pa_deg : float
        Separation and position angle (east of north) from the guide star.
    dmag : float
        How much fainter it is.
    is_field_star : bool
        True for a star that only happens to be in the field.
    """

    sep_arcsec: float
    pa_deg: float
    dmag: float
    is_field_star: bool = False

    def offset_px(self, profile: InstrumentProfile) -> tuple[float, float]:
        """Offset (x, y) from the guide star in raw px: the inverse of the profile's PA."""
        angle = radians(self.pa_deg - profile.y_axis_pa_deg)
        east = self.sep_arcsec * sin(angle) / profile.plate_scale_arcsec
        north = self.sep_arcsec * cos(angle) / profile.plate_scale_arcsec
        return (-east if profile.east_is_left else east), north


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target and how it is observed.

    Attributes
    ----------
    program, object_name, filter_name : str
    magnitude : float or None
        Of the guide star; None: there is no star.
    companions : tuple of Companion
    right_ascension, declination : str
        ``H:M:S`` and ``D:M:S``.
    header_magnitude : float or None
        What the header says instead of `magnitude`; 9999 means unknown.
    split : bool
        True: the exposure goes on in ``_0`` and ``_1`` files.
    cloud : bool
        True: a cloud passes.
    expected_class : str or None
        ``high_flux``, ``faint`` or ``zero_flux``; None for what is no star.
    disc : Disc or None
        What is there instead of the guide star, as bright.
    field_size : int
        Stars of a field with known places on the sky, the guide star one of them; 0: no such.
    correction : Correction
    """

    program: str
    object_name: str
    filter_name: str
    magnitude: float | None
    right_ascension: str
    declination: str
    companions: tuple[Companion, ...] = ()
    header_magnitude: float | None = None
    split: bool = False
    cloud: bool = False
    expected_class: str | None = "high_flux"
    disc: Disc | None = None
    field_size: int = 0
    correction: Correction = field(default_factory=Correction)


# The first targets of every night, so that a short night too holds what the archive must cope
# with; later ones are drawn.
_RECIPES: tuple[dict[str, Any], ...] = (
    {"program": "4", "object_name": "HIP76952", "filter_name": "Si", "magnitude": 8.0},
    {
        "program": "4",
        "object_name": "351_Yrsa",
        "filter_name": "lp600",
        "magnitude": 9.3,
        "companions": (Companion(sep_arcsec=0.85, pa_deg=63.0, dmag=2.6),),
        "split": True,
    },
    {
        "program": "11.1",
        "object_name": "KOI0268",
        "filter_name": "lp600",
        "magnitude": 9.9,
        "declination": "-00:30:14.2",
        "companions": (
            Companion(sep_arcsec=1.75, pa_deg=291.0, dmag=4.2),
            Companion(sep_arcsec=3.3, pa_deg=160.0, dmag=3.0, is_field_star=True),
        ),
    },
    {
        "program": "3",
        "object_name": "SDSSJ1519",
        "filter_name": "lp600",
        "magnitude": 14.5,
        "expected_class": "faint",
    },
    {
        "program": "8",
        "object_name": "blank_field_7",
        "filter_name": "lp600",
        "magnitude": None,
        "expected_class": "zero_flux",
    },
    {
        "program": "11",
        "object_name": "HD141569",
        "filter_name": "Si",
        "magnitude": 7.1,
        "header_magnitude": 9999.0,
    },
    {
        "program": "4",
        "object_name": "STF1954",
        "filter_name": "Si",
        "magnitude": 6.9,
        "companions": (Companion(sep_arcsec=0.36, pa_deg=172.0, dmag=1.0),),
    },
    {
        "program": "8",
        "object_name": "TYC3413-5-1",
        "filter_name": "lp600",
        "magnitude": 8.8,
        "cloud": True,
    },
    {
        "program": "9",
        "object_name": "M71_field",
        "filter_name": "lp600",
        "magnitude": 9.0,
        "right_ascension": "19:53:46.49",
        "declination": "+18:46:45.1",
        "field_size": 35,
    },
    {
        # A program of the solar system, as those that are resolved have.
        "program": "24",
        "object_name": "Ganymede",
        "filter_name": "Si",
        "magnitude": 4.6,
        "expected_class": None,
        "disc": Disc(
            diameter_arcsec=1.4,
            limb_darkening=0.5,
            spots=(
                Spot(x_arcsec=0.2, y_arcsec=0.14, sigma_arcsec=0.06, brightness=0.7),
                Spot(x_arcsec=-0.24, y_arcsec=-0.16, sigma_arcsec=0.1, brightness=-0.3),
            ),
        ),
    },
)
# Median low-order error (nm rms) of the first targets: their Strehl ratios span the usual range.
_LOW_ORDER_NM = (75.0, 100.0, 115.0, 110.0, 110.0, 70.0, 90.0, 125.0, 95.0, 75.0)


def plan_targets(
    rng: np.random.Generator, number: int, *, wide_field: bool = False
) -> list[Target]:
    """Draw the targets of a night, in the order of observation.

    `wide_field` adds a star 5 to 12 arcsec away to every third: a quarter frame has no room for it.
    """
    targets = []
    for index in range(number):
        ra = rng.uniform(0.0, 24.0)
        dec = rng.uniform(-15.0, 60.0)
        values: dict[str, Any] = {
            "right_ascension": _sexagesimal(ra),
            "declination": _sexagesimal(dec, sign=True),
        }
        if index < len(_RECIPES):
            values |= _RECIPES[index]
            low_order_nm = _LOW_ORDER_NM[index]
        else:
            values |= _draw_recipe(rng, index)
            low_order_nm = rng.uniform(65.0, 125.0)
        correction = Correction(
            low_order_nm=low_order_nm * rng.uniform(0.95, 1.05),
            drift_px=rng.uniform(2.0, 4.0),
            wander_px=rng.uniform(1.5, 2.5),
        )
        target = Target(**values, correction=correction)
        if wide_field and index % 3 == 1:
            target = replace(target, companions=(*target.companions, _draw_field_star(rng)))
        targets.append(target)
    return targets


def _draw_recipe(rng: np.random.Generator, index: int) -> dict[str, Any]:
    faint = rng.uniform() < 0.12
    magnitude = rng.uniform(14.2, 14.8) if faint else rng.uniform(6.8, 10.0)
    companions = []
    if rng.uniform() < 0.3:
        companions.append(
            Companion(
                sep_arcsec=round(rng.uniform(0.3, 2.5), 3),
                pa_deg=round(rng.uniform(0.0, 360.0), 2),
                dmag=round(rng.uniform(1.0, 5.0), 2),
            )
        )
    return {
        "program": str(rng.choice(["3", "4", "8", "11", "11.1"])),
        "object_name": f"SIM{index:04d}",
        "filter_name": str(rng.choice(["Si", "lp600"])),
        "magnitude": round(float(magnitude), 2),
        "companions": tuple(companions),
        "expected_class": "faint" if faint else "high_flux",
    }


def _draw_field_star(rng: np.random.Generator) -> Companion:
    return Companion(
        sep_arcsec=round(rng.uniform(5.0, 12.0), 3),
        pa_deg=round(rng.uniform(0.0, 360.0), 2),
        dmag=round(rng.uniform(1.5, 4.0), 2),
        is_field_star=True,
    )


def _sexagesimal(value: float, *, sign: bool = False) -> str:
    hundredths = round(abs(value) * 360000.0)
    whole, rest = divmod(hundredths, 360000)
    minutes, seconds = divmod(rest, 6000)
    prefix = ("-" if value < 0 else "+") if sign else ""
    return f"{prefix}{whole:02d}:{minutes:02d}:{seconds / 100.0:05.2f}"


def collecting_area_m2(profile: InstrumentProfile) -> float:
    """Clear area of the primary."""
    return pi / 4.0 * (profile.primary_diameter_m**2 - profile.secondary_diameter_m**2)


def electrons_per_frame(
    profile: InstrumentProfile, filter_name: str, magnitude: float, exposure_s: float = FRAME_TIME_S
) -> float:
    """Expected detected photo-electrons of a star in one frame."""
    rate = ZERO_POINT_E.get(filter_name, ZERO_POINT_E["Si"]) * collecting_area_m2(profile)
    return rate * exposure_s * 10.0 ** (-0.4 * magnitude)


def sky_electrons_per_pixel(profile: InstrumentProfile, filter_name: str) -> float:
    """Expected electrons of the sky in a pixel and frame."""
    per_arcsec2 = electrons_per_frame(profile, filter_name, SKY_MAG_PER_ARCSEC2)
    return per_arcsec2 * profile.plate_scale_arcsec**2


def brightest_electrons(target: Target, profile: InstrumentProfile, peak_fraction: float) -> float:
    """Expected electrons a frame in the brightest pixel, which has `peak_fraction` of a star."""
    if target.magnitude is None:
        return 0.0
    if target.disc is not None:
        peak_fraction = target.disc.peak_fraction(profile.plate_scale_arcsec)
    return peak_fraction * electrons_per_frame(profile, target.filter_name, target.magnitude)
