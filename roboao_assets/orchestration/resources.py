"""What the assets are given: the settings, the partitions and the cluster."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from roboao_assets.orchestration.cluster import ObservationCluster
from roboao_assets.orchestration.partitions import ArchivePartitions, load_partitions
from roboao_assets.storage.settings import Settings


class StageConfig(dg.Config):
    """What can be asked of a stage in the launchpad."""

    force: bool = False
    """Make the product again even if nothing that it is made from has changed."""

    new_code: bool = True
    """Make again also what an older version of the code has made."""

    def applied_to(self, settings: Settings) -> Settings:
        """Return `settings` with what was asked for."""
        return settings.model_copy(update={"redo_for_new_code": self.new_code})


@dataclass(frozen=True, kw_only=True)
class CodeLocation:
    """One loading of the code location: what everything in it is built from.

    The settings are not a configurable Dagster resource, as their values, a database
    password among them, would then be shown on its pages.
    """

    settings: Settings
    partitions: ArchivePartitions
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        """Return the time (aware): the clock's, or what a test has put in its place."""
        return self.clock()

    @property
    def cluster(self) -> ObservationCluster:
        """The cluster that observations are reduced on."""
        return ObservationCluster(self.settings)


def load_code_location(settings: Settings) -> CodeLocation:
    """Read what the definitions are built from."""
    return CodeLocation(settings=settings, partitions=load_partitions(settings))
