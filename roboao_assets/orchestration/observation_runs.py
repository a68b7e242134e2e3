"""Many observations over a Dask cluster, each on its own: what one does stops no other.

Not dagster-dask's executor: its task keys are `<job>.<step>`, so that two runs of
one job on one scheduler share a task and the second run's products are never made
(dagster issue 21418; `docs/adr/0004-cluster.md`). Keys here hold the run's id.
"""

import heapq
import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from roboao_assets.orchestration.cluster import ClusterLostError, ClusterWatch
from roboao_assets.orchestration.failures import MAX_RETRIES, wait_before_retry_s
from roboao_assets.orchestration.observation_task import (
    ObservationTask,
    TaskRules,
    reduce_on_worker,
)
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.redo import with_dependents
from roboao_assets.pipelines.retrying import is_transient

# Told the observations that are being read: frames so far, and their part of the raw bytes.
Progress = Callable[[dict[str, tuple[int, float]]], None]
Work = Callable[[TaskRules, ObservationTask], list[StageOutcome]]

log = logging.getLogger(__name__)

_POLL_S = 1.0
_PROGRESS_S = 10.0
_RESTART_TIMEOUT_S = 30
_MAX_SENT_AGAIN = 5
# Error types of failures after which nobody gave the observation's claim back.
ABANDONED = ("TimeLimit", "KilledWorker")
_LOST_STATES = ("cancelled", "lost")


@dataclass
class _Flight:
    """An observation that was sent to the cluster."""

    task: ObservationTask
    future: Future
    begun_s: float | None = None
    worker: str = ""
    frames: int = 0
    part: float = 0.0
    stage: str = ""


@dataclass
class ObservationRun:
    """The reduction of some observations on a cluster.

    Not more than two tasks a worker thread wait on the scheduler, so that runs that
    share it take turns.
    """

    client: Client
    rules: TaskRules
    work: Work = reduce_on_worker
    on_progress: Progress | None = None
    _waiting: deque[ObservationTask] = field(default_factory=deque)
    _delayed: list[tuple[float, int, ObservationTask]] = field(default_factory=list)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _ended: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    _watch: ClusterWatch = field(init=False)
    _progress_told_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._watch = ClusterWatch(self.client)

    @property
    def in_flight(self) -> list[str]:
        """Observations that were sent and of which nothing came back."""
        return [flight.task.observation for flight in self._flights.values()]

    def outcomes(
        self, tasks: Sequence[ObservationTask]
    ) -> Iterator[tuple[str, list[StageOutcome]]]:
        """Yield each observation with the outcomes of its stages, in the order they end.

        Raises
        ------
        ClusterLostError
            The scheduler went away, or has had no worker for two minutes.
        """
        self._waiting.extend(tasks)
        self.client.subscribe_topic(self.rules.topic, self._note)
        try:
            while self._waiting or self._delayed or self._flights:
                self._submit_due()
                yield from self._collect()
                yield from self._overdue()
                self._tell_progress()
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        # Also after the run was terminated: nobody waits for its tasks any more.
        if self.client.status == "running":
            self.client.unsubscribe_topic(self.rules.topic)
            self.client.cancel([f.future for f in self._flights.values()], force=True)

    def _note(self, event: tuple[float, Any]) -> None:
        # Runs in the client's own thread: it must not wait for anything.
        _, message = event
        flight = self._flights.get(message["key"])
        if flight is None:
            return
        if "frames" in message:
            flight.frames, flight.part = message["frames"], message["part"]
        else:
            # The time limit is that of a stage: it counts anew from the beginning of each.
            flight.begun_s, flight.worker = time.monotonic(), message["worker"]
            flight.stage = message.get("stage", "")

    def _tell_progress(self) -> None:
        now_s = time.monotonic()
        if self.on_progress is None or now_s - self._progress_told_s < _PROGRESS_S:
            return
        self._progress_told_s = now_s
        reading = {
            flight.task.observation: (flight.frames, flight.part)
            for flight in list(self._flights.values())
            if 0 < flight.part < 1
        }
        if reading:
            self.on_progress(reading)

    def _submit_due(self) -> None:
        now_s = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now_s:
            self._waiting.append(heapq.heappop(self._delayed)[2])
        threads = sum(self._worker_threads().values())
        while self._waiting and len(self._flights) < max(2 * threads, 1):
            self._submit(self._waiting.popleft())

    def _worker_threads(self) -> dict[str, int]:
        try:
            return self._watch.worker_threads()
        except ClusterLostError as error:
            raise self._lost(str(error)) from error

    def _lost(self, why: str) -> ClusterLostError:
        left = len(self._waiting) + len(self._delayed) + len(self._flights)
        return ClusterLostError(
            f"the Dask scheduler was lost with {left} observations to go: {why}; what was "
            f"reported before is kept, run the rest again when the cluster is back"
        )

    def _submit(self, task: ObservationTask) -> None:
        rules, key = self.rules, self.rules.key(task)
        future = self.client.submit(self.work, rules, task, key=key, pure=False)
        self._flights[key] = _Flight(task, future)
        future.add_done_callback(lambda done: self._ended.put(done.key))

    def _collect(self) -> Iterator[tuple[str, list[StageOutcome]]]:
        try:
            key = self._ended.get(timeout=_POLL_S)
        except queue.Empty:
            return
        flight = self._flights.pop(key, None)
        if flight is not None:
            yield from self._settle(flight)

    def _settle(self, flight: _Flight) -> Iterator[tuple[str, list[StageOutcome]]]:
        if flight.future.status in _LOST_STATES:
            self._waiting.append(flight.task)
            raise self._lost("it forgot its tasks")
        task = flight.task
        if _went_down_with_another(flight):
            self._waiting.append(replace(task, submission=task.submission + 1))
            return
        outcomes = [*task.earlier, *_result(flight)]
        failed = next((o for o in outcomes if not o.succeeded), None)
        if failed is None or not is_transient(failed) or task.attempt > MAX_RETRIES:
            yield task.observation, outcomes
            return
        # What is made from a product that failed was made without it, or left out for want of it.
        anew = with_dependents(o.stage for o in outcomes if not o.succeeded)
        done = tuple(o for o in outcomes if o.stage not in anew)
        rest = tuple(s for s in task.stages if s not in {o.stage for o in done})
        wait_s = wait_before_retry_s(task.attempt)
        log.warning("%s: %s; again in %.0f s", task.observation, failed.reason, wait_s)
        again = replace(
            task,
            stages=rest,
            earlier=done,
            attempt=task.attempt + 1,
            submission=task.submission + 1,
        )
        heapq.heappush(self._delayed, (time.monotonic() + wait_s, id(again), again))

    def _overdue(self) -> Iterator[tuple[str, list[StageOutcome]]]:
        limit_s, now_s = self.rules.time_limit_s, time.monotonic()
        overdue = {
            key: flight
            for key, flight in self._flights.items()
            if flight.begun_s is not None
            and now_s - flight.begun_s > limit_s
            # It may have ended while another's worker was restarted, and waits to be collected.
            and not flight.future.done()
        }
        if not overdue:
            return
        for key in overdue:
            del self._flights[key]
        self.client.cancel([flight.future for flight in overdue.values()], force=True)
        # A thread cannot be stopped: its process has to go, or it keeps its place for ever.
        workers = sorted({flight.worker for flight in overdue.values()})
        try:
            self.client.restart_workers(workers, timeout=_RESTART_TIMEOUT_S, raise_for_error=False)
        except (ValueError, OSError) as error:
            log.warning("the workers %s could not be restarted: %s", ", ".join(workers), error)
        for flight in overdue.values():
            stages = flight.task.stages
            reached = flight.stage if flight.stage in stages else stages[0]
            reason = (
                f"{reached} was not finished within {limit_s:g} s on the worker {flight.worker}, "
                f"which was restarted; raise the setting stage_timeout_s if the observation is "
                f"that large"
            )
            lost = all_failed(stages[stages.index(reached) :], reason, "TimeLimit")
            yield flight.task.observation, [*flight.task.earlier, *lost]


def _went_down_with_another(flight: _Flight) -> bool:
    # It waited on a worker that another task brought down: it has not had its turn.
    return (
        isinstance(flight.future.exception(), KilledWorker)
        and flight.begun_s is None
        and flight.task.submission < flight.task.attempt + _MAX_SENT_AGAIN
    )


def _result(flight: _Flight) -> list[StageOutcome]:
    error = flight.future.exception()
    if error is None:
        return list(flight.future.result())
    if isinstance(error, KilledWorker):
        reason = (
            f"the worker died each of the {error.allowed_failures + 1} times it was tried (out of "
            f"memory, or killed); the last was {error.last_worker.address}: see its log"
        )
    else:
        reason = f"{type(error).__name__}: {error} (a defect, or a worker of another version)"
    return all_failed(flight.task.stages, reason, type(error).__name__)


def all_failed(stages: Sequence[str], reason: str, error_type: str) -> list[StageOutcome]:
    """Return the outcomes of an observation of which nothing came back."""
    first, *later = stages
    return [
        StageOutcome(stage=first, status="failed", reason=reason, error_type=error_type),
        *(
            StageOutcome(stage=s, status="failed", reason=f"{first} failed: {reason}")
            for s in later
        ),
    ]
