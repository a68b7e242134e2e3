"""The two partition definitions of the archive and how they map: nights and observations.

Both are static and made from the manifest (`docs/adr/0001-dagster.md` says why
neither dynamic nor multi-dimensional partitions do). The observations stand in the
order of the manifest, so that those of a night are one contiguous range.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from roboao_assets.storage.manifest import Manifest, read_manifest, update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_scan import scan_raw_nights
from roboao_assets.storage.settings import Settings


@dataclass(frozen=True)
class ArchivePartitions:
    """Partitions of the nights and observations of `manifest`."""

    manifest: Manifest

    @cached_property
    def nights(self) -> dg.StaticPartitionsDefinition:
        """One partition a night, oldest first."""
        return dg.StaticPartitionsDefinition(list(self.manifest.nights))

    @cached_property
    def observations(self) -> dg.StaticPartitionsDefinition:
        """One partition an observation, in time order."""
        return dg.StaticPartitionsDefinition(self.observation_keys)

    @cached_property
    def observation_keys(self) -> list[str]:
        """Every observation, in time order."""
        return list(self.manifest.night_by_observation)

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of every observation in that order, from 0."""
        return {observation: place for place, observation in enumerate(self.observation_keys)}

    @cached_property
    def night_to_observations(self) -> dg.StaticPartitionMapping:
        """From what a night has (masters) to what is made of its observations."""
        return dg.StaticPartitionMapping(
            {night: list(observations) for night, observations in self.manifest.nights.items()}
        )

    @cached_property
    def observations_to_night(self) -> dg.StaticPartitionMapping:
        """From what observations have to the summaries of their night."""
        return dg.StaticPartitionMapping(self.manifest.night_by_observation)

    def observation_range(self, night: str) -> tuple[str, str] | None:
        """First and last observation of `night`; None if it has none."""
        observations = self.manifest.nights.get(night, ())
        return (observations[0], observations[-1]) if observations else None


def load_partitions(settings: Settings) -> ArchivePartitions:
    """Read the manifest and make the partitions of it.

    An archive without a manifest gets one from the raw folders, once: so that the
    first command in a fresh archive knows its nights. Afterwards the raw folders are
    never looked at here; `roboao_assets.automation` adds what is new.
    """
    path = ArchivePaths(settings.archive_root.absolute()).manifest
    if not path.exists() and settings.raw_roots:
        register_raw_nights(settings)
    return ArchivePartitions(read_manifest(path))


def register_raw_nights(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """Enter what stands in the raw roots in the manifest.

    Returns
    -------
    mapping of str to tuple of str
        All known nights and their observations.
    """
    path = ArchivePaths(settings.archive_root.absolute()).manifest
    nights = scan_raw_nights(settings.raw_roots, settings.archiving_start_date, settings.settle_s)
    found = {night: scan.observations for night, scan in nights.items()}
    return (update_manifest(path, found) if found else read_manifest(path)).nights
