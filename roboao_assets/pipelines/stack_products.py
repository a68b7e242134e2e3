"""What the stacks of an observation share: header cards, writing, and being published."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from roboao_assets.pipelines.context import ObservationContext
from roboao_assets.pipelines.freshness import CODE_VERSIONS, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import provenance_cards
from roboao_assets.storage.mirror import in_original_words

# Writing is checksums, the byte order of FITS and waiting for the disk.
_WRITERS = 2


def observation_cards(ctx: ObservationContext) -> list[Card]:
    """What was observed, with what."""
    name = ctx.exposure.name
    return [
        ("OBJECT", name.object_name, "target"),
        ("FILTER", name.filter_name, "filter"),
        ("DATE-OBS", name.utc.strftime("%Y-%m-%dT%H:%M:%S.%f"), "UTC of the start"),
        ("TELESCOP", ctx.profile.telescope, "telescope"),
        ("INSTRUME", ctx.profile.camera, "camera"),
        ("BUNIT", "adu", "per raw pixel and frame"),
    ]


def frame_provenance_cards(
    ctx: ObservationContext, stage: str, settings_fingerprint: str, identity: str
) -> list[Card]:
    """What a product of the raw frames was made from."""
    return [
        *provenance_cards(
            stage=stage,
            raw=ctx.frames.records,
            calibration=ctx.frames.masters,
            settings_fingerprint=settings_fingerprint,
            fingerprint=identity,
        ),
        ("CODEVER", CODE_VERSIONS[stage], "version of the stage's algorithm"),
    ]


def wcs_cards(
    ctx: ObservationContext, shape: tuple[int, ...], plate_scale_arcsec: float
) -> list[Card]:
    """World coordinates of an image of the whole field, as well as the pointing is known."""
    from roboao_assets.science.astrometry import pointing_wcs

    scale: Card = ("PIXSCALE", plate_scale_arcsec, "arcsec/px")
    facts = ctx.frames.facts
    if facts.ra_deg is None or facts.dec_deg is None:
        return [scale, ("WCSSRC", "none", "the raw header has no pointing")]
    wcs = pointing_wcs(
        ra_deg=facts.ra_deg,
        dec_deg=facts.dec_deg,
        equinox=facts.equinox or 2000.0,
        shape=(shape[0], shape[1]),
        plate_scale_arcsec=plate_scale_arcsec,
        east_is_left=ctx.profile.east_is_left,
        y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
    )
    cards = [(c.keyword, c.value, c.comment) for c in wcs.to_header().cards]
    return [scale, ("WCSSRC", "pointing", "place holder: not solved on stars"), *cards]


def write_together(writers: Sequence[tuple[Path, Callable[[Path], None]]]) -> list[Path]:
    """Write files at the same time; return their paths.

    Parameters
    ----------
    writers : sequence of (path, callable)
        The callable writes to the path it is given.
    """
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as pool:
        for done in [pool.submit(write, path) for path, write in writers]:
            done.result()
    return [path for path, _ in writers]


def publish_stack(
    ctx: ObservationContext,
    stage: str,
    pipeline: str,
    summary: dict[str, Any],
    identity: str,
    products: Sequence[Path],
) -> StageOutcome:
    """Enter a stack that stands on disk in the catalogue; return the end of its stage."""
    paths = ctx.ws.paths
    ctx.ws.catalogue.publish(
        ctx.id,
        pipeline,
        {
            "location": in_original_words(str(paths.pipeline(ctx.night, ctx.id, pipeline))),
            **summary,
            **product_record(paths.root, identity, products),
        },
    )
    figures = {k: v for k, v in summary.items() if isinstance(v, str | int | float)}
    return StageOutcome(stage=stage, status="done", fingerprint=identity, metadata=figures)
