"""Whether a pipeline runs on an observation: by its chain in the settings, or on request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import RawDataError
from roboao_assets.science.reference_choice import bare_name
from roboao_assets.storage.catalogue import product
from roboao_assets.storage.decision_fields import LIBRARY_REFERENCES
from roboao_assets.storage.decisions import (
    Condition,
    Judgement,
    Verdict,
    judge,
    reason_words,
    rules_of,
)
from roboao_assets.storage.psf_library import PsfLibrary
from roboao_assets.storage.raw_names import parse_exposure_name

# Chain in the settings -> the products of the catalogue that an operator may request, and the
# stages that make each.
CHAINS: dict[str, dict[str, tuple[str, ...]]] = {
    "bright_star": {"bright_star": ("bright_star_stack",)},
    "faint_star": {"faint_star": ("faint_star_stack",)},
    "extended_object": {"extended_object": ("extended_object",)},
    "astrometry": {"bright_star.astrometry": ("astrometric_solution",)},
    "pca": {
        "bright_star.pca": ("pca_residual", "contrast_curve"),
        "faint_star.pca": ("faint_star_pca_residual", "faint_star_contrast_curve"),
    },
    "psf_library": {},
}
# Set in a product that was made on request: it is kept up to date until an operator unsets it.
BY_REQUEST = "by_request"

Decided = Literal["runs", "by request", "does not run", "not yet known"]


class NotYetKnownError(NothingToMakeError):
    """A chain cannot be decided: what it asks for is not there (yet)."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a pipeline runs on an observation, and why.

    Attributes
    ----------
    pipeline : str
        A key of `CHAINS`.
    decided : {'runs', 'by request', 'does not run', 'not yet known'}
    reason : str
        A sentence.
    judgement : Judgement
        What the chain says, also where a request goes before it.
    """

    pipeline: str
    decided: Decided
    reason: str
    judgement: Judgement

    @property
    def runs(self) -> bool:
        """True if the pipeline runs."""
        return self.decided in ("runs", "by request")


def decide(ctx: ObservationContext, pipeline: str, requested: str = "") -> Decision:
    """Return why a pipeline runs on an observation, as its document is now.

    Parameters
    ----------
    ctx : ObservationContext
    pipeline : str
        A key of `CHAINS`.
    requested : str
        The product that an operator may have requested; empty: none can be.

    Raises
    ------
    NothingToMakeError
        It does not run; the message says which rules keep it away. `NotYetKnownError` if they
        cannot be decided.
    """
    document = ctx.ws.catalogue.observation(ctx.id) or {"_id": ctx.id}
    found = look(ctx.ws, pipeline, document, (requested,) if requested else ())
    if found.runs:
        return found
    error = NotYetKnownError if found.decided == "not yet known" else NothingToMakeError
    raise error(found.reason)


def look(
    ws: Workspace,
    pipeline: str,
    document: Mapping[str, Any],
    products: Sequence[str] | None = None,
) -> Decision:
    """Say whether a pipeline would run on the observation of a document.

    Parameters
    ----------
    ws : Workspace
    pipeline : str
        A key of `CHAINS`.
    document : mapping
    products : sequence of str, optional
        Products that may have been requested; by default all of the pipeline.
    """
    chain: Condition = getattr(ws.settings.decisions, pipeline)
    judgement = judge(chain, document, _facts(ws, chain, document))
    words = f"the chain decisions.{pipeline}: {reason_words(judgement)}"
    asked = tuple(CHAINS[pipeline]) if products is None else products
    requests: list[str] = []
    if judgement.verdict is not Verdict.TRUE:
        requests = [text for name in asked if (text := _request(ws, pipeline, document, name))]
    if requests:
        return Decision(
            pipeline=pipeline,
            decided="by request",
            reason=f"{'; '.join(requests)}, whatever {words}",
            judgement=judgement,
        )
    decided: dict[Verdict, Decided] = {
        Verdict.TRUE: "runs",
        Verdict.FALSE: "does not run",
        Verdict.UNKNOWN: "not yet known",
    }
    said = decided[judgement.verdict]
    reason = f"{pipeline} {said} by {words}" if said != "not yet known" else f"{said}: {words}"
    return Decision(pipeline=pipeline, decided=said, reason=reason, judgement=judgement)


def _request(ws: Workspace, pipeline: str, document: Mapping[str, Any], name: str) -> str:
    record = product(document, name)
    status = record.get("status")
    if isinstance(status, Mapping) and status.get("force_redo") is True:
        return f"an operator has set pipelined.{name}.status.force_redo"
    # A flag that was noticed stands among the requests until the product was tried.
    noticed = ws.catalogue.requests.of(str(document["_id"]))
    for stage in CHAINS[pipeline][name] if noticed else ():
        wish = noticed.stages.get(stage)
        if wish is not None and wish.force:
            return f"{wish.by} has asked for {stage} ({wish.why})"
    if record.get(BY_REQUEST) is True:
        return f"it was made on an operator's request (pipelined.{name}.{BY_REQUEST})"
    return ""


def _facts(ws: Workspace, chain: Condition, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the chain asks for beside the document."""
    if all(rule.field != LIBRARY_REFERENCES for rule in rules_of(chain)):
        return {}
    own = bare_name(str(document.get("name")))
    # Their ids tell the objects: of a large library no pixel is read.
    stars = PsfLibrary(ws.paths.psf_library).checksums()
    return {LIBRARY_REFERENCES: sum(_object_of(star) != own for star in stars)}


def _object_of(observation: str) -> str:
    try:
        return bare_name(parse_exposure_name(observation).object_name)
    except RawDataError:
        return ""
