"""What the tests let a Dask worker do in place of a reduction: each a way to end."""

import os
import time

from roboao_assets.orchestration.observation_task import (
    ObservationTask,
    TaskRules,
    progress_teller,
    tell_begun,
)
from roboao_assets.pipelines.outcome import StageOutcome


def do_what_the_name_says(rules: TaskRules, task: ObservationTask) -> list[StageOutcome]:
    tell_begun(rules, task)
    name = task.observation
    if name.startswith("kills_its_worker"):
        # Its word that it has begun goes out a moment later than said.
        time.sleep(0.5)
        os._exit(9)
    if name.startswith("hangs"):
        time.sleep(600)
    if name.startswith("raises"):
        raise ZeroDivisionError("a defect")
    if name.startswith("slow"):
        time.sleep(2)
    if name.startswith("reads"):
        tell = progress_teller(rules, task, every_s=0.2)
        for frames in range(10, 101, 10):
            tell(frames, frames / 100)
            time.sleep(0.3)
    if name.startswith("unreachable_once") and task.attempt == 1:
        return [
            StageOutcome(stage=task.stages[0], status="done", fingerprint="first"),
            StageOutcome(
                stage=task.stages[1],
                status="failed",
                reason="the catalogue is away",
                retryable=True,
                error_type="CatalogueUnavailableError",
            ),
            # What holds the others' products had nothing to hold.
            *(StageOutcome(stage=stage, status="skipped") for stage in task.stages[2:]),
        ]
    return [
        StageOutcome(
            stage=stage,
            status="done",
            fingerprint=f"{rules.run_id}:{os.getpid()}",
            metadata={"attempt": task.attempt},
        )
        for stage in task.stages
    ]
