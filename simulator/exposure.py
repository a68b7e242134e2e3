"""One exposure: from the turbulence to the frames of the camera, and the truth of each."""

from dataclasses import dataclass
from math import pi

import numpy as np

from roboao_assets.science.instrument import InstrumentProfile
from simulator.adaptive_optics import (
    Correction,
    fixed_aberrations_nm,
    image_motion,
    low_order_amplitudes,
    low_order_modes,
    wandering,
)
from simulator.atmosphere import BlowingScreens, SpatialFilter, Turbulence
from simulator.detector import (
    FRAME_TIME_S,
    Camera,
    CameraMode,
    Window,
    draw_bias_levels,
    draw_cosmic_rays,
)
from simulator.optics import Optics
from simulator.resolved_disc import Disc
from simulator.seeds import child_seed

SCREEN_PX = 2048
# Stars farther from the guide star than this get a stamp of their own (raw px).
SAME_STAMP_PX = 40.0


@dataclass(frozen=True, kw_only=True)
class Star:
    """A star in the field: offset from the guide star (raw px), electrons a frame."""

    dx_px: float
    dy_px: float
    electrons: float


@dataclass(frozen=True, kw_only=True)
class ExposurePlan:
    """Everything that decides the frames of an exposure.

    Attributes
    ----------
    profile : InstrumentProfile
    filter_name : str
    turbulence : Turbulence
    correction : Correction
        Its image motion, fixed error and (with the loop closed) its residuals are used.
    loop_closed : bool
        False: adaptive optics off, as for the seeing exposures.
    mode : CameraMode
    size_px, frames, realisations : int, int, int
        Side of the frames; their number; instants integrated in each.
    x_px, y_px : float
        Mean position of the guide star (raw px, 0-based).
    stars : tuple of Star
        The guide star first; empty for a blank field.
    sky_electrons : float
        A pixel and frame.
    cosmic_ray_rate : float
        Expected number in a full detector and frame.
    clouded : tuple of int
        Frames of which a cloud takes 95 % of the light.
    disc : Disc or None
        What each of the stars is instead of a point.
    seed, night_seed : numpy.random.SeedSequence
        Of the exposure; of what a whole night has in common.
    """

    profile: InstrumentProfile
    filter_name: str
    turbulence: Turbulence
    correction: Correction
    loop_closed: bool
    mode: CameraMode
    size_px: int
    frames: int
    realisations: int
    x_px: float
    y_px: float
    stars: tuple[Star, ...]
    sky_electrons: float
    cosmic_ray_rate: float
    seed: np.random.SeedSequence
    night_seed: np.random.SeedSequence
    clouded: tuple[int, ...] = ()
    disc: Disc | None = None

    @property
    def grid_px(self) -> int:
        """Side of the images computed: large enough that the star's halo covers the frame."""
        return min(-(-self.size_px * 5 // 4 // 32) * 32, 512)


@dataclass(frozen=True, kw_only=True)
class FrameTruth:
    """What is true of a frame.

    Attributes
    ----------
    x_px, y_px : float
        Position of the guide star's core: where this frame's noise-free image, convolved with
        the diffraction limit, peaks (loop open: the mean image motion). Raw px, 0-based.
    second_peak : float
        Height of the next peak of that convolved image within 3 px, as a part of the highest.
    motion_x_px, motion_y_px : float
        Mean over the frame of the image motion. The corrected wavefront's own asymmetry moves
        the core by a few tenths of a pixel from it.
    strehl_percent : float
        Of this frame's noise-free image.
    seeing_500nm_arcsec : float
        Mean over the frame.
    transparency : float
    bias_adu : float
    cosmic_rays : list of (float, float)
        Mean positions (x, y) of the tracks.
    patch, box_flux : ndarray, float
        Noise-free, recentred, single star of unit flux: finely sampled peak, flux in the box.
    field_patch, field_box_flux : ndarray, float
        The same of all stars in the field.
    """

    x_px: float
    y_px: float
    second_peak: float
    motion_x_px: float
    motion_y_px: float
    strehl_percent: float
    seeing_500nm_arcsec: float
    transparency: float
    bias_adu: float
    cosmic_rays: list[tuple[float, float]]
    patch: np.ndarray
    box_flux: float
    field_patch: np.ndarray
    field_box_flux: float


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame and what it was drawn from.

    Attributes
    ----------
    pixels : ndarray
        uint16 (y, x).
    truth : FrameTruth
    transfer : ndarray
        Optical transfer function of the frame, for an origin at pixel `base` (x, y).
    base : (int, int)
    light : ndarray
        Expected electrons of the stars (float32, (y, x)): no noise, sky, pattern or response.
    """

    pixels: np.ndarray
    truth: FrameTruth
    transfer: np.ndarray
    base: tuple[int, int]
    light: np.ndarray


class Exposure:
    """The frames of a plan. Any frame can be asked for in any order, with the same result."""

    def __init__(self, plan: ExposurePlan, camera: Camera) -> None:
        self.plan = plan
        self._camera = camera
        self.optics = Optics.of_profile(plan.profile, plan.filter_name, plan.grid_px)
        self.window = Window.of_size(plan.size_px)
        self._response = camera.response(plan.filter_name)[self.window.slices]
        steps = plan.frames * plan.realisations
        self._step_s = FRAME_TIME_S / plan.realisations
        self._motion = image_motion(self._rng(0), plan.correction, steps, self._step_s)
        self._motion -= self._motion.mean(axis=1, keepdims=True)
        self._motion += np.array([[plan.x_px], [plan.y_px]])
        self._amplitudes = low_order_amplitudes(self._rng(1), plan.correction, steps, self._step_s)
        series = wandering(self._rng(2), (1, plan.frames), FRAME_TIME_S, 10.0)[0]
        self._transparency = np.exp(0.03 * series)
        self._transparency[list(plan.clouded)] *= 0.05
        self._bias = draw_bias_levels(self._rng(3), plan.mode, plan.frames)
        sky = plan.turbulence
        series = wandering(self._rng(5), (1, steps), self._step_s, sky.seeing_time_s)[0]
        # Of each step, over the median.
        self._seeing_ratio = np.exp(sky.seeing_spread * series)
        self._modes = low_order_modes(self.optics)
        self._fixed_nm = fixed_aberrations_nm(
            self.optics, plan.correction.fixed_nm, child_seed(plan.night_seed, 0)
        )
        self._disc_transfer = None
        if plan.disc is not None:
            pixel_arcsec = plan.profile.plate_scale_arcsec
            self._disc_transfer = plan.disc.transfer(*self.optics.frequencies, pixel_arcsec)
        self._screens = self._make_screens()

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(child_seed(self.plan.seed, number))

    def _make_screens(self) -> BlowingScreens:
        plan = self.plan
        pitch_m = plan.profile.primary_diameter_m / plan.correction.actuators
        correction = SpatialFilter(cutoff_per_m=0.5 / pitch_m, delay_s=plan.correction.delay_s)
        return BlowingScreens(
            plan.turbulence,
            self.optics.wavelength_nm,
            pixel_m=self.optics.aperture_pixel_m,
            side_px=SCREEN_PX,
            window_px=self.optics.aperture.shape[0],
            seed=child_seed(plan.seed, 4),
            correction=correction if plan.loop_closed else None,
        )

    def _phase(self, step: int, base: tuple[int, int]) -> np.ndarray:
        plan, optics = self.plan, self.optics
        phase = self._screens.phase((step + 0.5) * self._step_s)
        # The seeing goes with 1 / r0, the phase with r0 to the power -5/6.
        phase *= np.float32(self._seeing_ratio[step] ** (5.0 / 6.0))
        error_nm = self._fixed_nm
        if plan.loop_closed:
            error_nm = error_nm + (self._amplitudes[step] @ self._modes).reshape(phase.shape)
        phase += error_nm * np.float32(2.0 * pi / optics.wavelength_nm)
        if plan.loop_closed:
            phase = optics.remove_tilt(phase)
        x, y = self._motion[:, step]
        phase += optics.tilt_phase(x - base[0], y - base[1])
        return phase

    def _steps(self, index: int) -> range:
        return range(index * self.plan.realisations, (index + 1) * self.plan.realisations)

    def transfer(self, index: int) -> tuple[np.ndarray, tuple[int, int], tuple[float, float]]:
        """Optical transfer function of a frame.

        Returns
        -------
        transfer : ndarray
            As `Optics.mean_transfer`.
        base : (int, int)
            Raw pixel (x, y) of the origin of its image.
        position : (float, float)
            Mean position (x, y) of the guide star in the frame.
        """
        steps = self._steps(index)
        x, y = self._motion[:, steps.start : steps.stop].mean(axis=1)
        base = (round(x), round(y))
        phases = (self._phase(step, base) for step in steps)
        return self.optics.mean_transfer(phases), base, (float(x), float(y))

    def expected_light(self, transfer: np.ndarray, base: tuple[int, int]) -> np.ndarray:
        """Electrons (float32, (y, x)) of all stars in a frame, before response and sky."""
        size = self.plan.size_px
        light = np.zeros((size, size), dtype=np.float32)
        if self._disc_transfer is not None:
            transfer = transfer * self._disc_transfer
        near = []
        for star in self.plan.stars:
            if max(abs(star.dx_px), abs(star.dy_px)) <= SAME_STAMP_PX:
                near.append((star.dx_px, star.dy_px, star.electrons))
                continue
            x, y = round(star.dx_px), round(star.dy_px)
            stamp = self.optics.pixel_image(
                transfer, [(star.dx_px - x, star.dy_px - y, star.electrons)]
            )
            _add_stamp(light, stamp, base[0] + x, base[1] + y)
        if near:
            _add_stamp(light, self.optics.pixel_image(transfer, near), *base)
        return light

    def frame(self, index: int) -> Frame:
        """Draw frame `index`."""
        plan = self.plan
        rng = np.random.default_rng(child_seed(plan.seed, 1000 + index))
        transfer, base, position = self.transfer(index)
        light = self.expected_light(transfer, base) * np.float32(self._transparency[index])
        tracks = draw_cosmic_rays(rng, plan.size_px, plan.cosmic_ray_rate)
        pixels = self._camera.read_frame(
            rng,
            plan.mode,
            self.window,
            photo_electrons=(light + np.float32(plan.sky_electrons)) * self._response,
            bias_adu=float(self._bias[index]),
            cosmic_rays=tracks,
        )
        truth = self._truth(index, transfer, base, position, tracks)
        return Frame(pixels=pixels, truth=truth, transfer=transfer, base=base, light=light)

    def transfer_at_mean_position(self, frame: Frame) -> np.ndarray:
        """The frame's transfer function for an origin at the plan's mean position.

        Those of all frames may be added up: the result is that of the whole exposure, image
        motion included.
        """
        dx = frame.base[0] - self.plan.x_px
        dy = frame.base[1] - self.plan.y_px
        return self.optics.moved(frame.transfer, dx, dy)

    def _truth(
        self,
        index: int,
        transfer: np.ndarray,
        base: tuple[int, int],
        position: tuple[float, float],
        tracks: list[np.ndarray],
    ) -> FrameTruth:
        x, y = position[0] - base[0], position[1] - base[1]
        second_peak = 0.0
        if self.plan.loop_closed:
            dx, dy, second_peak = self.optics.find_core(transfer, x, y)
            x, y = x + dx, y + dy
        patch = self.optics.patch(transfer, x, y)
        box_flux = self.optics.box_flux(transfer, x, y)
        field_patch, field_box_flux = patch.copy(), box_flux
        limit = self.plan.grid_px / 2.0 - SAME_STAMP_PX
        steps = self._steps(index)
        seeing = self._seeing_ratio[steps.start : steps.stop].mean()
        for star in self.plan.stars[1:]:
            if max(abs(star.dx_px), abs(star.dy_px)) > limit:
                continue
            ratio = star.electrons / self.plan.stars[0].electrons
            away = (x - star.dx_px, y - star.dy_px)
            field_patch += ratio * self.optics.patch(transfer, *away)
            field_box_flux += ratio * self.optics.box_flux(transfer, *away)
        return FrameTruth(
            x_px=base[0] + x,
            y_px=base[1] + y,
            second_peak=second_peak,
            motion_x_px=position[0],
            motion_y_px=position[1],
            strehl_percent=self.optics.strehl_percent(patch, box_flux),
            seeing_500nm_arcsec=float(seeing * self.plan.turbulence.seeing_fwhm_arcsec),
            transparency=float(self._transparency[index]),
            bias_adu=float(self._bias[index]),
            cosmic_rays=[(float(t[:, 1].mean()), float(t[:, 0].mean())) for t in tracks],
            patch=patch,
            box_flux=box_flux,
            field_patch=field_patch,
            field_box_flux=field_box_flux,
        )


def stack_strehl_percent(
    optics: Optics, truths: list[FrameTruth], *, whole_field: bool = False
) -> float:
    """Strehl ratio (percent) of the perfectly recentred, noise-free mean of frames."""
    if whole_field:
        patch = np.mean([truth.field_patch for truth in truths], axis=0)
        flux = float(np.mean([truth.field_box_flux for truth in truths]))
    else:
        patch = np.mean([truth.patch for truth in truths], axis=0)
        flux = float(np.mean([truth.box_flux for truth in truths]))
    return optics.strehl_percent(patch, flux)


def best_frames(truths: list[FrameTruth], percent: float) -> list[FrameTruth]:
    """The best `percent` of frames by their true Strehl ratio; at least one."""
    number = max(1, round(len(truths) * percent / 100.0))
    return sorted(truths, key=lambda truth: -truth.strehl_percent)[:number]


def _add_stamp(frame: np.ndarray, stamp: np.ndarray, x: int, y: int) -> None:
    # The stamp is periodic with its origin in [0, 0], which comes to (x, y) of the frame.
    height, width = stamp.shape
    stamp = np.roll(stamp, (height // 2, width // 2), axis=(0, 1))
    top, left = y - height // 2, x - width // 2
    rows = slice(max(top, 0), min(top + height, frame.shape[0]))
    columns = slice(max(left, 0), min(left + width, frame.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        frame[rows, columns] += stamp[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
