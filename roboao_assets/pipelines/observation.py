"""An observation from its raw files to its products: what one task of the cluster does."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from roboao_assets.pipelines import (
    astrometry,
    bright_star,
    distribution,
    extended_object,
    faint_star,
    high_contrast,
    psf_candidates,
    star_measures,
)
from roboao_assets.pipelines.context import CLAIM, NothingToMakeError, ObservationContext
from roboao_assets.pipelines.decisions import BY_REQUEST, Decision, decide, look
from roboao_assets.pipelines.frames import FrameProgress, ObservationFrames
from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.redo import BY_ARCHIVE, failures_of, take_wishes, with_dependents
from roboao_assets.pipelines.retrying import is_transient, next_attempt
from roboao_assets.pipelines.stacks import BRIGHT_STAR, FAINT_STAR, StackKind
from roboao_assets.pipelines.vanished import keep_products, vanished_files
from roboao_assets.pipelines.workspace import Workspace, open_workspace, run_stage
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.files import remove_abandoned
from roboao_assets.storage.mirror import in_original_words
from roboao_assets.storage.raw_night import RawExposure, read_night
from roboao_assets.storage.sent_settings import received_settings


class Stage(NamedTuple):
    """What makes a product, and what notes in the catalogue why there is none.

    Attributes
    ----------
    make : callable
    record_skip : callable
        Takes the context and the reason.
    record_failure : callable
        Takes the context, the reason, and with which inputs it can only fail again ("": any).
    product : str
        The product below `pipelined`; empty if it is kept elsewhere.
    """

    make: Callable[[ObservationContext], StageOutcome]
    record_skip: Callable[[ObservationContext, str], object]
    record_failure: Callable[[ObservationContext, str, str], object]
    product: str = ""


def _of_product(make: Callable[[ObservationContext], StageOutcome], product: str) -> Stage:
    """A stage whose skips and failures stand at a product of the observation."""
    return Stage(
        make,
        lambda ctx, reason: ctx.ws.catalogue.record_skip(ctx.id, product, reason),
        lambda ctx, reason, failed_with: ctx.ws.catalogue.record_failure(
            ctx.id, product, reason, failed_with=failed_with
        ),
        product,
    )


def _measuring(kind: StackKind) -> dict[str, Stage]:
    """Stages that measure and draw a stack."""
    stages = {
        kind.strehl: (star_measures.make_strehl, "strehl"),
        kind.preview: (star_measures.make_preview, "preview"),
        kind.residual: (high_contrast.make_residual, "pca"),
        kind.contrast: (high_contrast.make_contrast_curve, "pca"),
    }
    return {
        name: _of_product(partial(make, kind=kind), f"{kind.pipeline}.{part}")
        for name, (make, part) in stages.items()
    }


# In the order of the flow. A PSF candidate comes after the measurements: what the PCA finds
# beside the star is part of its quality. The package holds what all others have made.
_STAGES: dict[str, Stage] = {
    BRIGHT_STAR.stack: _of_product(bright_star.make_stack, "bright_star"),
    FAINT_STAR.stack: _of_product(faint_star.make_stack, "faint_star"),
    extended_object.STAGE: _of_product(
        extended_object.make_extended_object, extended_object.PIPELINE
    ),
    astrometry.STAGE: _of_product(astrometry.solve_observation, astrometry.PRODUCT),
    **_measuring(BRIGHT_STAR),
    **_measuring(FAINT_STAR),
    psf_candidates.STAGE: Stage(
        psf_candidates.make_candidate,
        psf_candidates.record_no_candidate,
        lambda ctx, reason, _: psf_candidates.record_failed_candidate(ctx, reason),
    ),
    distribution.STAGE: Stage(
        distribution.make_package,
        distribution.record_no_package,
        lambda ctx, reason, _: distribution.record_failed_package(ctx, reason),
    ),
}
OBSERVATION_STAGES = tuple(_STAGES)
# Stages that a chain of the settings decides on; what measures a stack needs the stack. That of
# the PSF candidates is asked by their stage, which also commands call.
_CHAINS = {
    BRIGHT_STAR.stack: "bright_star",
    FAINT_STAR.stack: "faint_star",
    extended_object.STAGE: "extended_object",
    astrometry.STAGE: "astrometry",
    **{
        stage: "pca"
        for kind in (BRIGHT_STAR, FAINT_STAR)
        for stage in (kind.residual, kind.contrast)
    },
}
# Stages that work on the raw frames; after them the memory is given back.
_FRAME_STAGES = (BRIGHT_STAR.stack, FAINT_STAR.stack, extended_object.STAGE)

# What a stage cannot do without. The previews only gain by a Strehl ratio.
_NEEDS = {
    need: needs
    for kind in (BRIGHT_STAR, FAINT_STAR)
    for need, needs in {
        kind.strehl: (kind.stack,),
        kind.preview: (kind.stack,),
        kind.residual: (kind.stack,),
        kind.contrast: (kind.stack, kind.residual),
    }.items()
} | {
    astrometry.STAGE: (BRIGHT_STAR.stack,),
    psf_candidates.STAGE: (BRIGHT_STAR.stack, BRIGHT_STAR.strehl),
}


def reduce_observation(
    settings_json: str,
    night: str,
    observation: str,
    stages: tuple[str, ...] = OBSERVATION_STAGES,
    force: bool = False,
    on_progress: FrameProgress | None = None,
    on_stage: Callable[[str], None] | None = None,
    owner: str = "",
    surroundings: AbstractContextManager[object] | None = None,
) -> list[StageOutcome]:
    """Make the products `stages` of one observation.

    Runs anywhere the raw roots, the archive and the catalogue can be reached; takes
    and returns values that can be pickled. A failed stage is an outcome, never an
    exception, and those that need it fail with its reason.

    Parameters
    ----------
    settings_json : str
        A `Settings`, as JSON; what `storage.sent_settings` has left out is put in again.
    night, observation : str
        UT date and id.
    stages : tuple of str
        Any of `OBSERVATION_STAGES`.
    force : bool
        Make also what is up to date.
    on_progress : callable, optional
        Told the frames read so far, and the part (0..1) of the raw bytes that they were.
    on_stage : callable, optional
        Told the name of each stage as it begins.
    owner : str
        Who reduces it: no other owner may at the same time, the same may begin again
        (after its worker died, say). By default this process.
    surroundings : context manager, optional
        What the reduction works in; its failures are outcomes as well.

    Returns
    -------
    list of StageOutcome
        One a stage, in the order of the flow.
    """
    wanted = [stage for stage in OBSERVATION_STAGES if stage in stages]

    def work(outcomes: list[StageOutcome]) -> StageOutcome:
        settings = received_settings(settings_json)
        with surroundings or nullcontext(), open_workspace(settings) as ws:
            gone = vanished_files(ws, observation, exposures_of(ws, night))
            if gone:
                outcomes += keep_products(ws, observation, wanted, gone)
                return StageOutcome(stage=wanted[0], status="unchanged")
            ctx = open_context(ws, night, observation, force, on_progress)
            claimant = owner or f"{socket.gethostname()}:{os.getpid()}"

            claim = _Claim(ws.catalogue, observation, claimant, settings.stage_timeout_s)

            def begin(stage: str) -> None:
                if on_stage is not None:
                    on_stage(stage)
                claim.renew()

            if not claim.take():
                raise RawDataError(
                    f"{observation} is being reduced by another run; it is left to that one"
                )
            try:
                remove_abandoned(ws.paths.observation(night, observation))
                _run(ctx, wanted, outcomes, begin)
            finally:
                claim.release()
        return StageOutcome(stage=wanted[0], status="done")

    outcomes: list[StageOutcome] = []
    opening = run_stage(wanted[0], lambda: work(outcomes))
    if not opening.succeeded:
        done = {outcome.stage for outcome in outcomes}
        outcomes += [
            StageOutcome(
                stage=stage,
                status="failed",
                reason=opening.reason,
                retryable=opening.retryable,
                error_type=opening.error_type,
            )
            for stage in wanted
            if stage not in done
        ]
    return outcomes


@dataclass
class _Claim:
    """The right to reduce an observation, which lasts as long as one stage may."""

    catalogue: Catalogue
    observation: str
    claimant: str
    ttl_s: float
    _taken_s: float = 0.0

    def take(self) -> bool:
        """Claim it; False if somebody else has."""
        self._taken_s = time.monotonic()
        return self.catalogue.claim(self.observation, CLAIM, self.claimant, ttl_s=self.ttl_s)

    def renew(self) -> None:
        """Claim it again, unless that was only just done."""
        if time.monotonic() - self._taken_s > self.ttl_s / 10:
            self.take()

    def release(self) -> None:
        """Give it back."""
        self.catalogue.release(self.observation, CLAIM, self.claimant)


def exposures_of(ws: Workspace, night: str) -> tuple[RawExposure, ...]:
    """Return the observations of a night's raw folders; none if there is no such folder."""
    try:
        return read_night(ws.raw_roots, night).observations
    except RawDataError:
        return ()


def open_context(
    ws: Workspace,
    night: str,
    observation: str,
    force: bool = False,
    on_progress: FrameProgress | None = None,
) -> ObservationContext:
    """Return the context of an observation (RawDataError if the night has none of that name)."""
    raw = read_night(ws.raw_roots, night)
    exposure = find_observation(raw.observations, night, observation)
    profile = ws.settings.profile(exposure.name.camera, exposure.name.utc)
    return ObservationContext(
        ws=ws,
        night=night,
        exposure=exposure,
        profile=profile,
        frames=ObservationFrames(
            ws=ws, night=night, exposure=exposure, profile=profile, on_progress=on_progress
        ),
        force=force,
    )


def find_observation(
    exposures: tuple[RawExposure, ...], night: str, observation: str
) -> RawExposure:
    """Return the exposure called `observation`.

    Raises
    ------
    RawDataError
        If the night has none of that name.
    """
    for exposure in exposures:
        if exposure.id == observation:
            return exposure
    raise RawDataError(
        f"no raw file of {observation} is in the night {night}, which has {len(exposures)} "
        f"observations: look whether it was moved or renamed on the raw roots"
    )


def _run(
    ctx: ObservationContext,
    wanted: list[str],
    outcomes: list[StageOutcome],
    begin: Callable[[str], None],
) -> None:
    """Make the stages in turn; their ends are told to who asked for them, and to `outcomes`."""
    catalogue, force_all = ctx.ws.catalogue, ctx.force
    take_wishes(catalogue, catalogue.observation(ctx.id) or {})
    request = catalogue.requests.of(ctx.id)
    asked = request.stages if request else {}
    forced = with_dependents(stage for stage, one in asked.items() if one.force)
    ended: dict[str, StageOutcome] = {}
    for stage in wanted:
        begin(stage)
        ctx.force = force_all or stage in forced
        ended[stage] = outcome = _make(ctx, stage, ended)
        outcomes.append(outcome)
    # At the end: whoever goes on after a crash makes also what depends on a stage that was done.
    for stage, outcome in ended.items():
        if stage in asked:
            result = f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status
            catalogue.requests.finish(ctx.id, asked[stage], result)
        if is_transient(outcome):
            _ask_again(ctx, outcome, force=force_all or stage in forced)


def _make(
    ctx: ObservationContext, stage: str, outcomes: Mapping[str, StageOutcome]
) -> StageOutcome:
    if stage not in _FRAME_STAGES:
        ctx.frames.release()
    before = _failed_need(ctx, stage, outcomes)
    if before is not None:
        return StageOutcome(
            stage=stage,
            status="failed",
            reason=f"{before.stage} failed: {before.reason}".replace(
                f"{before.stage} failed: {before.stage} failed: ", f"{before.stage} failed: "
            ),
            retryable=before.retryable,
            error_type=before.error_type,
        )
    known = _known_failure(ctx, stage)
    if known is not None:
        return known
    outcome = run_stage(stage, lambda: _one(ctx, stage))
    if outcome.status == "failed":
        run_stage(stage, lambda: _record(ctx, stage, outcome))
    elif outcome.status == "unchanged":
        run_stage(stage, lambda: _forget_failure(ctx, stage))
    if outcome.status in ("done", "failed") and stage != distribution.STAGE:
        # Should the package not be made again after this: the old one is not handed out.
        run_stage(stage, lambda: _withdraw_package(ctx, stage))
    return outcome


def _forget_failure(ctx: ObservationContext, stage: str) -> StageOutcome:
    """A product that is as it should be has not failed, whatever happened in between."""
    product = _STAGES[stage].product
    if product and (ctx.product(product).get("status") or {}).get("retries"):
        ctx.ws.catalogue.publish(ctx.id, product, {})
    return StageOutcome(stage=stage, status="done")


def _known_failure(ctx: ObservationContext, stage: str) -> StageOutcome | None:
    """Return the end of a stage that can only fail as it did before: its input is as it was."""
    if ctx.force or stage not in _FRAME_STAGES:
        return None
    status = ctx.product(_STAGES[stage].product).get("status") or {}
    if not status.get("failed_with") or status["failed_with"] != _circumstances(ctx, stage):
        return None
    if not look(ctx.ws, _CHAINS[stage], _document(ctx)).runs:
        return None
    reason = str(status.get("reason") or "it failed before")
    return StageOutcome(stage=stage, status="failed", reason=reason, error_type="KnownFailure")


def _circumstances(ctx: ObservationContext, stage: str) -> str:
    """Identity of all that may make a failed stage succeed, from names, sizes, times and rights."""
    masters = ctx.ws.paths.bad_pixel_mask(ctx.night).parent.glob("*.fits")
    files = [(str(p), p.stat()) for p in (*ctx.exposure.files, *sorted(masters)) if p.exists()]
    return fingerprint(
        stage,
        [
            [in_original_words(name), status.st_size, status.st_mtime_ns, os.access(name, os.R_OK)]
            for name, status in files
        ],
        # How the files come to the workers makes no difference to what comes of them.
        ctx.ws.settings.model_dump_json(
            exclude={"redo_for_new_code", "worker_files", "worker_scratch"}
        ),
    )


def _ask_again(ctx: ObservationContext, outcome: StageOutcome, *, force: bool) -> None:
    """Ask for a stage that failed for a reason that may pass, later and not for ever."""
    document = ctx.ws.catalogue.observation(ctx.id) or {}
    failures = max(failures_of(document, outcome.stage), 1)
    most = ctx.ws.settings.most_retries
    if failures <= most:
        ctx.ws.catalogue.requests.ask(
            ctx.id,
            ctx.night,
            [outcome.stage],
            by=BY_ARCHIVE,
            why=f"attempt {failures + 1} of {most + 1}: {outcome.reason}",
            force=force,
            not_before=next_attempt(failures, datetime.now(UTC)),
        )


def _failed_need(
    ctx: ObservationContext, stage: str, outcomes: Mapping[str, StageOutcome]
) -> StageOutcome | None:
    """The failure that leaves a stage without what it needs, or its chain undecided."""
    failed = [outcome for outcome in outcomes.values() if not outcome.succeeded]
    for outcome in failed:
        if outcome.stage in _NEEDS.get(stage, ()):
            return outcome
    if not failed or stage not in _CHAINS:
        return None
    undecided = look(ctx.ws, _CHAINS[stage], _document(ctx)).decided == "not yet known"
    return failed[0] if undecided else None


def _document(ctx: ObservationContext) -> dict[str, Any]:
    return ctx.ws.catalogue.observation(ctx.id) or {"_id": ctx.id}


def _one(ctx: ObservationContext, stage: str) -> StageOutcome:
    at = _STAGES[stage]
    try:
        decision = decide(ctx, _CHAINS[stage], at.product) if stage in _CHAINS else None
        outcome = at.make(ctx)
        _settle(ctx, at.product, decision, outcome)
        return outcome
    except NothingToMakeError as error:
        reason = in_original_words(str(error))
        at.record_skip(ctx, reason)
        return StageOutcome(
            stage=stage,
            status="skipped",
            reason=reason,
            fingerprint=fingerprint(stage, "skipped", reason),
        )


def _settle(
    ctx: ObservationContext, product: str, decision: Decision | None, outcome: StageOutcome
) -> None:
    """Note whether a product was made on request, and that one which was skipped is made again."""
    if not product:
        return
    record = ctx.product(product)
    asked = decision is not None and decision.decided == "by request"
    changes = {BY_REQUEST: True} if asked and record.get(BY_REQUEST) is not True else {}
    status = record if product.endswith(".preview") else record.get("status") or {}
    skipped = status.get("done") is not True and not status.get("retries")
    if skipped or (changes and outcome.status == "done"):
        ctx.ws.catalogue.publish(ctx.id, product, changes)


def _record(ctx: ObservationContext, stage: str, outcome: StageOutcome) -> StageOutcome:
    lasting = stage in _FRAME_STAGES and not is_transient(outcome)
    failed_with = _circumstances(ctx, stage) if lasting else ""
    _STAGES[stage].record_failure(ctx, outcome.reason, failed_with)
    return StageOutcome(stage=stage, status="done")


def _withdraw_package(ctx: ObservationContext, stage: str) -> StageOutcome:
    distribution.withdraw_if_outdated(ctx.ws, ctx.night, ctx.id)
    return StageOutcome(stage=stage, status="done")
