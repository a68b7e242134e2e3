"""The plot of an observation's contrast curve, against the median of its night.

The contrast stage draws it with the median that is known then, the night's summary again
when the median has changed: what it was drawn from is in the catalogue beside it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.night_plots import contrast_limits, draw_quartile_band
from roboao_assets.pipelines.picture_style import (
    ACCENT,
    MUTED,
    new_figure,
    render_png,
    style_axes,
    style_legend,
)
from roboao_assets.pipelines.residual_pictures import MARK
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.contrast_quartiles import ContrastQuartiles, finite_points
from roboao_assets.science.errors import ScienceError
from roboao_assets.storage.catalogue import product
from roboao_assets.storage.files import write_bytes_whole

# Fewer curves have no median worth comparing with.
LEAST_CURVES = 2
_COLUMNS = ("separation_arcsec", "lower_mag", "median_mag", "upper_mag", "curves")


def contrast_curve_plot(
    separation_arcsec: Sequence[float | None] | NDArray[np.floating],
    contrast_mag: Sequence[float | None] | NDArray[np.floating],
    *,
    title: str,
    night_median: ContrastQuartiles | None = None,
    candidates: Sequence[tuple[float, float]] = (),
    sigma: float = 5.0,
) -> bytes:
    """Plot a contrast curve; fainter companions are further down.

    Parameters
    ----------
    separation_arcsec, contrast_mag : sequence of float, shape (n,)
        Values that are not finite are left out.
    title : str
    night_median : ContrastQuartiles or None
        Of the night in the same filter, drawn behind the curve.
    candidates : sequence of (separation arcsec, contrast mag)
        Drawn as points.
    sigma : float
        Significance of the curve.

    Returns
    -------
    bytes
        PNG, 800 x 500 px.

    Raises
    ------
    ScienceError
        If no point is finite.
    """
    separation, contrast = finite_points(separation_arcsec, contrast_mag)
    if not separation.size:
        raise ScienceError(
            f"a plot was asked for of a contrast curve of {len(contrast_mag)} points of which none "
            f"is finite; look at the residual it was measured on"
        )
    figure = new_figure(800, 500)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.76))
    style_axes(
        axes,
        x_label="separation (arcsec)",
        y_label=f"{sigma:g} σ contrast (mag)",
        title=title,
    )
    shown = [(separation, contrast)]
    if night_median is not None:
        axes.plot(
            night_median.separation_arcsec,
            night_median.median_mag,
            color=MUTED,
            linewidth=2.0,
            label=f"night: median and quartiles of {night_median.total}",
        )
        draw_quartile_band(axes, night_median, colour=MUTED)
        shown.append((night_median.separation_arcsec, night_median.median_mag))
    axes.plot(
        separation,
        contrast,
        color=ACCENT,
        linewidth=2.4,
        label="this observation",
        marker="o" if separation.size == 1 else "",
        zorder=5,
    )
    low, high = contrast_limits(shown)
    points = [(x, y) for x, y in candidates if math.isfinite(x) and math.isfinite(y)]
    if points:
        x, y = np.array(points).T
        axes.plot(
            x,
            y,
            linestyle="none",
            marker="*",
            markersize=13,
            color=MARK,
            markeredgecolor="#000000",
            label="candidate" if len(points) == 1 else "candidates",
            zorder=6,
        )
        low, high = min(low, float(y.min()) - 0.3), max(high, float(y.max()) + 0.3)
    axes.set_xlim(left=0.0)
    axes.set_ylim(high, low)
    if night_median is not None or points:
        style_legend(axes, location="upper right")
    return render_png(figure)


def publish_contrast_picture(
    ws: Workspace,
    night: str,
    observation_id: str,
    pipeline: str,
    document: Mapping[str, Any],
    median: ContrastQuartiles | None,
) -> bytes | None:
    """Draw an observation's contrast curve, unless its picture stands for just these values.

    Parameters
    ----------
    ws : Workspace
    night, observation_id, pipeline : str
    document : mapping
        The observation's, with the curve and the candidates of `pipeline`.
    median : ContrastQuartiles or None
        See `night_median`.

    Returns
    -------
    bytes or None
        PNG; None if the picture there is current.

    Raises
    ------
    ScienceError
        If the document has no contrast curve with a finite point.
    """
    record = product(document, f"{pipeline}.pca")
    separation, contrast = record.get("contrast_curve") or ((), ())
    candidates = [
        (c["separation_arcsec"], c["contrast_mag"])
        for c in record.get("candidates") or ()
        if c.get("separation_arcsec") is not None and c.get("contrast_mag") is not None
    ]
    title, sigma = str(document.get("name") or observation_id), ws.settings.high_contrast.sigma
    identity = fingerprint(
        "contrast_picture",
        [separation, contrast],
        candidates,
        None if median is None else quartiles_document(median),
        title,
        sigma,
    )
    if ws.kept(record.get("contrast_picture"), identity):
        return None
    picture = contrast_curve_plot(
        separation,
        contrast,
        title=title,
        night_median=median,
        candidates=candidates,
        sigma=sigma,
    )
    path = ws.paths.pca(night, observation_id, pipeline, "contrast_curve.png")
    write_bytes_whole(path, picture)
    ws.catalogue.put_image(
        f"{observation_id}/{pipeline}/contrast_curve",
        picture,
        night=night,
        observation=observation_id,
    )
    ws.catalogue.publish(
        observation_id,
        f"{pipeline}.pca.contrast_picture",
        product_record(ws.paths.root, identity, [path]),
    )
    return picture


def night_median(ws: Workspace, night: str, filter_name: str) -> ContrastQuartiles | None:
    """Median and quartiles of the night's curves in a filter, as the summary last found them.

    None if there is no summary yet, or fewer than `LEAST_CURVES` curves in this filter.
    """
    section = (ws.catalogue.night(night) or {}).get("contrast_curve") or {}
    for entry in section.get("quartiles") or ():
        if entry.get("filter") == filter_name and entry.get("total", 0) >= LEAST_CURVES:
            columns = {name: np.asarray(entry[name], dtype=np.float64) for name in _COLUMNS}
            columns["curves"] = columns["curves"].astype(np.int64)
            return ContrastQuartiles(total=entry["total"], **columns)
    return None


def quartiles_document(quartiles: ContrastQuartiles) -> dict[str, Any]:
    """Return quartiles as the night's document keeps them, beside their `filter`."""
    columns = {name: getattr(quartiles, name).tolist() for name in _COLUMNS}
    return {"total": quartiles.total, **columns}
