"""A night of observations on two workers of a Dask cluster against one."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

from distributed import Client

from benchmarks.nights import MAIN_STAGES, NIGHT, BenchNight, check, forget, make_night, reduce_cold
from benchmarks.rows import Goal, Options, Row, interleave, timed
from roboao_assets.orchestration.cluster import ObservationCluster
from roboao_assets.orchestration.observation_runs import ObservationRun
from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
from roboao_assets.pipelines.outcome import StageOutcome

WORKERS_GOAL = Goal(limit=1.8, at_least=True)
TARGETS, FRAMES = 6, 60
MOST_REPEATS = 3


def measure(options: Options) -> Iterator[Row]:
    """Yield the gain of the second worker: from the submission to the last result, workers warm."""
    frames = min(FRAMES, options.frames)
    night = make_night(options, targets=TARGETS, frames=frames)
    targets = len(night.observations)
    with ExitStack() as clusters:
        clients = {
            workers: clusters.enter_context(_connect(night, workers, targets)) for workers in (1, 2)
        }
        for client in clients.values():
            _warm_up(client, night)
        pairs = interleave(
            lambda: run_night(clients[1], night),
            {"two": lambda: run_night(clients[2], night)},
            min(options.repeats, MOST_REPEATS),
        )["two"]
    yield Row(
        name="one worker / two workers, a night",
        values=tuple(1 / p.ratio for p in pairs),
        key="two_workers_over_one",
        goal=WORKERS_GOAL,
        note=f"{targets} observations of {options.described(frames)}, cold, kernels with 1 thread "
        f"a worker, {options.cores} cores",
    )
    yield Row(name="  one worker", values=tuple(p.baseline for p in pairs), unit="s")
    yield Row(name="  two workers", values=tuple(p.seconds for p in pairs), unit="s")


def _connect(night: BenchNight, workers: int, tasks: int) -> AbstractContextManager[Client]:
    settings = night.settings(night.masters, workers=workers, threads=1)
    return ObservationCluster(settings).connect(tasks)


def _warm_up(client: Client, night: BenchNight) -> None:
    """Let every worker reduce the first observation, each in an archive of its own."""
    observation = night.observations[0].id
    warmed = [
        client.submit(reduce_cold, night, observation, threads=1, pure=False, workers=[worker])
        for worker in client.nthreads()
    ]
    client.gather(warmed)


def run_night(client: Client, night: BenchNight) -> float:
    """Seconds in which a client's workers reduce the observations of a cold night."""
    observations = night.observations
    results: dict[str, list[StageOutcome]] = {}
    with night.new_archive(threads=1) as settings:
        run_id = uuid.uuid4().hex
        rules = TaskRules(
            run_id=run_id,
            owner=f"run {run_id}",
            settings_json=settings.model_dump_json(),
            force=False,
            time_limit_s=settings.stage_timeout_s,
        )
        tasks = [
            ObservationTask(night=NIGHT, observation=exposure.id, stages=MAIN_STAGES)
            for exposure in observations
        ]
        forget(path for exposure in observations for path in exposure.files)
        run = ObservationRun(client, rules)
        seconds = timed(lambda: results.update(run.outcomes(tasks)))
    for outcomes in results.values():
        check(outcomes, MAIN_STAGES)
    if len(results) != len(tasks):
        raise RuntimeError(f"{len(results)} of {len(tasks)} observations came back")
    return seconds
