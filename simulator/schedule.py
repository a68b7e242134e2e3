"""The plan of a night: what is exposed when, in which mode, under which sky."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import pi, radians, sin

import numpy as np

from roboao_assets.science.instrument import InstrumentProfile
from simulator.adaptive_optics import Correction
from simulator.atmosphere import Layer, Turbulence
from simulator.detector import DETECTOR_PX, FRAME_TIME_S, MODES, Window, choose_mode
from simulator.exposure import ExposurePlan, Star
from simulator.headers import CAMERA, MARKER, Pointing, primary_cards, timestamp
from simulator.raw_files import Card
from simulator.seeds import child_seed
from simulator.star_field import StarField, draw_star_field
from simulator.targets import (
    Target,
    brightest_electrons,
    electrons_per_frame,
    plan_targets,
    sky_electrons_per_pixel,
)

# Parts of a star's light in its brightest raw pixel: a good corrected frame, a seeing disc.
CORRECTED_PEAK_FRACTION = 0.02
SEEING_PEAK_FRACTION = 0.003
# Full frames take a second each to make, and a seeing disc needs no more of the detector.
SEEING_FRAMES = 60
FULL_FRAME_SEEING_FRAMES = 30
REALISATIONS = 10
SEEING_REALISATIONS = 14
COSMIC_RAY_RATE = 1.0
UNKNOWN_MAGNITUDE = 9999.0


@dataclass(frozen=True, kw_only=True)
class ScheduledExposure:
    """An exposure of the night.

    Attributes
    ----------
    id : str
    utc : datetime
    target : Target
    plan : ExposurePlan
    cards : list of Card
        Of its primary header.
    airmass : float
    field : StarField or None
        The stars in it, where their places on the sky are known.
    """

    id: str
    utc: datetime
    target: Target
    plan: ExposurePlan
    cards: list[Card]
    airmass: float
    field: StarField | None = None


@dataclass(frozen=True, kw_only=True)
class NightPlan:
    """A whole night.

    Attributes
    ----------
    night : str
    profile : InstrumentProfile
    window : Window
    seed : numpy.random.SeedSequence
    observations, seeing : list of ScheduledExposure
        In time order.
    start_utc : datetime
        When calibrations begin.
    """

    night: str
    profile: InstrumentProfile
    window: Window
    seed: np.random.SeedSequence
    observations: list[ScheduledExposure]
    seeing: list[ScheduledExposure]
    start_utc: datetime

    @property
    def filters(self) -> list[str]:
        """Filters used, in order of name."""
        exposures = self.observations + self.seeing
        return sorted({exposure.plan.filter_name for exposure in exposures})

    @property
    def modes(self) -> list[int]:
        """Numbers of the science modes used."""
        exposures = self.observations + self.seeing
        return sorted({exposure.plan.mode.number for exposure in exposures})


class _Sky:
    """Seeing and wind through the night; `seeing_spread` as in `Turbulence`."""

    def __init__(self, rng: np.random.Generator, seeing_spread: float) -> None:
        self._spread = seeing_spread
        self._middle = rng.uniform(1.2, 1.45)
        self._slope = rng.uniform(-0.15, 0.15)
        self._phase = rng.uniform(0.0, 2.0 * pi)
        turn = rng.uniform(0.0, 360.0)
        self._layers = tuple(
            Layer(
                weight=layer.weight,
                speed_m_s=layer.speed_m_s * rng.uniform(0.85, 1.15),
                direction_deg=layer.direction_deg + turn,
                sensed_fraction=layer.sensed_fraction,
            )
            for layer in Turbulence(seeing_fwhm_arcsec=1.0).layers
        )

    def turbulence(self, part: float, airmass: float) -> Turbulence:
        """The turbulence after a part (0..1) of the night, seen through an airmass."""
        zenith = self._middle + self._slope * (part - 0.5)
        zenith += 0.1 * sin(2.0 * pi * 1.4 * part + self._phase)
        zenith = min(max(zenith, 1.0), 1.8)
        return Turbulence(
            seeing_fwhm_arcsec=zenith * airmass**0.6,
            layers=self._layers,
            seeing_spread=self._spread,
        )


def plan_night(
    night: str,
    profile: InstrumentProfile,
    *,
    targets: int,
    seeing_exposures: int,
    frames: int,
    size: int,
    seed: int,
    seeing_spread: float = 0.0,
) -> NightPlan:
    """Draw the plan of a night; the same arguments give the same plan.

    `seeing_spread` changes nothing of it but how steady the seeing is in each exposure.
    """
    night_seed = np.random.SeedSequence([seed, int(night)])
    rng = np.random.default_rng(child_seed(night_seed, 1))
    dusk = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=3)
    sky = _Sky(rng, seeing_spread)
    chosen = plan_targets(rng, targets, wide_field=size == DETECTOR_PX)
    kinds = _interleave(chosen, _seeing_targets(rng, seeing_exposures))
    seeing_frames = min(frames, SEEING_FRAMES if size < DETECTOR_PX else FULL_FRAME_SEEING_FRAMES)
    hours = 8.5
    exposures = []
    for index, (target, is_seeing) in enumerate(kinds):
        part = (index + rng.uniform(0.2, 0.8)) / len(kinds)
        utc = dusk + timedelta(microseconds=round(part * hours * 3.6e9))
        pointing = Pointing(
            right_ascension=target.right_ascension,
            declination=target.declination,
            azimuth_deg=rng.uniform(0.0, 360.0),
            elevation_deg=rng.uniform(48.0, 85.0),
        )
        airmass = 1.0 / sin(radians(pointing.elevation_deg))
        spread = 14.0 if size < 512 else 60.0
        place = size / 2.0 + rng.uniform(-spread, spread, 2)
        seed_of_field = child_seed(night_seed, 5, index)
        field = _draw_field(seed_of_field, profile, target, pointing, utc, size, place)
        seen = replace(target, companions=field.companions(profile)) if field else target
        plan = _plan_exposure(
            profile,
            seen,
            place=place,
            turbulence=sky.turbulence(part, airmass),
            loop_closed=not is_seeing,
            frames=seeing_frames if is_seeing else frames,
            size=size,
            seed=child_seed(night_seed, 100 + index),
            night_seed=night_seed,
        )
        scheduled = _schedule(seen, plan, utc, pointing, airmass, is_seeing)
        exposures.append((is_seeing, replace(scheduled, field=field)))
    return NightPlan(
        night=night,
        profile=profile,
        window=Window.of_size(size),
        seed=night_seed,
        observations=[exposure for is_seeing, exposure in exposures if not is_seeing],
        seeing=[exposure for is_seeing, exposure in exposures if is_seeing],
        start_utc=dusk - timedelta(hours=2),
    )


def _seeing_targets(rng: np.random.Generator, exposures: int) -> list[Target]:
    return [
        Target(
            program="",
            object_name=f"seeing{number}",
            filter_name="Si" if number % 2 == 0 else "lp600",
            magnitude=float(rng.uniform(5.6, 6.3)),
            right_ascension="12:00:00.00",
            declination="+30:00:00.0",
            correction=Correction(drift_px=0.6, wander_px=0.3, shake_px=0.3),
        )
        for number in range(exposures)
    ]


def _interleave(observed: list[Target], seeing: list[Target]) -> list[tuple[Target, bool]]:
    # A seeing exposure at the beginning, at the end, and evenly between.
    places = [(index + 0.5, target, False) for index, target in enumerate(observed)]
    step = len(observed) / max(len(seeing) - 1, 1)
    places += [(index * step, target, True) for index, target in enumerate(seeing)]
    return [(target, flag) for _, target, flag in sorted(places, key=lambda place: place[0])]


def _draw_field(
    seed: np.random.SeedSequence,
    profile: InstrumentProfile,
    target: Target,
    pointing: Pointing,
    utc: datetime,
    size: int,
    place: np.ndarray,
) -> StarField | None:
    if not target.field_size:
        return None
    return draw_star_field(
        np.random.default_rng(seed),
        profile,
        pointing,
        utc=utc,
        stars=target.field_size,
        size_px=size,
        guide_px=(float(place[0]), float(place[1])),
        magnitude=target.magnitude or 0.0,
        wavelength_nm=profile.filter(target.filter_name).wavelength_nm,
    )


def _plan_exposure(
    profile: InstrumentProfile,
    target: Target,
    *,
    place: np.ndarray,
    turbulence: Turbulence,
    loop_closed: bool,
    frames: int,
    size: int,
    seed: np.random.SeedSequence,
    night_seed: np.random.SeedSequence,
) -> ExposurePlan:
    fraction = CORRECTED_PEAK_FRACTION if loop_closed else SEEING_PEAK_FRACTION
    stars = []
    if target.magnitude is not None:
        light = electrons_per_frame(profile, target.filter_name, target.magnitude)
        stars.append(Star(dx_px=0.0, dy_px=0.0, electrons=light))
        for companion in target.companions:
            dx, dy = companion.offset_px(profile)
            stars.append(
                Star(dx_px=dx, dy_px=dy, electrons=light * 10.0 ** (-0.4 * companion.dmag))
            )
    first_clouded = frames // 3
    clouded = range(first_clouded, first_clouded + max(2, frames // 15)) if target.cloud else ()
    return ExposurePlan(
        profile=profile,
        filter_name=target.filter_name,
        turbulence=turbulence,
        correction=target.correction,
        loop_closed=loop_closed,
        mode=choose_mode(brightest_electrons(target, profile, fraction)),
        size_px=size,
        frames=frames,
        realisations=REALISATIONS if loop_closed else SEEING_REALISATIONS,
        x_px=float(place[0]),
        y_px=float(place[1]),
        stars=tuple(stars),
        disc=target.disc,
        sky_electrons=sky_electrons_per_pixel(profile, target.filter_name),
        cosmic_ray_rate=COSMIC_RAY_RATE,
        clouded=tuple(clouded),
        seed=seed,
        night_seed=night_seed,
    )


def _schedule(
    target: Target,
    plan: ExposurePlan,
    utc: datetime,
    pointing: Pointing,
    airmass: float,
    is_seeing: bool,
) -> ScheduledExposure:
    tail = f"{CAMERA}_{target.filter_name}_{MARKER}_{timestamp(utc)}"
    name = f"seeing_{tail}" if is_seeing else f"{target.program}_{target.object_name}_{tail}"
    magnitude = target.header_magnitude or target.magnitude or 16.8
    cards = primary_cards(
        plan.profile,
        utc=utc,
        mode=plan.mode,
        window=Window.of_size(plan.size_px),
        exposure_s=plan.frames * FRAME_TIME_S,
        filter_name=target.filter_name,
        object_name="seeing" if is_seeing else target.object_name,
        magnitude=round(magnitude, 2),
        pointing=pointing,
    )
    return ScheduledExposure(
        id=name, utc=utc, target=target, plan=plan, cards=cards, airmass=airmass
    )


def dark_modes(plan: NightPlan) -> list[int]:
    """Science modes that darks are taken in: all for quarter frames, which are small."""
    return [n for n in MODES if n] if plan.window.side_px < DETECTOR_PX else plan.modes
