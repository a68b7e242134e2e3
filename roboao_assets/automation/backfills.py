"""Nights that are to be done again, a month of them say: behind everything else in the queue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import requests
from dagster_graphql import DagsterGraphQLClientError

from roboao_assets.automation.jobs import CALIBRATION_ASSETS, REDUCTION_STEP, step_config
from roboao_assets.automation.tags import (
    BACKFILL_TAG,
    NIGHT_TAG,
    PARTITION_TAG,
    backfill_tags,
    range_tags,
)
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.orchestration.webserver import webserver_client
from roboao_assets.pipelines.redo import with_dependents
from roboao_assets.science.errors import ArchiveError

_TIMEOUT_S = 60
# In the order of a night.
JOBS = ("calibrate_night", "reduce_observations", "summarise_night")


class BackfillError(ArchiveError):
    """No backfill of these nights, or none from here."""


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """What was put into the queue.

    Attributes
    ----------
    name : str
        Its runs, and those that follow them, have it as the tag ``roboao/backfill``.
    nights : tuple of str
        Newest first.
    """

    name: str
    nights: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NightProgress:
    """How far a backfill is with a night.

    Attributes
    ----------
    night : str
    statuses : tuple of str
        Of the newest run of each of `JOBS`, in Dagster's words; "" if there is none (yet).
    """

    night: str
    statuses: tuple[str, ...]

    @property
    def state(self) -> str:
        """In a word: ``waits``, ``under way``, ``done`` or ``failed``."""
        told = [status for status in self.statuses if status]
        if set(told) & {"FAILURE", "CANCELED"}:
            return "failed"
        # The last of the jobs is what everything comes to.
        if self.statuses[-1] == "SUCCESS":
            return "done"
        return "waits" if set(told) <= {"QUEUED", "NOT_STARTED"} else "under way"


def known_nights(location: CodeLocation, first: str, last: str) -> tuple[str, ...]:
    """Return the nights of the archive from `first` to `last`, newest first.

    Raises
    ------
    BackfillError
        If there is none.
    """
    if first > last:
        raise BackfillError(f"{first} is later than {last}; give the earlier night first")
    nights = list(location.partitions.manifest.nights)
    found = tuple(sorted((n for n in nights if first <= n <= last), reverse=True))
    if not found:
        what = first if first == last else f"no night from {first} to {last}"
        near = [*[n for n in nights if n < first][-1:], *[n for n in nights if n > last][:1]]
        there = f"the nearest are {', '.join(near)}" if near else "it knows no night at all"
        raise BackfillError(
            f"the archive does not know {what}; {there}. `roboao register` enters new ones"
        )
    return found


def launch_backfill(
    location: CodeLocation,
    nights: Sequence[str],
    *,
    stages: Iterable[str] = (),
    force: bool = False,
    new_code: bool = False,
) -> Backfill:
    """Put a run for each of `nights` into the queue of the deployment that is running.

    Parameters
    ----------
    location : CodeLocation
    nights : sequence of str
        Newest first (`known_nights`).
    stages : iterable of str
        Products of observations, which are made with all that depends on them; by default the
        whole night is gone through, from its masters to its summaries.
    force, new_code : bool
        See `StageConfig`; for all runs of the backfill.

    Raises
    ------
    BackfillError
        If the webserver does not answer, or refuses a run: those before it are in the queue.
    """
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    selected = sorted(with_dependents(stages))
    done: list[str] = []
    url = location.settings.resolved_dagster_webserver
    try:
        client = webserver_client(url, timeout_s=_TIMEOUT_S)
        for night in nights:
            tags = backfill_tags(night, name, force=force, new_code=new_code)
            ends = range_tags(location, night)
            if selected and ends is not None:
                config = step_config((REDUCTION_STEP,), force=force, new_code=new_code)
                client.submit_job_execution(
                    "reduce_observations",
                    run_config=config,
                    tags={**ends, **tags},
                    asset_selection=selected,
                )
            elif not selected:
                config = step_config(CALIBRATION_ASSETS, force=force, new_code=new_code)
                client.submit_job_execution(
                    "calibrate_night", run_config=config, tags={PARTITION_TAG: night, **tags}
                )
            done.append(night)
    except (DagsterGraphQLClientError, requests.exceptions.RequestException, OSError) as error:
        raise BackfillError(
            f"the Dagster webserver at {url} did not take the run of {nights[len(done)]} "
            f"({_in_short(error)}); {len(done)} nights are in the queue. Start it (roboao serve), "
            f"or set dagster_port or dagster_webserver to where it is"
        ) from error
    return Backfill(name=name, nights=tuple(done))


def _in_short(error: Exception) -> str:
    # The client's message holds its whole query; what is behind it says more.
    cause = error.__cause__ or error
    first_line = (str(cause).splitlines() or [""])[0]
    return f"{type(cause).__name__}: {first_line}"


def backfill_names(instance: dg.DagsterInstance) -> list[str]:
    """Names of all backfills, those launched on Dagster's pages among them; the newest last."""
    tags = instance.get_run_tags([BACKFILL_TAG])
    names = [name for _, values in tags for name in values]
    first_run = {name: _runs(instance, name)[-1].create_timestamp for name in names}
    return sorted(names, key=first_run.__getitem__)


def backfill_progress(instance: dg.DagsterInstance, name: str) -> list[NightProgress]:
    """Return how far the backfill `name` is with each of its nights, newest first."""
    statuses: dict[str, dict[str, str]] = {}
    # The newest run comes first, and is what counts.
    for record in _runs(instance, name):
        run = record.dagster_run
        night = statuses.setdefault(run.tags.get(NIGHT_TAG, "-"), {})
        night.setdefault(run.job_name, run.status.value)
    return [
        NightProgress(night=night, statuses=tuple(by_job.get(job, "") for job in JOBS))
        for night, by_job in sorted(statuses.items(), reverse=True)
    ]


def _runs(instance: dg.DagsterInstance, name: str) -> Sequence[dg.RunRecord]:
    return instance.get_run_records(dg.RunsFilter(tags={BACKFILL_TAG: name}))
