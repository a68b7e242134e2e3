"""A new Dagster instance is told what the archive has: nothing need be reduced again for it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from roboao_assets.orchestration.events import (
    materialization,
    night_page,
    observation_page,
    outcome_metadata,
)
from roboao_assets.orchestration.provenance import DATA_VERSION_TAG, ProvenanceTags
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.redo import NIGHT_STAGES, PRODUCT_OF_STAGE, RECORD_OF_STAGE
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery, product
from roboao_assets.storage.psf_candidates import candidate_record

_SECTION_OF_STAGE = {
    "raw_night": "raw",
    "seeing": "seeing",
    "strehl_summary": "strehl",
    "contrast_summary": "contrast_curve",
    "night_report": "report",
}
_SUMMARIES = ("strehl_summary", "contrast_summary", "night_report")
_MASTERS = {"master_darks": "dark_", "master_flats": "flat_"}


def report_night(
    instance: dg.DagsterInstance,
    location: CodeLocation,
    catalogue: Catalogue,
    specs: list[dg.AssetSpec],
    night: str,
) -> int:
    """Report what the catalogue has of a night and the instance does not know.

    Parameters
    ----------
    instance : dagster.DagsterInstance
    location : CodeLocation
    catalogue : Catalogue
    specs : list of dagster.AssetSpec
        Of the observation's products, in the order of the flow.
    night : str

    Returns
    -------
    int
        Events that were reported.
    """
    stages = [spec.key.to_user_string() for spec in specs]
    provenance = ProvenanceTags(instance, location.partitions, specs)
    document = catalogue.night(night) or {}

    def report_own(names: Iterable[str]) -> int:
        return sum(
            _report_own(instance, night, stage, identity, night_page(location.settings, night))
            for stage in names
            if (identity := _night_identity(document, stage))
        )

    # Upstream first: of what carries no provenance, Dagster goes by the times.
    reported = report_own(NIGHT_STAGES)
    query = ObservationQuery(nights=(night,), summary_only=True, sort=("date_utc", True))
    for observation in catalogue.find_observations(query):
        name = observation["_id"]
        if name not in location.partitions.places:
            continue
        for outcome in _observation_outcomes(catalogue, night, observation, stages):
            if not _is_known(instance, outcome, name):
                event = materialization(
                    name,
                    outcome,
                    provenance.tags(name, outcome),
                    observation_page(location.settings, name),
                )
                instance.report_runless_asset_event(event)
                reported += 1
    return reported + report_own(_SUMMARIES)


def _report_own(
    instance: dg.DagsterInstance, night: str, stage: str, identity: str, page: str
) -> bool:
    outcome = StageOutcome(stage=stage, status="unchanged", fingerprint=identity)
    if _is_known(instance, outcome, night):
        return False
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            stage,
            partition=night,
            metadata=outcome_metadata(outcome, page),
            tags={DATA_VERSION_TAG: identity},
        )
    )
    return True


def _is_known(instance: dg.DagsterInstance, outcome: StageOutcome, partition: str) -> bool:
    record = instance.get_latest_data_version_record(dg.AssetKey(outcome.stage), False, partition)
    tags = record.event_log_entry.tags if record is not None else None
    return bool(tags) and tags.get(DATA_VERSION_TAG) == outcome.fingerprint


def _night_identity(document: Mapping[str, Any], stage: str) -> str:
    """Fingerprint of a night's product as its stage told it; "" if there is none."""
    if stage in _SECTION_OF_STAGE:
        return str((document.get(_SECTION_OF_STAGE[stage]) or {}).get("fingerprint") or "")
    masters = (document.get("calib") or {}).get("masters") or {}
    if stage == "bad_pixel_mask":
        return str((masters.get("bad_pixels") or {}).get("fingerprint") or "")
    prefix = _MASTERS[stage]
    own = sorted(r["fingerprint"] for name, r in masters.items() if name.startswith(prefix))
    return fingerprint(stage, own) if own else ""


def _observation_outcomes(
    catalogue: Catalogue, night: str, document: Mapping[str, Any], stages: list[str]
) -> Iterator[StageOutcome]:
    for stage in stages:
        if stage == "psf_candidate":
            record, status = candidate_record(catalogue, night, document["_id"]), {}
        elif stage == "distribution_package":
            package = document.get("distributed") or {}
            record, status = (package if package.get("status") else {}), package
        else:
            record = product(document, RECORD_OF_STAGE.get(stage, ""))
            of_status = product(document, PRODUCT_OF_STAGE.get(stage, ""))
            status = of_status if stage.endswith("preview") else of_status.get("status") or {}
        made, reason = str(record.get("fingerprint") or ""), str(status.get("reason") or "")
        if made:
            yield StageOutcome(stage=stage, status="unchanged", fingerprint=made)
        elif reason and not status.get("retries"):
            yield StageOutcome(
                stage=stage,
                status="skipped",
                reason=reason,
                fingerprint=fingerprint(stage, "skipped", reason),
            )
