"""The star whose stack is the PSF of a deconvolution: of the same night, else of the library."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.context import ObservationContext
from roboao_assets.pipelines.decisions import look
from roboao_assets.science.errors import ScienceError
from roboao_assets.science.extended_object import find_outline
from roboao_assets.science.stack_flags import StackFlag
from roboao_assets.science.star_psf import cut_star_psf
from roboao_assets.storage.catalogue import ObservationQuery, night_of, product
from roboao_assets.storage.decisions import Verdict
from roboao_assets.storage.fits_products import ProductError
from roboao_assets.storage.mirror import look_into
from roboao_assets.storage.psf_library import PsfLibrary

# Of stacks with these the star is no PSF.
_SPOILT = {StackFlag.NO_CORE, StackFlag.SATURATED, StackFlag.IDENTICAL_FRAMES}


@dataclass(frozen=True, kw_only=True)
class PsfStar:
    """A star to deconvolve with.

    Attributes
    ----------
    observation : str
    origin : str
        ``night`` or ``library``.
    fingerprint : str
        Of its stack.
    psf : ndarray of float32, shape (2 k + 1, 2 k + 1)
        Unit sum, in drizzled pixels.
    diameter_px : float
        Width of the star, as `find_outline` tells it.
    """

    observation: str
    origin: str
    fingerprint: str
    psf: NDArray[np.float32]
    diameter_px: float


def choose_psf_star(ctx: ObservationContext) -> PsfStar | None:
    """Return the PSF nearest in time that there is, or None.

    A star of the same night saw the same turbulence; those of the library are single stars by an
    astronomer's word, seen in other nights. Both of the same filter and telescope.
    """
    for origin, document in _candidates(ctx):
        star = _cut(ctx, origin, document)
        if star is not None:
            return star
    return None


def _candidates(ctx: ObservationContext) -> Iterator[tuple[str, dict[str, Any]]]:
    catalogue = ctx.ws.catalogue
    query = ObservationQuery(
        nights=(ctx.night,),
        filters=(ctx.exposure.name.filter_name,),
        pipelines_done=("bright_star",),
        classified_as=("high_flux",),
        flags=("OK",),
        summary_only=True,
    )
    found = [d for d in catalogue.find_observations(query) if _is_single_star(ctx, d)]
    yield from (("night", document) for document in _nearest_first(ctx, found))
    library = PsfLibrary(ctx.ws.paths.psf_library)
    names = [
        str(row["obs_name"])
        for row in library.show()
        if row["filter"] == ctx.exposure.name.filter_name
        and row["telescope"] == ctx.profile.telescope
    ]
    known = [catalogue.observation(name) for name in names if name != ctx.id]
    stars = [document for document in known if document]
    yield from (("library", document) for document in _nearest_first(ctx, stars))


def _is_single_star(ctx: ObservationContext, document: dict[str, Any]) -> bool:
    stack = product(document, "bright_star")
    return (
        document["_id"] != ctx.id
        and document.get("name") != ctx.exposure.name.object_name
        and document.get("telescope") in (None, ctx.profile.name)
        # Neither is what is resolved by its program.
        and look(ctx.ws, "extended_object", document, ()).judgement.verdict is not Verdict.TRUE
        and not _SPOILT & set(stack.get("flags") or ())
        and not product(document, "bright_star.pca").get("candidates")
    )


def _nearest_first(
    ctx: ObservationContext, documents: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    def away(document: dict[str, Any]) -> float:
        taken = document.get("date_utc")
        if not isinstance(taken, datetime):
            return float("inf")
        here = ctx.exposure.name.utc
        return abs((taken.replace(tzinfo=here.tzinfo) - here).total_seconds())

    return sorted(documents, key=lambda d: (away(d), d["_id"]))


def _cut(ctx: ObservationContext, origin: str, document: dict[str, Any]) -> PsfStar | None:
    stack = product(document, "bright_star")
    night, position = night_of(document), stack.get("lock_position")
    if not night or not position:
        return None
    options = ctx.ws.settings.extended_object
    # Frames as sharp as those of the object, where the star has such a stack.
    paths = [ctx.ws.paths.stack(night, document["_id"], p) for p in (options.percent, 100)]
    look_into(paths[0].parent)
    path: Path = next((p for p in paths if p.exists()), paths[-1])
    half_px = round(options.psf_half_arcsec / ctx.profile.drizzled_scale_arcsec)
    try:
        image, _ = ctx.image(path)
        psf = cut_star_psf(image, *position, half_px)
        outline = find_outline(image, *position)
    except (ScienceError, ProductError):
        # Near the edge, or no longer on disk: the next one serves as well.
        return None
    return PsfStar(
        observation=document["_id"],
        origin=origin,
        fingerprint=str(stack.get("fingerprint", "")),
        psf=psf,
        diameter_px=outline.diameter_px,
    )
