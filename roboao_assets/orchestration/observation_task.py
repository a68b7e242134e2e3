"""What a Dask worker runs: one observation. It imports no Dagster.

The functions here travel to the workers by name, so every worker and the
scheduler must have this package in the version of the run that sends them.
"""

import os
import socket

from distributed import get_worker

from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.outcome import StageOutcome


def reduce_on_worker(
    topic: str,
    key: str,
    settings_json: str,
    night: str,
    observation: str,
    stages: tuple[str, ...],
    force: bool,
) -> list[StageOutcome]:
    """Reduce an observation, after telling under `topic` that task `key` was begun.

    The time limit counts from that word, not from the submission: how long a task waits
    for a free worker says nothing about it.
    """
    worker = get_worker()
    worker.log_event(topic, {"key": key, "worker": worker.address})
    from roboao_assets.pipelines.observation import reduce_observation

    return reduce_observation(settings_json, night, observation, stages, force)


def describe_worker() -> dict[str, object]:
    """What this process would make products with: its code versions, and where it is."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "code_versions": CODE_VERSIONS}
