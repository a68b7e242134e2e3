"""What is to be made again: wishes of operators and retries, as stages of an observation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import (
    Catalogue,
    ObservationQuery,
    is_made,
    night_of,
    wanted_again,
)
from roboao_assets.storage.catalogue.documents import status_path
from roboao_assets.storage.catalogue.values import at_path

# Who asked, where a document of the catalogue was changed by hand: it says no more.
BY_FLAG = "operator (catalogue)"
# Who asked, where nobody did: a retry, or a product that is not there any more.
BY_ARCHIVE = "archive"


# Names and not the stages themselves: a sensor that looks at wishes has no need of the physics.
STAGE_OF_PRODUCT: Mapping[str, str] = {
    "bright_star": "bright_star_stack",
    "bright_star.strehl": "strehl_ratio",
    "bright_star.preview": "bright_star_preview",
    "bright_star.pca": "pca_residual",
    "bright_star.pca.preview": "pca_residual",
    "bright_star.astrometry": "astrometric_solution",
    "faint_star": "faint_star_stack",
    "faint_star.strehl": "faint_star_strehl_ratio",
    "faint_star.preview": "faint_star_preview",
    "faint_star.pca": "faint_star_pca_residual",
    "faint_star.pca.preview": "faint_star_pca_residual",
    "extended_object": "extended_object",
    "extended_object.preview": "extended_object",
}
"""Products that an operator can ask for (`force_redo`) and the stages that make them."""

NIGHT_STAGES = ("raw_night", "master_darks", "master_flats", "bad_pixel_mask", "seeing")
"""What is made of a night before its observations are reduced."""

RECORD_OF_STAGE: Mapping[str, str] = {
    "contrast_curve": "bright_star.pca.contrast",
    "faint_star_contrast_curve": "faint_star.pca.contrast",
    **{
        stage: product
        for product, stage in STAGE_OF_PRODUCT.items()
        if product not in ("bright_star.pca.preview", "faint_star.pca.preview")
        and product != "extended_object.preview"
    },
}
"""Where the catalogue keeps what a stage made of an observation, below `pipelined`."""

PRODUCT_OF_STAGE: Mapping[str, str] = {
    **RECORD_OF_STAGE,
    "contrast_curve": "bright_star.pca",
    "faint_star_contrast_curve": "faint_star.pca",
}
"""The product whose status tells how a stage ended."""

# Of stages that are no product below `pipelined`; a candidate fails with the stack it is of.
_FAILURES_AT = {
    "psf_candidate": "pipelined.bright_star.status.retries",
    "distribution_package": "distributed.retries",
}

# The stages of the same observation whose products a stage reads.
READS: Mapping[str, tuple[str, ...]] = {
    "astrometric_solution": ("bright_star_stack", "faint_star_stack"),
    "strehl_ratio": ("bright_star_stack",),
    "bright_star_preview": ("bright_star_stack", "strehl_ratio"),
    "pca_residual": ("bright_star_stack", "astrometric_solution"),
    "contrast_curve": ("bright_star_stack", "pca_residual"),
    "faint_star_strehl_ratio": ("faint_star_stack",),
    "faint_star_preview": ("faint_star_stack", "faint_star_strehl_ratio"),
    "faint_star_pca_residual": ("faint_star_stack", "astrometric_solution"),
    "faint_star_contrast_curve": ("faint_star_stack", "faint_star_pca_residual"),
    "psf_candidate": ("bright_star_stack", "strehl_ratio", "pca_residual"),
    "distribution_package": tuple(RECORD_OF_STAGE),
}


def failures_of(document: Mapping[str, Any], stage: str) -> int:
    """Return how often in a row a stage has failed, by its observation's document."""
    path = _FAILURES_AT.get(stage) or f"pipelined.{status_path(PRODUCT_OF_STAGE[stage])}.retries"
    return int(at_path(document, path) or 0)


def with_dependents(stages: Iterable[str]) -> set[str]:
    """Return `stages` and all that is made from their products."""
    found = set(stages)
    while True:
        more = {stage for stage, reads in READS.items() if found.intersection(reads)} - found
        if not more:
            return found
        found |= more


def take_wishes(catalogue: Catalogue, document: Mapping[str, Any]) -> list[str]:
    """Turn an observation's `force_redo` flags into requests; return their stages.

    The request is written before the flag is cleared: whatever dies in between, the wish is
    not lost. Of two that notice one flag at the same time, both write the same request.
    """
    observation, night = document["_id"], night_of(document) or ""
    taken = []
    for product in wanted_again(document):
        stage = STAGE_OF_PRODUCT.get(product)
        if stage is not None:
            catalogue.requests.ask(
                observation, night, [stage], by=BY_FLAG, why=f"force_redo of {product}"
            )
            taken.append(stage)
        # Of an extended object there is no Strehl ratio: such a wish has nothing to be made.
        catalogue.take_wish(observation, product)
    return taken


def take_package_wish(catalogue: Catalogue, document: Mapping[str, Any]) -> bool:
    """Turn `distributed.status: false`, set by an operator, into a request for the package.

    What the archive itself withdraws has a reason beside it. As with other wishes the request is
    written before the wish is cleared, by giving it one.
    """
    record = document.get("distributed")
    asked = isinstance(record, Mapping) and record.get("status") is False
    if not asked or not record.get("fingerprint") or record.get("reason"):
        return False
    observation, why = document["_id"], "distributed.status was set to false"
    catalogue.requests.ask(
        observation, night_of(document) or "", ["distribution_package"], by=BY_FLAG, why=why
    )
    catalogue.set_distributed(observation, False, reason=f"{why}: the package will be made again")
    return True


# Of each star what the PCA starts from, by the pipeline that made its stack.
_PCA_STAGES = {"bright_star": "pca_residual", "faint_star": "faint_star_pca_residual"}


@dataclass(frozen=True, kw_only=True)
class RedoPlan:
    """What will be made again for a wish.

    Attributes
    ----------
    observations : tuple of str
        Empty: the masters and the seeing of a night.
    stages : tuple of str
        What is asked for.
    dependents : tuple of str
        What is made from it, and therefore again.
    """

    observations: tuple[str, ...]
    stages: tuple[str, ...]
    dependents: tuple[str, ...]


def plan_redo(
    catalogue: Catalogue, subject: str, product: str, *, calibration: bool = False
) -> RedoPlan:
    """Return what `ask_for_redo` would ask for.

    Parameters
    ----------
    catalogue : Catalogue
    subject : str
        An observation's id, or a night.
    product : str
        A key of `STAGE_OF_PRODUCT`.
    calibration : bool
        Of a night: its masters and seeing, and by them its observations where they change.

    Raises
    ------
    CatalogueError
        If there is no such product, or the catalogue has no such observation or night.
    """
    if product not in STAGE_OF_PRODUCT:
        raise CatalogueError(f"there is no product {product!r}: {', '.join(STAGE_OF_PRODUCT)}")
    found = _observations(catalogue, subject)
    if calibration:
        if found == [subject]:
            raise CatalogueError(f"{subject} is an observation: masters are made of nights")
        return RedoPlan(observations=(), stages=NIGHT_STAGES, dependents=())
    stage = STAGE_OF_PRODUCT[product]
    more = with_dependents([stage]) - {stage}
    return RedoPlan(observations=tuple(found), stages=(stage,), dependents=tuple(sorted(more)))


def _observations(catalogue: Catalogue, subject: str) -> list[str]:
    """Ids of a night's observations, or the observation itself."""
    if catalogue.observation(subject) is not None:
        return [subject]
    if catalogue.night(subject) is None:
        raise CatalogueError(
            f"the catalogue has neither an observation nor a night {subject}; `roboao status` "
            f"lists the nights"
        )
    night = ObservationQuery(nights=(subject,), summary_only=True)
    return [document["_id"] for document in catalogue.find_observations(night)]


def ask_for_redo(
    catalogue: Catalogue,
    subject: str,
    product: str,
    *,
    calibration: bool,
    by: str,
    why: str,
) -> RedoPlan:
    """Ask for a product of an observation, or of every observation of a night, to be made again.

    Parameters
    ----------
    catalogue : Catalogue
    subject, product, calibration
        See `plan_redo`.
    by, why : str
        For the log, and for who looks at the requests.

    Returns
    -------
    RedoPlan

    Raises
    ------
    CatalogueError
        See `plan_redo`.
    """
    plan = plan_redo(catalogue, subject, product, calibration=calibration)
    for observation in plan.observations:
        night = night_of(catalogue.observation(observation) or {}) or ""
        catalogue.requests.ask(observation, night, plan.stages, by=by, why=why)
    if calibration:
        catalogue.requests.ask(subject, subject, plan.stages, by=by, why=why)
    wanted = "the calibration" if calibration else product
    of_night = plan.observations not in ((), (subject,))
    catalogue.actions.record(
        subject,
        f"asked for {wanted} again",
        by=by,
        why=why,
        observations=len(plan.observations) if of_night else "",
    )
    return plan


def ask_for_pca_of_night(catalogue: Catalogue, night: str, *, by: str, why: str) -> int:
    """Ask for the PCA of each star of a night that has a stack to be made again.

    Returns
    -------
    int
        Of how many observations it was asked for.

    Raises
    ------
    CatalogueError
        The catalogue has no such night, or the night no stack.
    """
    if catalogue.night(night) is None:
        raise CatalogueError(f"the catalogue has no night {night}; `roboao status` lists them")
    query = ObservationQuery(nights=(night,), summary_only=True)
    wanted = {}
    for document in catalogue.find_observations(query):
        stages = [stage for kind, stage in _PCA_STAGES.items() if is_made(document, kind)]
        if stages:
            wanted[document["_id"]] = stages
    if not wanted:
        raise CatalogueError(f"the night {night} has no stack of a star yet, so there is no PCA")
    for observation, stages in wanted.items():
        catalogue.requests.ask(observation, night, stages, by=by, why=why)
    catalogue.actions.record(
        night, "asked for the PCA again", by=by, why=why, observations=len(wanted)
    )
    return len(wanted)
