"""Our contrast curve against VIP's: the same frame, references, filter and definition."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.rows import Goal, Options, Row, interleave, timed
from roboao_assets.science.high_contrast import (
    ContrastCurve,
    PreparedPsf,
    annulus_that_matters,
    contrast_curve,
    detect_candidates,
    prepare_psf,
    principal_components,
    reference_rows,
    tune_subtraction,
)
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.settings import HighContrastSettings
from simulator.star_cube import StarCube, simulate_star_cube

REFERENCES, FRAMES, QUICK_FRAMES = 5, 60, 10
FIRST_SEED = 100
HALF_PX = 100
MOST_REPEATS = 3
SPEED_GOAL = Goal(limit=5.0, at_least=True)
DIFFERENCE_GOAL = Goal(limit=0.05)


@dataclass(frozen=True, kw_only=True)
class ContrastCase:
    """A prepared star and its references."""

    star: PreparedPsf
    references: NDArray[np.float32]
    scale_arcsec: float


def measure(options: Options) -> Iterator[Row]:
    """Yield how many times as long VIP takes, how far the curves are apart, and our own parts."""
    case = make_case(QUICK_FRAMES if options.quick else FRAMES)

    def ours() -> ContrastCurve:
        rows = reference_rows(case.references)
        components = principal_components(rows, 1, case.star.frame.shape)
        return contrast_curve(
            case.star.frame,
            components,
            fwhm_px=case.star.fwhm_px,
            plate_scale_arcsec=case.scale_arcsec,
            threads=options.cores,
        )

    curve = ours()
    separation_arcsec, theirs = vip_curve(case, curve.star_flux)
    repeats = min(options.repeats, MOST_REPEATS)
    pairs = interleave(
        lambda: timed(ours),
        {"vip": lambda: timed(lambda: vip_curve(case, curve.star_flux))},
        repeats,
    )["vip"]
    yield Row(
        name="contrast curve, VIP / ours",
        key="contrast_speedup_over_vip",
        values=tuple(p.ratio for p in pairs),
        goal=SPEED_GOAL,
        note=f"{np.median([p.seconds for p in pairs]):.2f} / "
        f"{np.median([p.baseline for p in pairs]):.3f} s; {case.star.frame.shape[0]} px, "
        f"{REFERENCES} references, without imports",
    )
    known = separation_arcsec <= curve.separation_arcsec[-1] + 1e-9
    found = np.interp(separation_arcsec[known], curve.separation_arcsec, curve.contrast_mag)
    difference = np.abs(found - theirs[known])
    yield Row(
        name="contrast curve, greatest difference to VIP's",
        key="contrast_max_difference_mag",
        values=(float(difference.max()),),
        unit="mag",
        goal=DIFFERENCE_GOAL,
        note=f"{known.sum()} separations, {separation_arcsec[0]:.2f} to "
        f"{separation_arcsec[known][-1]:.2f} arcsec; median {np.median(difference):.4f}",
    )
    yield from _own_parts(case, repeats)


def make_case(frames: int) -> ContrastCase:
    """A simulated star and five others of its kind, filtered as the archive does."""
    settings = HighContrastSettings()
    prepared = []
    for seed in range(FIRST_SEED, FIRST_SEED + 1 + REFERENCES):
        image, middle = recentred_mean(simulate_star_cube(frames=frames, seed=seed))
        prepared.append(
            prepare_psf(image, middle, middle, HALF_PX, highpass_planes=settings.highpass_planes)
        )
    return ContrastCase(
        star=prepared[0],
        references=np.array([psf.frame for psf in prepared[1:]]),
        scale_arcsec=load_instruments()["KPNO_2.1m"].drizzled_scale_arcsec,
    )


def recentred_mean(cube: StarCube) -> tuple[NDArray[np.float64], int]:
    """Mean of a cube's calibrated frames on the true positions, twice as fine; star's pixel."""
    frames = cube.frames - cube.bias_adu[:, None, None] - cube.dark
    frames /= cube.flat
    side, scale = frames.shape[1], 2
    middle = side * scale // 2
    total = np.zeros((side * scale, side * scale))
    for frame, (x, y) in zip(frames, cube.positions, strict=True):
        places = [(np.arange(side * scale) - middle) / scale + p for p in (y, x)]
        grid = np.meshgrid(*places, indexing="ij")
        total += ndimage.map_coordinates(frame, grid, order=3, mode="nearest")
    return total / len(frames), middle


def vip_curve(case: ContrastCase, flux: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """VIP's curve (arcsec, mag), by its own PCA with all else as VIP has it by default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vip_hci import metrics
        from vip_hci.psfsub import pca

        norms = np.linalg.norm(case.references, axis=(1, 2), keepdims=True)
        frame = case.star.frame.astype(np.float64)
        table = metrics.contrast_curve(
            frame[None],
            np.zeros(1),
            frame / flux,
            case.star.fwhm_px,
            case.scale_arcsec,
            flux,
            pca,
            cube_ref=(case.references / norms).astype(np.float64),
            ncomp=1,
            plot=False,
            verbose=False,
        )
    separation = table["distance_arcsec"].to_numpy()
    return separation, -2.5 * np.log10(table["sensitivity_student"].to_numpy())


def _own_parts(case: ContrastCase, repeats: int) -> Iterator[Row]:
    star = case.star
    empty = [np.empty((0, *star.frame.shape), np.float32)] * REFERENCES
    annulus_px = annulus_that_matters(star.fwhm_px, HALF_PX)

    def tune():
        return tune_subtraction(
            star.frame, case.references, empty, fwhm_px=star.fwhm_px, annulus_px=annulus_px
        )

    tuned = tune()
    profile = load_instruments()["KPNO_2.1m"]
    parts = {
        "choice of references and components": (tune, ""),
        "search for companions": (
            lambda: detect_candidates(star.frame, tuned.components, star.fwhm_px, profile),
            "no companion",
        ),
    }
    for name, (work, note) in parts.items():
        seconds = tuple(timed(work) for _ in range(repeats))
        yield Row(name=name, values=seconds, unit="s", note=note)
