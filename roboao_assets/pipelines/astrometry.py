"""World coordinates of an observation: from its field stars, else from the pointing alone."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import FK5, SkyCoord
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.science.distortion import Distortion, linear_distortion, sip_wcs
from roboao_assets.science.errors import NoStarError, RawDataError
from roboao_assets.science.plate_solution import (
    FieldSolution,
    Pointing,
    predicted_wcs,
    sky_offset,
    solve_field,
)
from roboao_assets.science.refraction import refraction_matrix
from roboao_assets.science.sky_catalogue import SkyCatalogue
from roboao_assets.science.source_detection import (
    DetectedStars,
    detect_stars,
    without_halo_peaks,
)
from roboao_assets.science.star_matching import MatchBounds, NoMatchError
from roboao_assets.storage.catalogue import skip_reason
from roboao_assets.storage.distortion_files import newest_distortion
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import read_product_header, replace_cards
from roboao_assets.storage.mirror import in_original_words, place_of
from roboao_assets.storage.product_files import record_paths
from roboao_assets.storage.settings import AstrometrySettings
from roboao_assets.storage.sky_catalogues import SkyCatalogueError, query_gaia, read_sky_catalogue
from roboao_assets.storage.tables import ecsv_text

STAGE = "astrometric_solution"
PRODUCT = "bright_star.astrometry"
# Of a halo, in which peaks are speckles.
_HALO_ARCSEC = 1.2
# An image registered on a star is as wide as this, if it is not sharpened.
_SEEING_ARCSEC = 0.5
_WCS_KEYWORD = re.compile(
    r"WCSAXES|CRPIX\d|CRVAL\d|CDELT\d|CUNIT\d|CTYPE\d|CROTA\d|PC\d_\d|CD\d_\d|PV\d_\d+|LONPOLE"
    r"|LATPOLE|RADESYS|EQUINOX|MJDREF|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)|WCSSRC|AST[A-Z]+"
)


@dataclass(frozen=True, kw_only=True)
class FieldImage:
    """The image that is searched for stars.

    Attributes
    ----------
    path : Path
    factor : int
        Pixels of it a raw pixel (one axis).
    fwhm_arcsec : float
        Width of a star's core, roughly.
    """

    path: Path
    factor: int
    fwhm_arcsec: float


def solve_observation(ctx: ObservationContext) -> StageOutcome:
    """Give the stacks of an observation world coordinates; write the table of its stars.

    Raises
    ------
    NothingToMakeError
        If the raw header has no pointing, or there is by a decision no bright-star stack.
    """
    stack = ctx.product("bright_star")
    if reason := skip_reason(stack):
        raise NothingToMakeError(f"there is no bright-star stack of {ctx.id} to solve: {reason}")
    if not stack.get("fingerprint"):
        raise RawDataError(
            f"{ctx.id} has no bright-star stack yet: materialise bright_star_stack first"
        )
    pointing = pointing_of(ctx)
    distortion, epoch = instrument_geometry(ctx)
    options = ctx.ws.settings.astrometry
    identity = fingerprint(
        STAGE,
        stack["fingerprint"],
        ctx.product("faint_star").get("fingerprint", ""),
        options.fingerprint(),
        _identity_of_file(options.catalogue),
        _identity_of_file(epoch),
        ctx.profile.name,
    )
    record = ctx.product(PRODUCT)
    images = _images_with_wcs(ctx)
    kept = ctx.kept(record, identity)
    # A stack that was made again has the place holder.
    if kept and all(_carries(path, kept) for path in images):
        return StageOutcome(
            stage=STAGE, status="unchanged", fingerprint=kept, metadata=_figures(record)
        )
    field = field_image(ctx)
    stars, catalogue, solution, reason = _solve(
        ctx, field, distortion.drizzled(field.factor), pointing
    )
    summary = _summary(solution, pointing, distortion, epoch, catalogue, reason)
    summary["stars_detected"] = None if stars is None else len(stars)
    table = ctx.ws.paths.astrometry(ctx.night, ctx.id, "bright_star", "stars.ecsv")
    write_text_whole(table, _stars_text(stars, catalogue, solution, summary))
    geometry = _Geometry(
        pointing=pointing, distortion=distortion, solution=solution, factor=field.factor
    )
    height, width = _raw_shape(ctx)
    summary["raw_shape_px"] = [width, height]
    corners = geometry.wcs(1).calc_footprint(axes=(width, height), center=False)
    summary["footprint_deg"] = corners.tolist()
    for path in images:
        _write_wcs(ctx, path, geometry, summary, identity)
    _publish_sizes(ctx)
    made = product_record(ctx.ws.paths.root, identity, [table])
    if options.gaia and catalogue is None:
        # The network may be there the next time.
        made["fingerprint"] = ""
    ctx.ws.catalogue.publish(ctx.id, PRODUCT, {**summary, **made})
    return StageOutcome(
        stage=STAGE, status="done", fingerprint=identity, metadata=_figures(summary)
    )


def pointing_of(ctx: ObservationContext) -> Pointing:
    """Where the telescope said it points (ICRS), with the refraction there.

    Raises
    ------
    NothingToMakeError
        If the raw header does not say.
    """
    facts, profile = ctx.frames.facts, ctx.profile
    if facts.ra_deg is None or facts.dec_deg is None:
        raise NothingToMakeError(
            f"the raw header of {ctx.id} has no pointing (TELRA/TELDEC, OBJRA/OBJDEC): its images "
            "have no world coordinates"
        )
    frame = FK5(equinox=Time(facts.equinox or 2000.0, format="jyear"))
    icrs = SkyCoord(facts.ra_deg, facts.dec_deg, unit="deg", frame=frame).icrs
    refraction = None
    if (
        profile.site_latitude_deg is not None
        and facts.azimuth_deg is not None
        and facts.elevation_deg is not None
        and 10 <= facts.elevation_deg <= 90
    ):
        refraction = refraction_matrix(
            azimuth_deg=facts.azimuth_deg,
            elevation_deg=facts.elevation_deg,
            latitude_deg=profile.site_latitude_deg,
            altitude_m=profile.site_altitude_m,
            wavelength_nm=ctx.frames.wavelength_nm,
        )
    return Pointing(ra_deg=float(icrs.ra.deg), dec_deg=float(icrs.dec.deg), refraction=refraction)


def instrument_geometry(ctx: ObservationContext) -> tuple[Distortion, Path | None]:
    """The geometry of raw frames of this observation, and the epoch's file if it has one."""
    shape = _raw_shape(ctx)
    newest = newest_distortion(ctx.ws.paths, ctx.profile.telescope, ctx.night)
    if newest is not None:
        return newest[1].cut(shape), newest[0]
    return linear_distortion(
        shape=shape,
        plate_scale_arcsec=ctx.profile.plate_scale_arcsec,
        east_is_left=ctx.profile.east_is_left,
        y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
    ), None


def reference_stars_near(ctx: ObservationContext, pointing: Pointing) -> SkyCatalogue:
    """The catalogue's stars at the epoch of the observation.

    Raises
    ------
    SkyCatalogueError
        If there is no catalogue, or it cannot be used.
    """
    options = ctx.ws.settings.astrometry
    if options.catalogue:
        path = Path(options.catalogue)
        size, modified = _identity_of_file(path)[1:] or (0, 0)
        catalogue = _cached_catalogue(path, size, modified)
    elif options.gaia:
        radius = 60.0 + options.max_pointing_error_arcsec
        catalogue = query_gaia(pointing.ra_deg, pointing.dec_deg, radius)
    else:
        raise SkyCatalogueError(
            "no reference stars: the setting astrometry.catalogue names no table and "
            "astrometry.gaia is off"
        )
    near = catalogue.near(
        pointing.ra_deg, pointing.dec_deg, 600.0 + options.max_pointing_error_arcsec
    )
    return near.at_epoch(Time(ctx.exposure.name.utc).jyear)


def match_bounds(options: AstrometrySettings) -> MatchBounds:
    """The settings as bounds of the matching."""
    return MatchBounds(
        max_shift_arcsec=options.max_pointing_error_arcsec,
        max_rotation_deg=options.max_rotation_deg,
        max_scale_error=options.max_scale_error,
        allow_flip=options.allow_flip,
        tolerance_arcsec=options.tolerance_arcsec,
        min_stars=options.min_stars,
    )


def field_stars(ctx: ObservationContext, field: FieldImage) -> DetectedStars:
    """The stars of an image, without the speckles of bright ones (NoStarError if none)."""
    image, _ = ctx.image(field.path)
    scale = ctx.profile.plate_scale_arcsec / field.factor
    stars = detect_stars(
        image,
        fwhm_px=max(field.fwhm_arcsec / scale, 2.0),
        min_snr=ctx.ws.settings.astrometry.min_snr,
        saturation=ctx.profile.saturation_adu,
    )
    return without_halo_peaks(stars, radius_px=_HALO_ARCSEC / scale)


def field_image(ctx: ObservationContext) -> FieldImage:
    """The sharpest image of the whole field that the observation has."""
    paths, profile = ctx.ws.paths, ctx.profile
    if ctx.product("bright_star").get("lock_position"):
        path = paths.stack(ctx.night, ctx.id, 100)
        core = np.degrees(1e-9 * ctx.frames.wavelength_nm / profile.primary_diameter_m) * 3600
        return FieldImage(path=path, factor=profile.drizzle_scale, fwhm_arcsec=1.5 * float(core))
    if ctx.product("faint_star").get("lock_position"):
        path = paths.faint_star_sum(ctx.night, ctx.id, "summed")
        return FieldImage(path=path, factor=profile.drizzle_scale, fwhm_arcsec=_SEEING_ARCSEC)
    return FieldImage(path=paths.stack_sum(ctx.night, ctx.id), factor=1, fwhm_arcsec=_SEEING_ARCSEC)


def offset_on_sky(ctx: ObservationContext, path: Path, dx: float, dy: float) -> tuple[float, float]:
    """Separation (arcsec) and position angle (deg) of an offset from a stack's lock star (px).

    By the WCS of the stack; where it has none, by the instrument's profile.
    """
    header = read_product_header(path)
    if header is None or header.get("WCSSRC", "none") == "none" or "LOCK_X" not in header:
        separation = float(np.hypot(dx, dy)) * ctx.profile.drizzled_scale_arcsec
        return separation, ctx.profile.position_angle_deg(dx, dy)
    return sky_offset(WCS(header), header["LOCK_X"], header["LOCK_Y"], dx, dy)


def _solve(
    ctx: ObservationContext, field: FieldImage, known: Distortion, pointing: Pointing
) -> tuple[DetectedStars | None, SkyCatalogue | None, FieldSolution | None, str]:
    """The stars, the catalogue, the solution as far as each was had, and why no further."""
    stars: DetectedStars | None = None
    catalogue: SkyCatalogue | None = None
    try:
        # Stars that cannot be identified need not be found.
        catalogue = reference_stars_near(ctx, pointing)
        stars = field_stars(ctx, field)
        bounds = match_bounds(ctx.ws.settings.astrometry)
        return stars, catalogue, solve_field(stars, known, catalogue, pointing, bounds), ""
    except (NoStarError, NoMatchError, SkyCatalogueError) as reason:
        return stars, catalogue, None, str(reason)


def _summary(
    solution: FieldSolution | None,
    pointing: Pointing,
    distortion: Distortion,
    epoch: Path | None,
    catalogue: SkyCatalogue | None,
    reason: str,
) -> dict[str, Any]:
    geometry = epoch.name if epoch else distortion.source
    base = {
        "wcs_source": "pointing" if solution is None else "stars",
        "reason_unsolved": reason,
        "distortion": geometry,
        "catalogue": catalogue.source if catalogue else "",
        "ra_deg": pointing.ra_deg,
        "dec_deg": pointing.dec_deg,
        "stars": 0,
        "rms_mas": None,
    }
    if solution is None:
        return base
    return base | {
        "ra_deg": solution.ra_deg,
        "dec_deg": solution.dec_deg,
        "stars": solution.stars,
        "rms_mas": solution.rms_mas,
        "pointing_error_arcsec": solution.pointing_error_arcsec,
        "rotation_deg": solution.rotation_deg,
        "scale": solution.scale,
        "accidents": solution.accidents,
    }


def _figures(summary: dict[str, Any]) -> dict[str, Any]:
    names = ("wcs_source", "reason_unsolved", "stars", "rms_mas", "pointing_error_arcsec")
    return {n: summary[n] for n in names if summary.get(n) not in (None, "")}


def _images_with_wcs(ctx: ObservationContext) -> list[Path]:
    """Stacks that show the whole field."""
    root = ctx.ws.paths.root
    found = []
    for pipeline in ("bright_star", "faint_star"):
        for path in record_paths(root, _made(ctx, pipeline).get("products")):
            if path.suffix == ".fits":
                header = read_product_header(path)
                if header is not None and "WCSSRC" in header:
                    found.append(path)
    return found


def _made(ctx: ObservationContext, pipeline: str) -> dict[str, Any]:
    """What the catalogue has of a stack that is up to date; one no longer made is left alone."""
    record = ctx.product(pipeline)
    return record if (record.get("status") or {}).get("done") is True else {}


def _carries(path: Path, identity: str) -> bool:
    header = read_product_header(path)
    return header is not None and header.get("ASTPRINT") == identity


def _write_wcs(
    ctx: ObservationContext,
    path: Path,
    geometry: "_Geometry",
    summary: dict[str, Any],
    identity: str,
) -> None:
    header = read_product_header(path)
    assert header is not None
    factor = round(ctx.profile.plate_scale_arcsec / header["PIXSCALE"])
    wcs = geometry.wcs(factor).to_header(relax=True)
    cards: list[Card] = [(c.keyword, c.value, c.comment) for c in wcs.cards]
    solved = summary["wcs_source"] == "stars"
    cards += [
        ("WCSSRC", summary["wcs_source"], "field stars" if solved else "of the telescope"),
        ("ASTSTARS", summary["stars"], "stars of the solution"),
        ("ASTRMS", summary["rms_mas"], "their rms on an axis (mas)"),
        ("ASTGEOM", summary["distortion"], "geometry of the instrument"),
        ("ASTCAT", Path(summary["catalogue"]).name, "reference stars"),
        ("ASTPRINT", identity, "data version of the solution"),
    ]
    if summary["reason_unsolved"]:
        cards.append(("ASTWHY", summary["reason_unsolved"], ""))
    replace_cards(path, cards, remove=lambda k: _WCS_KEYWORD.fullmatch(k) is not None)


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    """Where the raw frame of an observation looks."""

    pointing: Pointing
    distortion: Distortion
    solution: FieldSolution | None
    factor: int

    def wcs(self, factor: int) -> WCS:
        """The WCS of an image with `factor` pixels a raw pixel."""
        if self.solution is None:
            return predicted_wcs(self.distortion.drizzled(factor), self.pointing)
        solved = self.solution.distortion.drizzled(factor / self.factor)
        return sip_wcs(solved, self.solution.ra_deg, self.solution.dec_deg)


def _publish_sizes(ctx: ObservationContext) -> None:
    """Their headers have grown: the stacks are none the less those that were made."""
    root = ctx.ws.paths.root
    for pipeline in ("bright_star", "faint_star"):
        record = _made(ctx, pipeline)
        if record.get("products"):
            paths = record_paths(root, record["products"])
            sizes = product_record(root, record["fingerprint"], paths)["products"]
            if sizes != record["products"]:
                ctx.ws.catalogue.publish(ctx.id, pipeline, {"products": sizes})


def _stars_text(
    stars: DetectedStars | None,
    catalogue: SkyCatalogue | None,
    solution: FieldSolution | None,
    summary: dict[str, Any],
) -> str:
    """Every detected star; those that were identified with their place on the sky."""
    number = 0 if stars is None else len(stars)
    blank = np.full(number, np.nan)
    columns = {n: blank.copy() for n in ("ra_deg", "dec_deg", "east_mas", "north_mas")}
    used = np.zeros(number, dtype=bool)
    if solution is not None and catalogue is not None:
        at = solution.detected
        columns["ra_deg"][at] = catalogue.ra_deg[solution.catalogue]
        columns["dec_deg"][at] = catalogue.dec_deg[solution.catalogue]
        columns["east_mas"][at], columns["north_mas"][at] = solution.residual_mas.T
        used[at] = solution.used
    measured = {
        name: np.empty(0) if stars is None else getattr(stars, name)
        for name in ("x", "y", "error_px", "flux", "snr")
    }
    table = Table({**measured, **columns, "used": used})
    for name, digits in {"ra_deg": 8, "dec_deg": 8, "flux": 1}.items():
        table[name].info.format = f".{digits}f"
    for name in ("x", "y", "error_px", "snr", "east_mas", "north_mas"):
        table[name].info.format = ".3f"
    table.meta.update(summary)
    return ecsv_text(table)


def _raw_shape(ctx: ObservationContext) -> tuple[int, int]:
    header = read_product_header(ctx.ws.paths.stack_sum(ctx.night, ctx.id))
    if header is None:
        raise RawDataError(
            f"the sum of the frames of {ctx.id} is not there: materialise bright_star_stack first"
        )
    return int(header["NAXIS2"]), int(header["NAXIS1"])


def _identity_of_file(path: str | Path | None) -> list[Any]:
    """Name, size and time of change: a large table is not hashed for each observation."""
    if not path:
        return []
    try:
        status = place_of(Path(path)).stat()
    except OSError:
        return [in_original_words(str(path))]
    return [in_original_words(str(path)), status.st_size, status.st_mtime_ns]


@lru_cache(maxsize=2)
def _cached_catalogue(path: Path, size: int, modified_ns: int) -> SkyCatalogue:
    """Observations of a night look at one table."""
    return read_sky_catalogue(path)
