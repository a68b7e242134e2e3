"""The executor of the archive's jobs: steps in the run's process, or on the Dask cluster.

Not dagster-dask's: its tasks are named `<job>.<step>`, so that two runs of a job share them
(dagster issue 21418); a failed step does not block those that need it, and nothing is tried again
(docs/dagster-dask-executor.patch mends it). Dagster's own executor that delegates steps knows
all that; here it is given Dask to delegate to (docs/adr/0022-step-executor.md).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

# The executors that jobs have by default are configured by these; they have no public name.
from dagster._core.definitions.executor_definition import (
    IN_PROC_CONFIG,
    multiple_process_executor_requirements,
)
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode, get_retries_config
from dagster._core.execution.tags import get_tag_concurrency_limits_config
from dagster._core.executor.step_delegating import StepDelegatingExecutor

from roboao_assets.orchestration.cluster import ClusterError, ObservationCluster
from roboao_assets.orchestration.step_handler import DaskStepHandler
from roboao_assets.orchestration.step_storage import check_storage
from roboao_assets.storage.settings import Settings

DASK_CONFIG = dg.Field(
    {
        "max_concurrent": dg.Field(
            dg.Noneable(int),
            default_value=None,
            description="Steps of the run that are on the cluster at a time; by default all that "
            "can be made.",
        ),
        "tag_concurrency_limits": get_tag_concurrency_limits_config(),
        "step_timeout_s": dg.Field(
            dg.Noneable(float),
            is_required=False,
            description="Time limit of a step (s), from its start on a worker; by default the "
            "setting stage_timeout_s.",
        ),
        "retries": get_retries_config(),
    },
    description="Execute each step in a process of its own on a worker of the Dask cluster.",
)


def build_step_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor of all jobs.

    A run chooses by its configuration, `execution: {config: {dask: {}}}` or `{in_process: {}}`;
    one that does not has what the setting `step_executor` says.

    Parameters
    ----------
    settings : Settings
        The steps are made with these, wherever they are made.
    """

    @dg.executor(
        name="in_process_or_dask",
        config_schema=dg.Field(
            dg.Selector({"in_process": IN_PROC_CONFIG, "dask": DASK_CONFIG}),
            default_value={settings.step_executor: {}},
        ),
        requirements=lambda config: (
            multiple_process_executor_requirements() if "dask" in config else []
        ),
    )
    def in_process_or_dask(init_context: dg.InitExecutorContext) -> dg.Executor:
        ((kind, config),) = init_context.executor_config.items()
        if kind == "in_process":
            return dg.in_process_executor.executor_creation_fn(
                init_context._replace(executor_config=config)
            )
        return DaskStepExecutor(settings, config)

    return in_process_or_dask


class DaskStepExecutor(StepDelegatingExecutor):
    """Dagster's executor that delegates steps, for as long as it runs with a Dask cluster.

    Parameters
    ----------
    settings : Settings
    config : mapping
        As `DASK_CONFIG` describes it.

    Raises
    ------
    ClusterError
        No scheduler is named.
    """

    def __init__(self, settings: Settings, config: dict[str, Any]) -> None:
        if not settings.dask_scheduler:
            raise ClusterError(
                "steps are to be made on a Dask cluster (executor dask), and the setting "
                "dask_scheduler names none; name one, or choose the executor in_process"
            )
        self._settings = settings
        self._handler = DaskStepHandler(
            settings, config.get("step_timeout_s", settings.stage_timeout_s)
        )
        super().__init__(
            self._handler,
            retries=RetryMode.from_config(config["retries"]),
            max_concurrent=config.get("max_concurrent"),
            tag_concurrency_limits=config.get("tag_concurrency_limits"),
            check_step_health_interval_seconds=1,
            # Dask begins a task anew when its worker dies. That is Dagster's to decide: a step
            # that has begun already is not begun again under the same attempt.
            should_verify_step=True,
        )

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Make the steps of a plan; yield what happens.

        Raises
        ------
        ClusterError
            The cluster cannot be used, or not any more; or the workers are without Dagster's
            storage.
        """
        n_steps = len(execution_plan.step_keys_to_execute)
        with ObservationCluster(self._settings).connect(n_steps) as client:
            check_storage(client, plan_context.instance, plan_context.run_id)
            with self._handler.using(client):
                yield from super().execute(plan_context, execution_plan)

    def _pop_events(self, *args: Any, **kwargs: Any) -> Any:
        # Asked once a round while steps are under way. The health of a step is not the place: a
        # lost cluster is no failure of a step, and as one the run would not be tried again.
        self._handler.check_cluster()
        return super()._pop_events(*args, **kwargs)
