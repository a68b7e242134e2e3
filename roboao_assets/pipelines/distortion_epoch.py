"""An epoch's distortion solution: made from an observation of a dense field."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from roboao_assets.pipelines.astrometry import (
    field_image,
    field_stars,
    instrument_geometry,
    match_bounds,
    pointing_of,
    reference_stars_near,
)
from roboao_assets.pipelines.observation import open_context
from roboao_assets.pipelines.picture_style import (
    ACCENT,
    MUTED,
    TEXT,
    new_figure,
    printable,
    render_png,
    style_axes,
)
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.science.distortion import Distortion
from roboao_assets.science.errors import FitFailedError
from roboao_assets.science.plate_solution import InstrumentSolution, solve_instrument
from roboao_assets.science.sky_catalogue import SkyCatalogue
from roboao_assets.science.source_detection import DetectedStars
from roboao_assets.storage.distortion_files import write_distortion
from roboao_assets.storage.files import write_bytes_whole
from roboao_assets.storage.raw_names import parse_exposure_name
from roboao_assets.storage.settings import Settings

_SIZE_PX = (900, 900)
# An arrow of this length in the plot (px of the detector) is the key's.
_KEY_PX = 60.0


@dataclass(frozen=True, kw_only=True)
class EpochSolution:
    """A distortion solution in the archive.

    Attributes
    ----------
    path, plot : Path
    distortion : Distortion
        Of raw pixels.
    detected, identified : int
        Stars found, and those told from the catalogue.
    pointing_error_arcsec : float
    """

    path: Path
    plot: Path
    distortion: Distortion
    detected: int
    identified: int
    pointing_error_arcsec: float


def solve_epoch(settings: Settings, observation: str) -> EpochSolution:
    """Solve the instrument's distortion on a reduced observation; write it and its plot.

    Parameters
    ----------
    settings : Settings
        `settings.astrometry` has the catalogue and the bounds.
    observation : str
        Id; its stacks are made.

    Raises
    ------
    ArchiveError
        Whatever is missing or cannot be done, in a sentence; nothing is written then.
    """
    night = f"{parse_exposure_name(observation).utc:%Y%m%d}"
    options = settings.astrometry
    with open_workspace(settings) as ws:
        ctx = open_context(ws, night, observation)
        pointing = pointing_of(ctx)
        raw, _ = instrument_geometry(ctx)
        field = field_image(ctx)
        stars = field_stars(ctx, field)
        catalogue = reference_stars_near(ctx, pointing)
        solved = solve_instrument(
            stars,
            raw.drizzled(field.factor),
            catalogue,
            pointing,
            match_bounds(options),
            order=options.order,
            source=f"{observation} on {Path(catalogue.source).name}",
        )
        distortion = solved.fit.distortion.drizzled(1 / field.factor)
        if distortion.rms_mas > 1000 * options.tolerance_arcsec / 5:
            raise FitFailedError(
                f"the solution of {observation} scatters by {distortion.rms_mas:.0f} mas: stars "
                "that are not the catalogue's were taken for them, or the stack is poor"
            )
        path = ws.paths.distortion(ctx.profile.telescope, night)
        plot = ws.paths.distortion_plot(ctx.profile.telescope, night)
        shape = _detector_shape(raw.shape)
        # Of a quarter frame: counted on the detector, so that any readout can be cut from it.
        distortion = replace(
            distortion,
            reference_x=distortion.reference_x + (shape[1] - distortion.shape[1]) / 2,
            reference_y=distortion.reference_y + (shape[0] - distortion.shape[0]) / 2,
            shape=shape,
        )
        write_bytes_whole(plot, residual_plot(stars, solved, title=f"{observation}"))
        write_distortion(path, distortion, _star_table(stars, catalogue, solved, field.factor))
    return EpochSolution(
        path=path,
        plot=plot,
        distortion=distortion,
        detected=len(stars),
        identified=len(solved.detected),
        pointing_error_arcsec=solved.field.pointing_error_arcsec,
    )


def residual_plot(stars: DetectedStars, solved: InstrumentSolution, *, title: str) -> bytes:
    """Draw what the fit leaves of every star, as arrows on the detector (PNG)."""
    fit = solved.fit
    figure = new_figure(*_SIZE_PX)
    axes = figure.add_subplot()
    x, y = stars.x[solved.detected], stars.y[solved.detected]
    east, north = fit.residual_mas.T
    length = np.hypot(east, north)
    key_mas = float(f"{max(np.median(length[fit.used]), 0.1):.1g}")
    # From the sky back to the directions of the detector.
    axes_on_sky = fit.distortion.matrix / fit.distortion.plate_scale_arcsec
    key_px = _KEY_PX * max(fit.distortion.shape) / 1024
    arrows = fit.residual_mas @ np.linalg.inv(axes_on_sky).T * key_px / key_mas
    used = fit.used
    axes.quiver(
        x[used],
        y[used],
        *arrows[used].T,
        color=ACCENT,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.003,
    )
    axes.plot(x[used], y[used], "o", color=TEXT, markersize=3)
    axes.plot(x[~used], y[~used], "x", color=MUTED, markersize=7)
    axes.set_xlim(0, fit.distortion.shape[1])
    axes.set_ylim(0, fit.distortion.shape[0])
    axes.set_aspect("equal")
    heading = (
        f"{printable(title)}\n{fit.distortion.stars} stars, rms {fit.distortion.rms_mas:.1f} mas; "
        f"an arrow of {key_px:.0f} px is {key_mas:g} mas"
    )
    style_axes(axes, x_label="x (px)", y_label="y (px)", title=heading)
    return render_png(figure)


def _detector_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """The full frame, of which a quarter frame is the middle."""
    return (max(shape[0], 1024), max(shape[1], 1024))


def _star_table(
    stars: DetectedStars, catalogue: SkyCatalogue, solved: InstrumentSolution, factor: int
) -> Table:
    detected, there = solved.detected, solved.catalogue
    east, north = solved.fit.residual_mas.T
    table = Table(
        {
            "x": (stars.x[detected] + 0.5) / factor - 0.5,
            "y": (stars.y[detected] + 0.5) / factor - 0.5,
            "snr": stars.snr[detected],
            "ra_deg": catalogue.ra_deg[there],
            "dec_deg": catalogue.dec_deg[there],
            "mag": catalogue.magnitude[there],
            "east_mas": east,
            "north_mas": north,
            "used": solved.fit.used,
        }
    )
    for name in ("x", "y", "snr", "mag", "east_mas", "north_mas"):
        table[name].info.format = ".3f"
    return table
