"""What `truth.json` says: plain values, and the definition of each."""

from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.detector import FRAME_TIME_S, MODES, PREAMPLIFIER_E_PER_ADU, Camera
from simulator.exposure import FrameTruth, best_frames, stack_strehl_percent
from simulator.optics import Optics
from simulator.schedule import NightPlan, ScheduledExposure, dark_modes
from simulator.seeing import moffat_fwhm_arcsec, profile_fwhm_arcsec
from simulator.star_field import CATALOGUE_NAME, StarField

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFINITIONS = {
    "strehl_percent": (
        "Of the noise-free mean of all frames (but clouded ones), each perfectly recentred on its "
        "true position: peak surface brightness over the flux in a box of the profile's side "
        "round the star, divided by the same of the diffraction limit of the annular aperture "
        "at the filter's wavelength. Both peaks are of the continuous image (sampled in 1/8 raw "
        "px, refined by parabolas): no integration over pixels. Guide star alone, no sky."
    ),
    "strehl_percent_best_20": "The same of the 20 % of frames of the highest own Strehl ratio.",
    "strehl_percent_whole_field": (
        "As strehl_percent, but with the light of companions and field stars in peak and box: "
        "what a perfect measurement that knows nothing of them gives."
    ),
    "frames.x, frames.y": (
        "Raw px of the file's frames, 0-based, the centre of the first pixel is 0: where the "
        "noise-free image of the frame, convolved with the diffraction limit, peaks within 3 px "
        "of the mean image motion. frames.motion_x, frames.motion_y: that mean motion (the tilt "
        "put in); the wavefront's own asymmetry moves the core by some tenths of a pixel from it."
    ),
    "frames.second_peak": (
        "Height of the next peak of that convolved image within 3 px, as a part of the highest: "
        "near 1, which of the two is the star's position is a matter of opinion."
    ),
    "frames.strehl_percent": "Of the single noise-free frame: in-frame motion included.",
    "seeing_model_fwhm_arcsec": (
        "FWHM of an infinite AO-off exposure in the same turbulence, filter and telescope, from "
        "the von Karman structure function."
    ),
    "fwhm_arcsec": (
        "Seeing exposures: FWHM (geometric mean of the axes) of an elliptical Moffat function "
        "fitted to the noise-free mean image of that very exposure, not integrated over pixels, "
        "image motion included, within 2.5 arcsec. fwhm_profile_arcsec: of the azimuthally "
        "averaged profile of the same image, no model. fwhm_model_arcsec: of an infinite exposure."
    ),
    "companions.pa_deg": "East of north, in the convention of the instrument profile.",
    "cosmic_rays": "[frame, x, y] of each track's middle.",
}
# What is said besides of a field of stars, and of a resolved object.
FIELD_DEFINITIONS = {
    "sky_field": (
        "Of the middle of the frame, ICRS: where it looks, how far that is from the header's "
        "pointing, the plate scale (root of a pixel's area) and the position angle of +y, "
        "refraction in both. stars: the guide star first; x, y: mean positions in the exposure "
        "(raw px), ra_deg, dec_deg: at its epoch. in_catalogue: false for stars that the "
        "reference catalogue lacks."
    ),
}
DISC_DEFINITIONS = {
    "disc": (
        "Surface brightness, over its value at the middle without spots: 1 - limb_darkening "
        "(1 - sqrt(1 - (r / radius)^2)), plus Gaussian spots; places from the middle along x and "
        "y of the detector. All of it has electrons_per_frame. frames.x, frames.y: where the "
        "core of a star in its middle would be; the Strehl ratios are that star's."
    ),
}
# What is said besides where the seeing changes within the exposures.
CHANGING_SEEING_DEFINITIONS = {
    "seeing_spread, seeing_time_s": (
        "Spread (1 sigma) of the natural logarithm of the seeing within the exposure, and its "
        "correlation time. seeing_500nm_arcsec is then the median; the model's FWHM is that of an "
        "exposure through all of the seeings."
    ),
    "frames.seeing_500nm_arcsec": "Mean over the frame.",
}


def observation_truth(scheduled: ScheduledExposure, pieces: "Sequence[Any]") -> dict[str, Any]:
    """Truth of a science observation from the pieces that were drawn."""
    plan, target = scheduled.plan, scheduled.target
    truths: list[FrameTruth] = [truth for piece in pieces for truth in piece.truths]
    optics = Optics.of_profile(plan.profile, plan.filter_name, plan.grid_px)
    clear = [truth for index, truth in enumerate(truths) if index not in plan.clouded]
    has_star = bool(plan.stars)
    values = _common(scheduled) | {
        "program": target.program,
        "object": target.object_name,
        "class": target.expected_class,
        "magnitude": target.magnitude,
        "seeing_model_fwhm_arcsec": _model_fwhm(scheduled),
        "strehl_percent": None,
        "strehl_percent_best_20": None,
        "strehl_percent_whole_field": None,
        "companions": [
            _companion(scheduled, index, is_field_star=False)
            for index, c in enumerate(target.companions)
            if not c.is_field_star
        ],
        "field_stars": [
            _companion(scheduled, index, is_field_star=True)
            for index, c in enumerate(target.companions)
            if c.is_field_star
        ],
        "clouded_frames": list(plan.clouded),
        "cosmic_rays": _cosmic_rays(truths),
        "frames": {"bias_adu": _rounded([t.bias_adu for t in truths], 3)},
    }
    if has_star:
        values["strehl_percent"] = round(stack_strehl_percent(optics, clear), 4)
        best = best_frames(clear, 20.0)
        values["strehl_percent_best_20"] = round(stack_strehl_percent(optics, best), 4)
        whole = stack_strehl_percent(optics, clear, whole_field=True)
        values["strehl_percent_whole_field"] = round(whole, 4)
        values["frames"] |= _frame_table(truths)
    if target.disc is not None:
        scale = {"plate_scale_arcsec": plan.profile.plate_scale_arcsec}
        scale = {"plate_scale_arcsec": plan.profile.plate_scale_arcsec}
        values["disc"] = target.disc.truth() | scale | scale
    if scheduled.field is not None:
        values["sky_field"] = _sky_field(scheduled.field)
    if plan.turbulence.seeing_spread > 0:
        values["frames"]["seeing_500nm_arcsec"] = _rounded(
            [t.seeing_500nm_arcsec for t in truths], 4
        )
    return values


def _sky_field(field: StarField) -> dict[str, Any]:
    scale, turn = field.view.scale_and_turn()
    return {
        "catalogue": CATALOGUE_NAME,
        "ra_deg": round(field.view.ra_deg, 9),
        "dec_deg": round(field.view.dec_deg, 9),
        "pointing_error_arcsec": round(field.pointing_error_arcsec, 4),
        "plate_scale_arcsec": round(scale, 9),
        "y_axis_pa_deg": round(turn, 6),
        "stars": [
            {
                "x": round(float(field.x_px[i]), 4),
                "y": round(float(field.y_px[i]), 4),
                "ra_deg": round(float(field.sky_deg[i, 0]), 9),
                "dec_deg": round(float(field.sky_deg[i, 1]), 9),
                "dmag": round(float(field.dmag[i]), 4),
                "in_catalogue": bool(field.in_catalogue[i]),
            }
            for i in range(len(field.x_px))
        ],
    }


def _frame_table(truths: list[FrameTruth]) -> dict[str, list[float]]:
    return {
        "x": _rounded([t.x_px for t in truths], 4),
        "y": _rounded([t.y_px for t in truths], 4),
        "second_peak": _rounded([t.second_peak for t in truths], 3),
        "motion_x": _rounded([t.motion_x_px for t in truths], 4),
        "motion_y": _rounded([t.motion_y_px for t in truths], 4),
        "strehl_percent": _rounded([t.strehl_percent for t in truths], 3),
        "transparency": _rounded([t.transparency for t in truths], 4),
    }


def seeing_truth(scheduled: ScheduledExposure, pieces: "Sequence[Any]") -> dict[str, Any]:
    """Truth of an AO-off exposure."""
    plan = scheduled.plan
    truths: list[FrameTruth] = [truth for piece in pieces for truth in piece.truths]
    optics = Optics.of_profile(plan.profile, plan.filter_name, plan.grid_px)
    transfer = np.sum([piece.transfer_sum for piece in pieces], axis=0) / len(truths)
    mean, major, minor = moffat_fwhm_arcsec(optics, transfer)
    return _common(scheduled) | {
        "magnitude": scheduled.target.magnitude,
        "x": round(plan.x_px, 4),
        "y": round(plan.y_px, 4),
        "fwhm_arcsec": round(mean, 5),
        "fwhm_major_arcsec": round(major, 5),
        "fwhm_minor_arcsec": round(minor, 5),
        "fwhm_profile_arcsec": round(profile_fwhm_arcsec(optics, transfer), 5),
        "fwhm_model_arcsec": _model_fwhm(scheduled),
        "cosmic_rays": _cosmic_rays(truths),
    }


def _common(scheduled: ScheduledExposure) -> dict[str, Any]:
    plan = scheduled.plan
    sky = plan.turbulence
    changing = {"seeing_spread": sky.seeing_spread, "seeing_time_s": sky.seeing_time_s}
    return {
        "id": scheduled.id,
        "utc": scheduled.utc.isoformat(),
        "profile": plan.profile.name,
        "filter": plan.filter_name,
        "mode": plan.mode.number,
        "n_frames": plan.frames,
        "exposure_s": round(plan.frames * FRAME_TIME_S, 4),
        "airmass": round(scheduled.airmass, 4),
        "seeing_500nm_arcsec": round(sky.seeing_fwhm_arcsec, 5),
        "electrons_per_frame": round(plan.stars[0].electrons, 2) if plan.stars else 0.0,
        "adu_per_electron": plan.mode.adu_per_electron,
    } | (changing if sky.seeing_spread > 0 else {})


def _companion(scheduled: ScheduledExposure, index: int, *, is_field_star: bool) -> dict[str, Any]:
    companion = scheduled.target.companions[index]
    dx, dy = companion.offset_px(scheduled.plan.profile)
    values: dict[str, Any] = {
        "sep_arcsec": companion.sep_arcsec,
        "pa_deg": companion.pa_deg,
        "dmag": companion.dmag,
        "dx": round(dx, 4),
        "dy": round(dy, 4),
    }
    if is_field_star:
        values |= {
            "x": round(scheduled.plan.x_px + dx, 4),
            "y": round(scheduled.plan.y_px + dy, 4),
        }
    return values


def _model_fwhm(scheduled: ScheduledExposure) -> float:
    plan = scheduled.plan
    fwhm = plan.turbulence.long_exposure_fwhm_arcsec(
        plan.profile.filter(plan.filter_name).wavelength_nm,
        plan.profile.primary_diameter_m,
        plan.profile.secondary_diameter_m,
    )
    return round(float(fwhm), 5)


def _cosmic_rays(truths: list[FrameTruth]) -> list[list[float]]:
    return [
        [index, round(x, 1), round(y, 1)]
        for index, truth in enumerate(truths)
        for x, y in truth.cosmic_rays
    ]


def _rounded(values: list[float], digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


def night_truth(
    plan: NightPlan,
    camera: Camera,
    *,
    seed: int,
    observations: list[dict[str, Any]],
    seeing: list[dict[str, Any]],
    files: list[str],
) -> dict[str, Any]:
    """The whole of `truth.json`."""
    suffix = "" if plan.window.side_px == 1024 else "4"
    changing = any("seeing_spread" in exposure for exposure in (*observations, *seeing))
    definitions = dict(DEFINITIONS)
    for key, more in (("sky_field", FIELD_DEFINITIONS), ("disc", DISC_DEFINITIONS)):
        definitions |= more if any(key in observation for observation in observations) else {}
    return {
        "night": plan.night,
        "seed": seed,
        "size": plan.window.side_px,
        "profile": plan.profile.name,
        "plate_scale_arcsec": plan.profile.plate_scale_arcsec,
        "numpy": np.__version__,
        "definitions": definitions | (CHANGING_SEEING_DEFINITIONS if changing else {}),
        "observations": observations,
        "seeing": seeing,
        "darks": [
            {
                "mode": f"{number}{suffix}" if number else "0",
                "em_gain": MODES[number].em_gain,
                "adu_per_electron": MODES[number].adu_per_electron,
                "bias_adu": MODES[number].bias_adu,
                "bias_drift_adu": MODES[number].bias_drift_adu,
                "read_noise_adu": camera.read_noise_adu,
            }
            for number in (0, *dark_modes(plan))
        ],
        "flats": plan.filters,
        "dead_pixels": camera.dead_pixels.tolist(),
        "preamplifier_e_per_adu": PREAMPLIFIER_E_PER_ADU,
        "files": files,
    }
