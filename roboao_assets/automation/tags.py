"""Tags of runs: which night they are of, how urgent they are, and what they cover."""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster import DagsterRunStatus

from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.orchestration.run_process import NIGHT_TAG

# Runs of `roboao night` go through all three jobs themselves: no sensor follows them.
FOREGROUND_TAG = "roboao/foreground"
# Runs that failed while the catalogue was away: what they have not come to is to be asked for.
UNSETTLED_TAG = "roboao/unsettled"
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PRIORITY_TAG = "dagster/priority"
# Of a backfill's runs, and of those that follow them: which one.
BACKFILL_TAG = "roboao/backfill"
# Dagster's own, of the backfills that are launched on its pages.
PAGES_BACKFILL_TAG = "dagster/backfill"
# What was asked of the first run of a backfill, for those that follow it.
FORCE_TAG = "roboao/force"
NEW_CODE_TAG = "roboao/new_code"

# What an operator waits for comes before any night; nights have their date as priority.
OPERATORS_PRIORITY = "99999999"

# Added to a night's priority in a backfill: it comes after every night of the sensors, and after
# what is launched on Dagster's pages, whose priority is 0; the newest of its nights still first.
_BACKFILL_PRIORITY = -100_000_000

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


def backfill_tags(
    night: str, name: str, *, force: bool = False, new_code: bool = False
) -> dict[str, str]:
    """Tags of a run of the backfill `name`; those that follow it get them by `following_tags`."""
    asked = {FORCE_TAG: force, NEW_CODE_TAG: new_code}
    return {
        NIGHT_TAG: night,
        PRIORITY_TAG: str(int(night) + _BACKFILL_PRIORITY),
        BACKFILL_TAG: name,
        **{tag: "true" for tag, wanted in asked.items() if wanted},
    }


def following_tags(tags: Mapping[str, str], night: str) -> dict[str, str]:
    """Tags of a run of `night` that goes on where one with `tags` has ended: as urgent as that."""
    handed_on = (PRIORITY_TAG, BACKFILL_TAG, FORCE_TAG, NEW_CODE_TAG)
    own = night_tags(night)
    if PAGES_BACKFILL_TAG in tags:
        # Under a tag of ours: Dagster counts the runs under its own.
        own |= {PRIORITY_TAG: "0", BACKFILL_TAG: tags[PAGES_BACKFILL_TAG]}
    return own | {tag: tags[tag] for tag in handed_on if tag in tags}


def asked_of(tags: Mapping[str, str]) -> dict[str, bool]:
    """Return what the runs of a stage with these tags are asked for (`StageConfig`)."""
    return {"force": FORCE_TAG in tags, "new_code": NEW_CODE_TAG in tags}


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
    """Nights of which a run waits or is under way.

    Not those that only wait in a backfill: it may take days, and holds up neither what arrives
    nor what somebody asks for. (Of one night, the queue lets out one run at a time.)
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED))
    return {
        record.dagster_run.tags[NIGHT_TAG]
        for record in records
        if NIGHT_TAG in record.dagster_run.tags and not _waits_in_backfill(record.dagster_run)
    }


def _waits_in_backfill(run: dg.DagsterRun) -> bool:
    waits = run.status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED)
    return waits and bool({BACKFILL_TAG, PAGES_BACKFILL_TAG} & set(run.tags))
