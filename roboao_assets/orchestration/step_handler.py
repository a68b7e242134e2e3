"""How steps are started on a Dask cluster, watched and stopped."""

from collections.abc import Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from dagster import DagsterEventType
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepHandler,
    StepHandlerContext,
)
from dagster_shared.serdes import serialize_value
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from roboao_assets.orchestration.cluster import ClusterLostError, ClusterWatch
from roboao_assets.orchestration.step_task import (
    STOP_GRACE_S,
    StepRequest,
    make_step,
    make_step_on_worker,
)
from roboao_assets.storage.sent_settings import settings_to_send
from roboao_assets.storage.settings import Settings

# On steps that give work to the cluster, and do none themselves.
DRIVES_CLUSTER_TAG = "roboao/drives_cluster"

_ENDS = {
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
}
_LOST_STATES = ("cancelled", "lost")


@dataclass
class _Launched:
    """A step that was started: as a task of the cluster, or here."""

    attempt: int
    future: "Future | ThreadFuture[str]"
    stop: Event = field(default_factory=Event)
    seen_done: bool = False

    @property
    def is_forgotten(self) -> bool:
        """Whether the scheduler does not know the task any more, without our doing."""
        on_cluster = isinstance(self.future, Future)
        return on_cluster and self.future.status in _LOST_STATES and not self.stop.is_set()

    def problem(self) -> str:
        """Return what went wrong with its process; empty if nothing."""
        error = self.future.exception()
        if error is None:
            return self.future.result()
        if isinstance(error, KilledWorker):
            return f"its worker died, the last time {error.last_worker.address}: see its log"
        return f"{type(error).__name__}: {error} (a defect, or a worker of another version)"


class DaskStepHandler(StepHandler):
    """Starts each step as a task of its own name, `<run id>:<step key>:<attempt>`.

    A step that gives its work to the cluster (`DRIVES_CLUSTER_TAG`) is made on the host of the run:
    on a worker it would wait for tasks that wait for its place, and would go down with the
    worker that one of its own tasks brings down.

    Parameters
    ----------
    settings : Settings
    time_limit_s : float or None
        Of a step on a worker.
    """

    def __init__(self, settings: Settings, time_limit_s: float | None) -> None:
        self._settings_json = settings_to_send(settings)
        self._time_limit_s = time_limit_s
        self._launched: dict[str, _Launched] = {}

    @property
    def name(self) -> str:
        """What Dagster calls it."""
        return "DaskStepHandler"

    @contextmanager
    def using(self, client: Client) -> Iterator[None]:
        """Start steps on the cluster of `client`; at the end nothing of them is left."""
        self._client, self._watch = client, ClusterWatch(client)
        with ThreadPoolExecutor(thread_name_prefix="step") as self._here:
            try:
                yield
            finally:
                for step in self._launched:
                    self._stop(step)

    def check_cluster(self) -> None:
        """Make sure that the cluster is still there.

        Raises
        ------
        ClusterLostError
            It is not, or has forgotten what it was given.
        """
        try:
            self._watch.worker_threads()
            if any(launched.is_forgotten for launched in self._launched.values()):
                raise ClusterLostError("it forgot its tasks")
        except ClusterLostError as error:
            left = ", ".join(
                step
                for step, launched in self._launched.items()
                if launched.is_forgotten or not launched.future.done()
            )
            raise ClusterLostError(
                f"the Dask scheduler at {self._client.scheduler.address} was lost while steps "
                f"were under way ({left}): {error}; what was made is kept, run the rest again "
                f"when the cluster is back"
            ) from error

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start a step."""
        context = step_handler_context
        args = context.execute_step_args
        (step,) = args.step_keys_to_execute
        attempt = args.known_state.get_retry_state().get_attempt_count(step) + 1
        key = f"{args.run_id}:{step}:{attempt}"
        here = DRIVES_CLUSTER_TAG in context.step_tags[step]
        request = StepRequest(
            key=key,
            arguments=serialize_value(args),
            settings_json=self._settings_json,
            time_limit_s=None if here else self._time_limit_s,
        )
        where = "this host, from where it drives the cluster" if here else "the Dask cluster"
        yield DagsterEvent.step_worker_starting(
            context.get_step_context(step), f"Step {step} goes to {where}.", {"task": key}
        )
        if here:
            stop = Event()
            run = self._here.submit(make_step, request, lambda: not stop.is_set(), "its run")
            self._launched[step] = _Launched(attempt, run, stop)
        else:
            self.check_cluster()
            task = self._client.submit(make_step_on_worker, request, key=key, pure=False)
            self._launched[step] = _Launched(attempt, task)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Tell whether a step goes on, or has ended with a word of its own."""
        args = step_handler_context.execute_step_args
        (step,) = args.step_keys_to_execute
        launched = self._launched[step]
        if not launched.future.done():
            return CheckStepHealthResult.healthy()
        if not launched.seen_done:
            # What it has said last is read before the next look.
            launched.seen_done = True
            return CheckStepHealthResult.healthy()
        instance, run_id = step_handler_context.instance, args.run_id
        ends = [e for e in instance.all_logs(run_id, of_type=_ENDS) if e.step_key == step]
        if len(ends) >= launched.attempt:
            # Said, and not yet read: there is much before it.
            return CheckStepHealthResult.healthy()
        problem = launched.problem() or (
            "the worker that had begun it died (killed, or out of memory: see the log of the "
            "workers), and it is not begun anew under the same attempt"
        )
        return CheckStepHealthResult.unhealthy(problem)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Stop a step; its process has `STOP_GRACE_S` to end."""
        (step,) = step_handler_context.execute_step_args.step_keys_to_execute
        yield DagsterEvent.engine_event(
            step_handler_context.get_step_context(step),
            f"Step {step} is stopped; it is killed if it goes on for {STOP_GRACE_S:g} s.",
            EngineEventData.interrupted([step]),
        )
        self._stop(step)

    def _stop(self, step: str) -> None:
        launched = self._launched[step]
        if launched.stop.is_set() or launched.future.done():
            return
        launched.stop.set()
        if isinstance(launched.future, Future) and self._client.status == "running":
            self._client.cancel([launched.future], force=True)
