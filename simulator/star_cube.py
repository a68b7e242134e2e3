"""A small cube of one star in memory, for tests that need a known answer at once."""

from dataclasses import dataclass, replace

import numpy as np

from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.instruments import load_instruments
from simulator.adaptive_optics import Correction
from simulator.atmosphere import Turbulence
from simulator.detector import Camera, choose_mode
from simulator.exposure import (
    Exposure,
    ExposurePlan,
    Frame,
    Star,
    best_frames,
    stack_strehl_percent,
)
from simulator.schedule import CORRECTED_PEAK_FRACTION, SEEING_PEAK_FRACTION
from simulator.seeds import child_seed
from simulator.seeing import moffat_fwhm_arcsec, profile_fwhm_arcsec
from simulator.targets import Companion, electrons_per_frame, sky_electrons_per_pixel


@dataclass(frozen=True, kw_only=True)
class StarCube:
    """Frames of one star and the truth about them.

    Attributes
    ----------
    frames : ndarray
        Raw frames, uint16 (n, y, x).
    noise_free : ndarray
        What calibrated frames would be without noise (ADU, float32, (n, y, x)): the light of
        the stars alone, no bias, dark, sky, response or cosmic ray.
    dark : ndarray
        Noise-free dark without the bias level (ADU, float32, (y, x)).
    flat : ndarray
        Response to light (float32, (y, x)).
    bias_adu : ndarray
        Level of each frame (float64, (n,)).
    positions : ndarray
        True positions (x, y) of the star (raw px, 0-based, float64, (n, 2)).
    second_peak : ndarray
        How high the next peak near each position is, as a part of the highest (float64, (n,)):
        where it is near 1, the position is ambiguous.
    frame_strehl_percent : ndarray
        Of each noise-free frame (float64, (n,)).
    frame_seeing_arcsec : ndarray
        At 500 nm, mean over each frame (float64, (n,)).
    strehl_percent, strehl_percent_best_20, strehl_percent_whole_field : float
        Of the perfectly recentred noise-free mean of all frames, of the best fifth, and of all
        with the light of the other stars; `simulator.truth.DEFINITIONS` says how.
    fwhm_arcsec, fwhm_profile_arcsec : float or None
        With the adaptive optics off: FWHM of the noise-free mean image, by a Moffat fit and of
        the averaged profile.
    cosmic_rays : list of (int, float, float)
        Frame, x, y.
    adu_per_electron : float
    profile : InstrumentProfile
    filter_name : str
    companions : tuple of Companion
    """

    frames: np.ndarray
    noise_free: np.ndarray
    dark: np.ndarray
    flat: np.ndarray
    bias_adu: np.ndarray
    positions: np.ndarray
    second_peak: np.ndarray
    frame_strehl_percent: np.ndarray
    frame_seeing_arcsec: np.ndarray
    strehl_percent: float
    strehl_percent_best_20: float
    strehl_percent_whole_field: float
    fwhm_arcsec: float | None
    fwhm_profile_arcsec: float | None
    cosmic_rays: list[tuple[int, float, float]]
    adu_per_electron: float
    profile: InstrumentProfile
    filter_name: str
    companions: tuple[Companion, ...]


def simulate_star_cube(
    *,
    frames: int = 60,
    size: int = 256,
    seed: int = 1,
    profile: InstrumentProfile | str = "KPNO_2.1m",
    filter_name: str = "Si",
    magnitude: float = 8.0,
    seeing_fwhm_arcsec: float = 1.3,
    seeing_spread: float = 0.0,
    low_order_nm: float = 80.0,
    loop_closed: bool = True,
    companions: tuple[Companion, ...] = (),
    cosmic_ray_rate: float = 0.0,
    realisations: int = 10,
) -> StarCube:
    """Simulate a star in the middle of small frames.

    Parameters
    ----------
    frames, size : int
        Number and side of the frames (even, at most 1024: a centred window of the detector).
    seed : int
    profile : InstrumentProfile or str
        Or its name among the profiles of the package.
    filter_name : str
    magnitude : float
    seeing_fwhm_arcsec, seeing_spread : float
        At 500 nm; spread (1 sigma) of its natural logarithm, 0: steady.
    low_order_nm : float
        Median low-order wavefront error: larger means a lower Strehl ratio.
    loop_closed : bool
        False: adaptive optics off.
    companions : tuple of Companion
    cosmic_ray_rate : float
        Expected number in a full detector and frame.
    realisations : int
        Instants integrated in a frame.

    Returns
    -------
    StarCube

    Raises
    ------
    ValueError
        If `size` is odd or does not fit on the detector.
    """
    if size % 2 or not 32 <= size <= 1024:
        raise ValueError(f"size is {size}; expected an even number from 32 to 1024")
    instrument = load_instruments()[profile] if isinstance(profile, str) else profile
    root = np.random.SeedSequence([seed, frames, size])
    rng = np.random.default_rng(child_seed(root, 0))
    light = electrons_per_frame(instrument, filter_name, magnitude)
    stars = [Star(dx_px=0.0, dy_px=0.0, electrons=light)]
    for companion in companions:
        dx, dy = companion.offset_px(instrument)
        stars.append(Star(dx_px=dx, dy_px=dy, electrons=light * 10.0 ** (-0.4 * companion.dmag)))
    fraction = CORRECTED_PEAK_FRACTION if loop_closed else SEEING_PEAK_FRACTION
    x, y = size / 2.0 + rng.uniform(-4.0, 4.0, 2)
    correction = Correction(low_order_nm=low_order_nm)
    if not loop_closed:
        correction = replace(correction, drift_px=0.6, wander_px=0.3, shake_px=0.3)
    plan = ExposurePlan(
        profile=instrument,
        filter_name=filter_name,
        turbulence=Turbulence(seeing_fwhm_arcsec=seeing_fwhm_arcsec, seeing_spread=seeing_spread),
        correction=correction,
        loop_closed=loop_closed,
        mode=choose_mode(light * fraction),
        size_px=size,
        frames=frames,
        realisations=realisations,
        x_px=float(x),
        y_px=float(y),
        stars=tuple(stars),
        sky_electrons=sky_electrons_per_pixel(instrument, filter_name),
        cosmic_ray_rate=cosmic_ray_rate,
        seed=child_seed(root, 1),
        night_seed=child_seed(root, 2),
    )
    camera = Camera(child_seed(root, 3), instrument.read_noise_adu)
    exposure = Exposure(plan, camera)
    drawn = [exposure.frame(index) for index in range(frames)]
    return _collect(exposure, camera, drawn, companions)


def _collect(
    exposure: Exposure, camera: Camera, drawn: list[Frame], companions: tuple[Companion, ...]
) -> StarCube:
    plan, optics = exposure.plan, exposure.optics
    truths = [frame.truth for frame in drawn]
    fwhm, profile_fwhm = None, None
    if not plan.loop_closed:
        transfer = np.mean([exposure.transfer_at_mean_position(f) for f in drawn], axis=0)
        fwhm = moffat_fwhm_arcsec(optics, transfer)[0]
        profile_fwhm = profile_fwhm_arcsec(optics, transfer)
    window = exposure.window.slices
    gain = np.float32(plan.mode.adu_per_electron)
    return StarCube(
        frames=np.stack([frame.pixels for frame in drawn]),
        noise_free=np.stack([frame.light * gain for frame in drawn]),
        dark=camera.expected_dark_adu(plan.mode)[window],
        flat=camera.response(plan.filter_name)[window],
        bias_adu=np.array([truth.bias_adu for truth in truths]),
        positions=np.array([(truth.x_px, truth.y_px) for truth in truths]),
        second_peak=np.array([truth.second_peak for truth in truths]),
        frame_strehl_percent=np.array([truth.strehl_percent for truth in truths]),
        frame_seeing_arcsec=np.array([truth.seeing_500nm_arcsec for truth in truths]),
        strehl_percent=stack_strehl_percent(optics, truths),
        strehl_percent_best_20=stack_strehl_percent(optics, best_frames(truths, 20.0)),
        strehl_percent_whole_field=stack_strehl_percent(optics, truths, whole_field=True),
        fwhm_arcsec=fwhm,
        fwhm_profile_arcsec=profile_fwhm,
        cosmic_rays=[(i, *at) for i, truth in enumerate(truths) for at in truth.cosmic_rays],
        adu_per_electron=plan.mode.adu_per_electron,
        profile=plan.profile,
        filter_name=plan.filter_name,
        companions=companions,
    )
