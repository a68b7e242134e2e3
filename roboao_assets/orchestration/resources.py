"""What the assets are given: the settings, the partitions and the cluster."""

from dataclasses import dataclass

import dagster as dg

from roboao_assets.orchestration.cluster import ObservationCluster
from roboao_assets.orchestration.partitions import ArchivePartitions, load_partitions
from roboao_assets.storage.settings import Settings


class StageConfig(dg.Config):
    """What can be asked of a stage in the launchpad."""

    force: bool = False
    """Make the product again even if nothing that it is made from has changed."""


@dataclass(frozen=True, kw_only=True)
class CodeLocation:
    """One loading of the code location: what everything in it is built from.

    The settings are not a configurable Dagster resource, as their values, a database
    password among them, would then be shown on its pages.
    """

    settings: Settings
    partitions: ArchivePartitions

    @property
    def cluster(self) -> ObservationCluster:
        """The cluster that observations are reduced on."""
        return ObservationCluster(self.settings)


def load_code_location(settings: Settings) -> CodeLocation:
    """Read what the definitions are built from."""
    return CodeLocation(settings=settings, partitions=load_partitions(settings))
