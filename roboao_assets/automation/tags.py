"""Tags of runs: which night they are of, how urgent they are, and what they cover."""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster import DagsterRunStatus

from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.orchestration.run_process import NIGHT_TAG

# Runs of `roboao night` go through all three jobs themselves: no sensor follows them.
FOREGROUND_TAG = "roboao/foreground"
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PRIORITY_TAG = "dagster/priority"

# What an operator waits for comes before any night; nights have their date as priority.
OPERATORS_PRIORITY = "99999999"

# An archive of a thousand nights is taken in newest first: the queue is kept short, so that
# last night need not wait behind it.
MAX_ACTIVE_NIGHTS = 20

_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def night_tags(night: str) -> dict[str, str]:
    """Tags of every run of a night: newer nights come first, and one run of a night at a time."""
    return {NIGHT_TAG: night, PRIORITY_TAG: night}


def range_tags(location: CodeLocation, night: str) -> dict[str, str] | None:
    """Tags that make a run reduce all observations of `night`; None if it has none."""
    ends = location.partitions.observation_range(night)
    if ends is None:
        return None
    return {RANGE_START_TAG: ends[0], RANGE_END_TAG: ends[1]}


def observations_of_run(location: CodeLocation, tags: Mapping[str, str]) -> Sequence[str]:
    """Observations that a run with these tags reduces, in time order."""
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG)
    last = tags.get(RANGE_END_TAG) or first
    places = location.partitions.places
    if first not in places or last not in places:
        return ()
    return location.partitions.observation_keys[places[first] : places[last] + 1]


def nights_of_run(location: CodeLocation, tags: Mapping[str, str]) -> list[str]:
    """Nights whose observations a run with these tags has reduced."""
    night_by_observation = location.partitions.manifest.night_by_observation
    observations = observations_of_run(location, tags)
    return list(dict.fromkeys(night_by_observation[o] for o in observations))


def active_nights(instance: dg.DagsterInstance) -> set[str]:
    """Nights of which a run waits or is under way."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED))
    return {
        record.dagster_run.tags[NIGHT_TAG]
        for record in records
        if NIGHT_TAG in record.dagster_run.tags
    }
