"""What is to be made again: wishes of operators and retries, as stages of an observation."""

from collections.abc import Iterable, Mapping
from typing import Any

from roboao_assets.storage.catalogue import Catalogue, night_of, wanted_again

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
}


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
