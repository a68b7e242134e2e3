"""`python -m benchmarks.contrast_figures FOLDER`: the figures of docs/high-contrast.md, from runs.

Two figures: companions injected at the level of a contrast curve and recovered, and the curve
beside VIP's.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.contrast import (
    FIRST_SEED,
    FRAMES,
    HALF_PX,
    ContrastCase,
    make_case,
    recentred_mean,
    vip_curve,
)
from roboao_assets.pipelines.picture_style import (
    ACCENT,
    MUTED,
    WARNING,
    new_figure,
    render_png,
    style_axes,
    style_legend,
)
from roboao_assets.science.contrast import student_factor
from roboao_assets.science.high_contrast import (
    ContrastCurve,
    PrincipalComponents,
    contrast_curve,
    prepare_psf,
    principal_components,
    reference_rows,
)
from roboao_assets.storage.settings import HighContrastSettings
from simulator.star_cube import simulate_star_cube

DIRECTIONS = 24
SEPARATIONS_FWHM = (1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 9.0, 12.0, 15.0, 18.0)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Companions injected at the level of a curve, at one separation; arrays of one each.

    Attributes
    ----------
    separation_arcsec : float
    significance_mag : ndarray
        Signal-to-noise among the other apertures of the ring, over that which has the
        false-alarm probability of 5 sigma there; in magnitudes, 0 is 5 sigma.
    contrast_error_mag : ndarray
        Recovered less injected contrast.
    """

    separation_arcsec: float
    significance_mag: NDArray[np.float64]
    contrast_error_mag: NDArray[np.float64]

    def __str__(self) -> str:
        low, middle, high = np.percentile(self.significance_mag, (25, 50, 75))
        error = self.contrast_error_mag
        return (
            f"{self.separation_arcsec:.3f} arcsec: median {middle:+.2f} mag from 5 sigma "
            f"(quartiles {low:+.2f}, {high:+.2f}); contrast {error.mean():+.3f} mag"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw both figures and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    case = make_case(FRAMES)
    components = principal_components(reference_rows(case.references), 1, case.star.frame.shape)
    curve = contrast_curve(
        case.star.frame,
        components,
        fwhm_px=case.star.fwhm_px,
        plate_scale_arcsec=case.scale_arcsec,
    )
    found = {}
    for name, level_mag in (
        ("as a blind search has it", curve.blind_contrast_mag),
        ("as VIP has it", curve.contrast_mag),
    ):
        found[name] = recover(case, components, curve, level_mag)
        print(f"injected at the curve {name}", *found[name], sep="\n  ")
    (folder / "injection-recovery.png").write_bytes(draw_recovery(curve, found))
    separation, theirs = vip_curve(case, curve.star_flux)
    (folder / "contrast-vip.png").write_bytes(draw_comparison(curve, separation, theirs))


def recover(
    case: ContrastCase,
    components: PrincipalComponents,
    curve: ContrastCurve,
    level_mag: NDArray[np.float64],
) -> list[Recovery]:
    """Inject at `level_mag` into the unfiltered stack; filter, centre, subtract and search."""
    stack, middle = recentred_mean(simulate_star_cube(frames=FRAMES, seed=FIRST_SEED))
    star = stack - np.median(stack)
    planes = HighContrastSettings().highpass_planes
    plain = components.subtract(case.star.frame)
    found = []
    for separation_px in np.array(SEPARATIONS_FWHM) * curve.fwhm_px:
        separation = separation_px * case.scale_arcsec
        injected_mag = float(np.interp(separation, curve.separation_arcsec, level_mag))
        throughput = np.interp(separation, curve.separation_arcsec, curve.throughput)
        significance, contrast = [], []
        for angle in (np.arange(DIRECTIONS) + 0.37) * 2 * np.pi / DIRECTIONS:
            shift = separation_px * np.sin(angle), separation_px * np.cos(angle)
            light = 10 ** (-0.4 * injected_mag) * ndimage.shift(star, shift, order=3)
            frame = prepare_psf(
                stack + light, middle, middle, HALF_PX, highpass_planes=planes
            ).frame
            residual = components.subtract(frame)
            ring = _ring(residual, separation_px, angle, curve.fwhm_px)
            others = len(ring) - 1
            noise = ring[1:].std(ddof=1) * student_factor(curve.sigma, np.array(others))
            significance.append((ring[0] - ring[1:].mean()) / noise)
            left = _ring(residual - plain, separation_px, angle, curve.fwhm_px)[0]
            contrast.append(left / throughput / curve.star_flux)
        found.append(
            Recovery(
                separation_arcsec=float(separation),
                significance_mag=2.5 * np.log10(np.maximum(significance, 0.1)),
                contrast_error_mag=-2.5 * np.log10(contrast) - injected_mag,
            )
        )
    return found


def _ring(
    image: NDArray[np.float64], radius_px: float, angle: float, fwhm_px: float
) -> NDArray[np.float64]:
    """Fluxes of the apertures side by side on a ring, that at `angle` first."""
    half = image.shape[0] // 2
    number = np.arange(int(2 * np.pi * radius_px / fwhm_px))
    angles = angle + number * fwhm_px / radius_px
    places = half + radius_px * np.cos(angles), half + radius_px * np.sin(angles)
    fluxes, _, _ = sep.sum_circle(np.ascontiguousarray(image), *places, fwhm_px / 2, subpix=0)
    return fluxes


def draw_recovery(curve: ContrastCurve, found: Mapping[str, Sequence[Recovery]]) -> bytes:
    """The curves with the companions injected on them, and how significant they are found."""
    figure = new_figure(900, 680)
    above = figure.add_axes((0.11, 0.49, 0.86, 0.44))
    below = figure.add_axes((0.11, 0.09, 0.86, 0.32), sharex=above)
    style_axes(
        above,
        x_label="",
        y_label="5 σ contrast (mag)",
        title="Companions injected on the curve, before filter and centring",
    )
    style_axes(below, x_label="separation (arcsec)", y_label="found / 5 σ (mag)")
    below.axhspan(-0.3, 0.3, color=ACCENT, alpha=0.15, linewidth=0)
    below.axhline(0.0, color=ACCENT, linewidth=1.2)
    looks = ((curve.blind_contrast_mag, WARNING, "o"), (curve.contrast_mag, MUTED, "D"))
    for (name, recoveries), (level, colour, marker) in zip(found.items(), looks, strict=True):
        above.plot(curve.separation_arcsec, level, color=colour, linewidth=2, label=f"curve {name}")
        places = [r.separation_arcsec for r in recoveries]
        recovered = [
            np.interp(r.separation_arcsec, curve.separation_arcsec, level)
            + r.contrast_error_mag.mean()
            for r in recoveries
        ]
        above.plot(places, recovered, marker, color=colour, markersize=6)
        low, middle, high = np.percentile(
            [r.significance_mag for r in recoveries], (25, 50, 75), axis=1
        )
        below.errorbar(
            places,
            middle,
            yerr=[middle - low, high - middle],
            fmt=marker,
            color=colour,
            markersize=6,
            elinewidth=1.2,
        )
    above.set_xlim(left=0.0)
    above.invert_yaxis()
    below.set_ylim(-0.8, 0.8)
    style_legend(above, location="upper right")
    return render_png(figure)


def draw_comparison(
    curve: ContrastCurve, separation_arcsec: NDArray[np.float64], theirs: NDArray[np.float64]
) -> bytes:
    """Both curves, and their difference."""
    figure = new_figure(900, 560)
    above = figure.add_axes((0.11, 0.42, 0.86, 0.49))
    below = figure.add_axes((0.11, 0.1, 0.86, 0.24), sharex=above)
    style_axes(
        above, x_label="", y_label="5 σ contrast (mag)", title="The same frame and references"
    )
    above.plot(
        curve.separation_arcsec, curve.contrast_mag, color=ACCENT, linewidth=4, label="this archive"
    )
    above.plot(
        separation_arcsec, theirs, color=WARNING, linestyle="--", linewidth=1.6, label="VIP 2.1"
    )
    known = separation_arcsec <= curve.separation_arcsec[-1] + 1e-9
    ours = np.interp(separation_arcsec[known], curve.separation_arcsec, curve.contrast_mag)
    style_axes(below, x_label="separation (arcsec)", y_label="archive - VIP (mag)")
    below.axhspan(-0.05, 0.05, color=ACCENT, alpha=0.15, linewidth=0)
    below.plot(separation_arcsec[known], ours - theirs[known], color=WARNING)
    below.set_ylim(-0.1, 0.1)
    above.set_xlim(left=0.0)
    above.invert_yaxis()
    style_legend(above, location="upper right")
    return render_png(figure)


if __name__ == "__main__":
    main()
