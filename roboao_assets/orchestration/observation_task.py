"""What a Dask worker runs: one observation. It imports no Dagster.

The functions here travel to the workers by name, so every worker and the
scheduler must have this package in the version of the run that sends them.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from distributed import get_worker

from roboao_assets import __version__
from roboao_assets.orchestration.worker_files import worker_files
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.sent_settings import catalogue_place
from roboao_assets.storage.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ObservationTask:
    """One observation to be reduced.

    Attributes
    ----------
    night, observation : str
    stages : tuple of str
        Names of the stages, in the order of the flow.
    attempt : int
        From 1.
    submission : int
        How often it was sent before; more often than attempted if it went down with a worker
        before it was begun.
    earlier : tuple of StageOutcome
        Outcomes of the stages that an earlier attempt finished.
    """

    night: str
    observation: str
    stages: tuple[str, ...]
    attempt: int = 1
    submission: int = 0
    earlier: tuple[StageOutcome, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskRules:
    """What is the same for all observations of a run.

    Attributes
    ----------
    run_id : str
        Of the Dagster run.
    owner : str
        In whose name the observations are claimed: the same for a run and its retries.
    settings_json : str
        Without credentials (`storage.sent_settings`): the scheduler and its log see it.
    force : bool
        Make also what is up to date.
    time_limit_s : float
        For one stage of an observation, from its beginning on a worker.
    send_files : bool
        The workers have neither raw roots nor archive: see `worker_files`.
    """

    run_id: str
    owner: str
    settings_json: str = field(repr=False)
    force: bool
    time_limit_s: float
    send_files: bool = False

    @property
    def files_topic(self) -> str:
        """Under which workers without mounts ask for files."""
        return f"roboao-files-{self.run_id}"

    @property
    def topic(self) -> str:
        """Under which the workers tell what they begin and how far they are."""
        return f"roboao-{self.run_id}"

    def key(self, task: ObservationTask) -> str:
        """Name of the task on the scheduler: no other run has it."""
        return f"{self.run_id}:{task.observation}:{task.submission}"


def reduce_on_worker(rules: TaskRules, task: ObservationTask) -> list[StageOutcome]:
    """Reduce an observation, after telling under the topic of the run that it was begun.

    The time limit counts from that word, and anew from the beginning of each stage, not from
    the submission: how long a task waits for a free worker says nothing about it.
    """
    from roboao_assets.pipelines.observation import reduce_observation

    tell_begun(rules, task)
    files = None
    if rules.send_files:
        scratch = Settings.model_validate_json(rules.settings_json).worker_scratch
        files = worker_files(rules.files_topic, task.observation, scratch)
    return reduce_observation(
        rules.settings_json,
        task.night,
        task.observation,
        task.stages,
        rules.force,
        on_progress=progress_teller(rules, task),
        on_stage=lambda stage: tell_begun(rules, task, stage),
        owner=rules.owner,
        surroundings=files,
    )


def progress_teller(
    rules: TaskRules, task: ObservationTask, every_s: float = 2.0
) -> Callable[[int, float], None]:
    """Return what tells, now and then, the frames read so far and their part of the raw bytes."""
    worker, told_s = get_worker(), time.monotonic()

    def tell(frames: int, part: float) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= every_s:
            told_s = time.monotonic()
            message = {"key": rules.key(task), "frames": frames, "part": part}
            worker.log_event(rules.topic, message)

    return tell


def tell_begun(rules: TaskRules, task: ObservationTask, stage: str = "") -> None:
    """Tell whoever waits for `task` that this worker has begun it, or a stage of it."""
    worker = get_worker()
    message = {"key": rules.key(task), "worker": worker.address, "stage": stage}
    worker.log_event(rules.topic, message)


def describe_worker() -> dict[str, object]:
    """What a worker would make products with; after this it has loaded all it needs."""
    import roboao_assets.pipelines.observation  # noqa: F401

    return describe_process()


def describe_process() -> dict[str, object]:
    """What this process would make products with, and where it is."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "code_versions": CODE_VERSIONS,
        # A task brings its settings: a worker must know each of them.
        "settings": sorted(Settings.model_fields),
        # Its credentials do not come with the tasks.
        "catalogue": catalogue_place(),
    }
