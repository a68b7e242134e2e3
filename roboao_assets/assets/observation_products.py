"""The products of an observation: one asset each, made together on the cluster.

One multi-asset over a range of observations instead of an asset a stage: a plain
asset over a range is all or nothing, this one records every observation and stage
by itself, and an observation passes through its stages in one worker's memory.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

import dagster as dg
from distributed import Client

from roboao_assets.orchestration.claims import (
    owner_of,
    release_claims_of_dead_runs,
    settle_abandoned,
)
from roboao_assets.orchestration.cluster import ClusterError
from roboao_assets.orchestration.events import (
    failure_observation,
    materialization,
    observation_page,
    strehl_flag_evaluation,
)
from roboao_assets.orchestration.failures import failure_of
from roboao_assets.orchestration.file_transfer import served_files
from roboao_assets.orchestration.night_preparation import prepare_night
from roboao_assets.orchestration.night_stage import OWNERS
from roboao_assets.orchestration.observation_runs import ABANDONED, ObservationRun
from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
from roboao_assets.orchestration.provenance import ProvenanceTags
from roboao_assets.orchestration.reference_checks import (
    ASSET,
    CHECK,
    judge_nights,
    newest_product,
    references_evaluation,
)
from roboao_assets.orchestration.resources import CodeLocation, StageConfig
from roboao_assets.orchestration.step_handler import DRIVES_CLUSTER_TAG
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.library_changes import ReferenceJudgement
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.retrying import is_transient
from roboao_assets.science.errors import CatalogueUnavailableError
from roboao_assets.storage.sent_settings import settings_to_send

LOCAL_POOL = "local_cluster"
STAGES = (
    "bright_star_stack",
    "faint_star_stack",
    "extended_object",
    "astrometric_solution",
    "strehl_ratio",
    "bright_star_preview",
    "pca_residual",
    "contrast_curve",
    "faint_star_strehl_ratio",
    "faint_star_preview",
    "faint_star_pca_residual",
    "faint_star_contrast_curve",
    "psf_candidate",
    "distribution_package",
)
"""In the order of the flow, as `roboao_assets.pipelines.observation` has them."""

# Ends the names of tasks that look again at what was made in the same run.
SECOND_LOOK = "again"
# Of a failure; the log has all.
_MAX_SENTENCES = 20


def build_observation_products(location: CodeLocation) -> list[dg.AssetsDefinition]:
    """Return the multi-asset of all products of an observation."""
    partitions = location.partitions

    @dg.multi_asset(
        name="reduce_observation",
        description="Reduces observations on the Dask cluster, each by itself.",
        specs=observation_specs(location),
        check_specs=_check_specs(location),
        can_subset=True,
        partitions_def=partitions.observations,
        # Beta, and what makes a range of observations one run (docs/adr/0001-dagster.md).
        backfill_policy=dg.BackfillPolicy.single_run(),
        # The instance lets one run of a pool work at a time: each would bring a cluster.
        pool=LOCAL_POOL if location.cluster.is_local else None,
        op_tags={DRIVES_CLUSTER_TAG: "true"},
    )
    def reduce_observation(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[None]:
        # Everything is logged as it happens; the generator yields no output.
        yield from ()
        wanted = {key.to_user_string() for key in context.selected_asset_keys}
        stages = tuple(s for s in STAGES if s in wanted)
        checks = {key.name for key in context.selected_asset_check_keys}
        if not stages and CHECK in checks:
            # Asked for the check alone, nothing may be made again.
            _judge(context, location)
            checks.remove(CHECK)
            if not checks:
                return
        # The other check alone: the stage that it looks at tells what it had made.
        stages = stages or ("strehl_ratio",)
        tasks = [
            ObservationTask(
                night=partitions.manifest.night_by_observation[o], observation=o, stages=stages
            )
            for o in context.partition_keys
        ]
        _prepare_nights(context, location, dict.fromkeys(task.night for task in tasks))
        failures = _reduce(context, location, tasks, config)
        if failures:
            raise _failure(failures, len(tasks))

    return [reduce_observation]


def observation_specs(location: CodeLocation) -> list[dg.AssetSpec]:
    """Return the specs of an observation's products, in the order of the flow."""
    of_night = location.partitions.night_to_observations

    def spec(name: str, group: str, deps: list[str | dg.AssetDep], text: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            name,
            group_name=group,
            deps=deps,
            description=text,
            skippable=True,
            code_version=CODE_VERSIONS[name],
            owners=OWNERS,
            kinds={"fits", "dask"},
        )

    def measuring(group: str, stack: str, names: tuple[str, ...]) -> list[dg.AssetSpec]:
        strehl, preview, residual, contrast = names
        return [
            spec(
                strehl,
                group,
                [stack],
                "Strehl ratio with its uncertainty, core and halo radii, FWHM and flag.",
            ),
            spec(
                preview,
                group,
                [stack, strehl],
                "Previews of the stack: the full field, and cropped round the guide star.",
            ),
            spec(
                residual,
                "high_contrast",
                [stack, "psf_library", "astrometric_solution"],
                "Reference-star PSF subtraction by principal components; the companions that "
                "are left, with their signal-to-noise map.",
            ),
            spec(
                contrast,
                "high_contrast",
                [residual],
                "5-sigma contrast (mag) against separation (arcsec), with noise and throughput.",
            ),
        ]

    masters = [
        dg.AssetDep(name, partition_mapping=of_night)
        for name in ("raw_night", "master_darks", "master_flats", "bad_pixel_mask")
    ]
    return [
        spec(
            "bright_star_stack",
            "bright_star",
            [*masters],
            "Lucky-imaging stacks of an observation: `sum.fits`, `<n>p.fits` drizzled from the "
            "best n percent of the frames, `frames.txt`, `sorted.txt`; its class.",
        ),
        spec(
            "faint_star_stack",
            "faint_star",
            ["bright_star_stack", *masters],
            "Stack of an observation of a faint star: frames registered on all of its light, "
            "`<id>_summed.fits`, `<id>_simple_sum.fits`, `shifts.txt`.",
        ),
        spec(
            "extended_object",
            "extended_object",
            ["bright_star_stack", *masters],
            "A resolved object (planets, moons, asteroids): the sharpest frames registered on its "
            "disc, `<id>_stack.fits`, deconvolved with a star of the night or the PSF library, "
            "`<id>_deconvolved.fits`.",
        ),
        spec(
            "astrometric_solution",
            "bright_star",
            ["bright_star_stack", "faint_star_stack"],
            "World coordinates of an observation's stacks, from pointing and distortion, refined "
            "on field stars where there are enough; `astrometry/<id>_stars.ecsv`.",
        ),
        *measuring(
            "bright_star",
            "bright_star_stack",
            ("strehl_ratio", "bright_star_preview", "pca_residual", "contrast_curve"),
        ),
        *measuring(
            "faint_star",
            "faint_star_stack",
            (
                "faint_star_strehl_ratio",
                "faint_star_preview",
                "faint_star_pca_residual",
                "faint_star_contrast_curve",
            ),
        ),
        spec(
            "psf_candidate",
            "high_contrast",
            # The PCA is no need: what it finds beside the star is part of the quality.
            ["bright_star_stack", "strehl_ratio", "pca_residual"],
            "Candidate of the PSF library: the star centred and filtered, "
            "`summary/psflib/<id>.fits`, its preview and quality. It enters the library only "
            "by the administrator's decision.",
        ),
        spec(
            "distribution_package",
            "distribution",
            [
                "astrometric_solution",
                "extended_object",
                *(f"{stack}_preview" for stack in ("bright_star", "faint_star")),
                "contrast_curve",
                "faint_star_contrast_curve",
            ],
            "All products of an observation in one file, `<id>.tar.bz2`, with a manifest and "
            "checksums; made again when one of them changed.",
        ),
    ]


def _check_specs(location: CodeLocation) -> list[dg.AssetCheckSpec]:
    def spec(name: str, asset: str, text: str) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            name,
            asset=asset,
            partitions_def=location.partitions.observations,
            description=text,
        )

    with warnings.catch_warnings():
        # Checks with partitions are in preview; without them only the observation that
        # was reduced last would have one.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            spec(
                "strehl_flag",
                "strehl_ratio",
                "The core is not too narrow and the halo not too wide for a star: `OK`.",
            ),
            spec(
                CHECK,
                ASSET,
                "The PSF library would still give the references that the PCA was made with. "
                "Evaluated when an observation is reduced, and after a change of the library.",
            ),
        ]


def _judge(context: dg.AssetExecutionContext, location: CodeLocation) -> None:
    wanted = set(context.partition_keys)
    nights = dict.fromkeys(location.partitions.manifest.night_by_observation[o] for o in wanted)
    for judgement in judge_nights(location, nights):
        if judgement.observation in wanted:
            context.log_event(references_evaluation(context.instance, judgement))


def _reduce(
    context: dg.AssetExecutionContext,
    location: CodeLocation,
    tasks: list[ObservationTask],
    config: StageConfig,
) -> dict[str, StageOutcome]:
    """Reduce `tasks`, log every outcome; return the first failed stage of each failed one."""
    settings = config.applied_to(location.settings)
    rules = TaskRules(
        run_id=context.run.run_id,
        owner=owner_of(context.run),
        settings_json=settings_to_send(settings),
        force=config.force,
        time_limit_s=settings.stage_timeout_s,
        send_files=location.cluster.sends_files,
    )
    try:
        freed = release_claims_of_dead_runs(
            context.instance, settings, rules.owner, [task.observation for task in tasks]
        )
    except CatalogueUnavailableError as error:
        # Nothing was begun: the step waits for the catalogue, as the stages do.
        away = StageOutcome(
            stage="claims",
            status="failed",
            reason=str(error),
            retryable=True,
            error_type=type(error).__name__,
        )
        raise failure_of(away, "the observations", context.retry_number + 1) from error
    for observation in freed:
        context.log.info(f"{observation}: the run that had begun it is dead; it is begun again")
    failures: dict[str, StageOutcome] = {}
    log = _OutcomeLog(context, location)
    try:
        with location.cluster.connect(len(tasks)) as client:
            resolved = _run_tasks(client, rules, tasks, failures, log)
            if resolved and len(tasks) > 1:
                # Which stars were done before them was chance: now all of them are.
                later = replace(rules, run_id=f"{rules.run_id}-{SECOND_LOOK}", force=False)
                again = [replace(task, stages=("extended_object",)) for task in resolved]
                _run_tasks(client, later, again, failures, log)
    except ClusterError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    return failures


def _run_tasks(
    client: Client,
    rules: TaskRules,
    tasks: list[ObservationTask],
    failures: dict[str, StageOutcome],
    log: "_OutcomeLog",
) -> list[ObservationTask]:
    """Run `tasks`, log every outcome, enter failures; return the tasks of resolved objects."""
    by_observation = {task.observation: task for task in tasks}
    second_look = rules.run_id.endswith(SECOND_LOOK)
    resolved = []
    run = ObservationRun(client, rules, on_progress=log.progress)
    try:
        with served_files(client, rules, log.settings, tasks) as traffic:
            for done, (observation, outcomes) in enumerate(run.outcomes(tasks), 1):
                for outcome in outcomes:
                    if not (second_look and outcome.status == "unchanged"):
                        log.tell(observation, outcome)
                    made = outcome.status in ("done", "unchanged")
                    if outcome.stage == "extended_object" and made:
                        resolved.append(by_observation[observation])
                failed = next((o for o in outcomes if not o.succeeded), None)
                if failed is not None:
                    failures.setdefault(observation, failed)
                look = ", looked at again after the others" if second_look else ""
                log.say(f"{done} of {len(tasks)}: {observation}{look}")
        if rules.send_files:
            log.say(str(traffic))
    finally:
        abandoned = {o: f for o, f in failures.items() if f.error_type in ABANDONED}
        log.settle(rules.owner, run.in_flight, abandoned)
    return resolved


def _prepare_nights(
    context: dg.AssetExecutionContext, location: CodeLocation, nights: Iterable[str]
) -> None:
    settings = location.settings
    for name in nights:
        for outcome in prepare_night(settings, name):
            context.log.info(f"{outcome.stage} of {name}: {outcome.status} {outcome.reason}")
            if is_transient(outcome):
                raise failure_of(outcome, name, context.retry_number + 1)


class _OutcomeLog:
    """The ends of stages, told to Dagster as they come."""

    def __init__(self, context: dg.AssetExecutionContext, location: CodeLocation) -> None:
        self._context, self.settings = context, location.settings
        self._provenance = ProvenanceTags(
            context.instance, location.partitions, observation_specs(location)
        )
        self._checks = {key.name for key in context.selected_asset_check_keys}

    def say(self, text: str) -> None:
        self._context.log.info(text)

    def progress(self, reading: dict[str, tuple[int, float]]) -> None:
        # No raw file says how many frames it has: what its bytes have given so far tells.
        for observation, (frames, part) in reading.items():
            self.say(
                f"{observation}: {frames} of about {round(frames / part)} frames read "
                f"({part:.0%} of the raw bytes)"
            )

    def settle(self, owner: str, in_flight: list[str], abandoned: dict[str, StageOutcome]) -> None:
        settle_abandoned(self.settings, owner, in_flight, abandoned)

    def tell(self, observation: str, outcome: StageOutcome) -> None:
        context = self._context
        page = observation_page(self.settings, observation)
        if not outcome.succeeded:
            context.log.error(f"{observation}: {outcome.stage}: {outcome.reason}")
            context.log_event(failure_observation(observation, outcome, page))
            return
        if dg.AssetKey(outcome.stage) in context.selected_asset_keys:
            tags = self._provenance.tags(observation, outcome)
            context.log_event(materialization(observation, outcome, tags, page))
        if "strehl_flag" in self._checks and outcome.stage == "strehl_ratio":
            target = newest_product(context.instance, outcome.stage, observation)
            context.log_event(strehl_flag_evaluation(observation, outcome, target))
        if CHECK in self._checks and outcome.stage == ASSET:
            # It was compared with the library as it is, or found nothing to compare it with.
            judgement = ReferenceJudgement(observation=observation, current=True)
            context.log_event(references_evaluation(context.instance, judgement))


def _failure(failures: dict[str, StageOutcome], n_tasks: int) -> dg.Failure:
    sentences = [f"{o}: {f.stage}: {f.reason}" for o, f in failures.items()]
    shown = sentences[:_MAX_SENTENCES]
    if len(sentences) > len(shown):
        shown.append(f"and {len(sentences) - len(shown)} more, see the log")
    return dg.Failure(
        description="\n".join([f"{len(failures)} of {n_tasks} observations failed:", *shown]),
        metadata={"failed": len(failures), "observations": n_tasks},
        allow_retries=False,
    )
