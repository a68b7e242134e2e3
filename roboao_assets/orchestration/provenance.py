"""What a product was made from, in Dagster's own words: its pages tell by it what is stale.

An event that is logged by hand carries no provenance, and Dagster then goes by times: a
product looked stale whenever something upstream was looked at again. These are the tags
that Dagster itself gives to what it yields (`dagster._core.definitions.data_version`).
"""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DEFAULT_DATA_VERSION,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

from roboao_assets.orchestration.partitions import ArchivePartitions
from roboao_assets.pipelines.outcome import StageOutcome

# The tag that decides whether what was made from a product is stale.
DATA_VERSION_TAG = "dagster/data_version"
_LIBRARY = dg.AssetKey("psf_library")


class ProvenanceTags:
    """Tags of the products of observations, one run long.

    Parameters
    ----------
    instance : dagster.DagsterInstance
    partitions : ArchivePartitions
    specs : iterable of dagster.AssetSpec
        Of the observation's products; they tell what each is made from.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        partitions: ArchivePartitions,
        specs: Iterable[dg.AssetSpec],
    ) -> None:
        self._instance = instance
        self._nights = partitions.manifest.night_by_observation
        self._of_observation = {spec.key for spec in specs}
        self._inputs = {
            spec.key.to_user_string(): [dep.asset_key for dep in spec.deps] for spec in specs
        }
        # Of the masters and the library: asked for once a run.
        self._known: dict[tuple[dg.AssetKey, str | None], tuple[str, str]] = {}

    def tags(self, observation: str, outcome: StageOutcome) -> dict[str, str]:
        """Return the tags of the event that says that a product is there."""
        if not outcome.fingerprint:
            return {}
        tags = {
            DATA_VERSION_TAG: outcome.fingerprint,
            DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
            # Of what was kept, the version that made it.
            CODE_VERSION_TAG: outcome.fingerprint.partition("-")[0],
        }
        for key in self._inputs.get(outcome.stage, ()):
            version, pointer = self._latest(key, observation)
            tags[get_input_data_version_tag(key)] = version
            tags[get_input_event_pointer_tag(key)] = pointer
        return tags

    def _latest(self, key: dg.AssetKey, observation: str) -> tuple[str, str]:
        if key in self._of_observation:
            return self._look_up(key, observation)
        partition = None if key == _LIBRARY else self._nights[observation]
        if (key, partition) not in self._known:
            self._known[key, partition] = self._look_up(key, partition)
        return self._known[key, partition]

    def _look_up(self, key: dg.AssetKey, partition: str | None) -> tuple[str, str]:
        # The library is observed, everything else is made.
        observed = key == _LIBRARY
        record = self._instance.get_latest_data_version_record(key, observed, partition)
        if record is None:
            missing = DEFAULT_DATA_VERSION if observed else NULL_DATA_VERSION
            return missing.value, NULL_EVENT_POINTER
        version = extract_data_version_from_entry(record.event_log_entry) or NULL_DATA_VERSION
        return version.value, str(record.storage_id)
