"""The sensor that takes in what the telescope has written: newest night first."""

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg

from roboao_assets.automation.jobs import CALIBRATION_ASSETS, ArchiveJobs, step_config
from roboao_assets.automation.tags import MAX_ACTIVE_NIGHTS, active_nights, night_tags
from roboao_assets.orchestration.readiness import why_not_now
from roboao_assets.orchestration.reloading import ask_for_reload
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery, open_catalogue
from roboao_assets.storage.manifest import update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_scan import NightScan, RecentFiles, scan_raw_nights

# What a night that waits for its calibration can do without it.
_WITHOUT_MASTERS = ("raw_night", "seeing")
# A tick is short: of a cursor that was lost, the rest of the nights is looked up by the next ones.
_LOOK_UP_S = 1.5


@dataclass
class _Cursor:
    """What the sensor remembers from tick to tick.

    `started`: run key and calibration files of each night at the last start;
    `recent`: files that were written lately, as they were at the last tick.
    """

    started: dict[str, list[str]] = field(default_factory=dict)
    recent: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, text: str | None) -> "_Cursor":
        values: dict[str, Any] = json.loads(text or "{}")
        if "started" not in values:
            # Of an older version: night to run key.
            return cls(started={night: [str(key), ""] for night, key in values.items()})
        return cls(**values)

    def dump(self, scans: Mapping[str, NightScan]) -> str:
        started = {night: value for night, value in self.started.items() if night in scans}
        recent = {night: dict(scan.recent) for night, scan in scans.items() if scan.recent}
        return json.dumps({"started": started, "recent": recent})


def build_raw_nights_sensor(location: CodeLocation, jobs: ArchiveJobs) -> dg.SensorDefinition:
    """Return the sensor that looks at the raw roots."""
    settings = location.settings

    @dg.sensor(
        name="raw_nights",
        job=jobs.calibrate_night,
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes new and changed raw nights in: newest first, settled files only.",
    )
    def raw_nights(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if not settings.raw_roots:
            return dg.SkipReason("no raw roots are configured (setting raw_roots)")
        cursor = _Cursor.load(context.cursor)
        scans = _scan(location, cursor.recent)
        path = ArchivePaths(settings.archive_root.absolute()).manifest
        found = {night: scan.observations for night, scan in scans.items()}
        if update_manifest(path, found) != location.partitions.manifest:
            origin = context.code_location_origin
            name = origin.location_name if origin else "roboao_assets"
            answer = ask_for_reload(name, settings.resolved_dagster_webserver)
            if answer.done:
                reason = "new nights or observations: the code location was reloaded"
                return dg.SensorResult(skip_reason=reason, cursor=cursor.dump(scans))
            context.log.warning(answer.reason)
        not_now = why_not_now(settings, location.now())
        requests = []
        if not not_now:
            active = active_nights(context.instance)
            # Once for all nights: where the cursor was lost, a thousand of them are looked up.
            with open_catalogue(settings.resolved_catalogue_url) as catalogue:
                requests = list(_requests(location, catalogue, scans, cursor, active))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else not_now or _nothing_new(location, scans, cursor),
            cursor=cursor.dump(scans),
        )

    return raw_nights


def _scan(location: CodeLocation, recent: Mapping[str, RecentFiles]) -> dict[str, NightScan]:
    settings = location.settings
    return scan_raw_nights(
        settings.raw_roots,
        settings.archiving_start_date,
        settings.settle_s,
        location.now().timestamp(),
        before=recent,
        end_of_night=settings.end_of_night,
    )


def _nothing_new(location: CodeLocation, scans: Mapping[str, NightScan], cursor: _Cursor) -> str:
    arriving = sum(scan.n_arriving for scan in scans.values())
    gone = [night for night in location.partitions.manifest.nights if night not in scans]
    said = [f"nothing new in {len(scans)} nights"]
    unseen = sum(night not in cursor.started for night, scan in scans.items() if scan.n_files)
    if unseen:
        said.append(f"{unseen} of them are looked up at the next ticks")
    if arriving:
        said.append(f"{arriving} files are still arriving")
    if gone:
        said.append(
            f"{len(gone)} known nights have no raw folder any more ({', '.join(gone[-3:])}): "
            f"their products are kept"
        )
    return "; ".join(said)


def _requests(
    location: CodeLocation,
    catalogue: Catalogue,
    scans: Mapping[str, NightScan],
    cursor: _Cursor,
    active: set[str],
) -> Iterator[dg.RunRequest]:
    known = location.partitions.manifest
    tried = _NightsTried(catalogue)
    room = MAX_ACTIVE_NIGHTS - len(active)
    latest = time.monotonic() + _LOOK_UP_S
    for night, scan in scans.items():
        run_key = f"{night}:{len(scan.observations)}:{scan.fingerprint}"
        before = cursor.started.get(night, ["", ""])
        if room <= 0:
            return
        if not scan.n_files or night in active or before[0] == run_key:
            continue
        if night not in known.nights or not set(scan.observations) <= set(known.nights[night]):
            continue
        if not before[0]:
            if time.monotonic() > latest:
                return
            if is_done(catalogue, tried, night, scan):
                # The cursor was lost, not the night.
                cursor.started[night] = [run_key, scan.calibration]
                continue
        room -= 1
        assets = CALIBRATION_ASSETS
        if before[1] == scan.calibration and waits_for_calibration(catalogue, night):
            assets = _WITHOUT_MASTERS
        cursor.started[night] = [run_key, scan.calibration]
        yield dg.RunRequest(
            run_key=run_key,
            partition_key=night,
            tags=night_tags(night),
            asset_selection=[dg.AssetKey(name) for name in assets],
            run_config=step_config(assets, new_code=False),
        )


class _NightsTried:
    """Nights of which every observation was made, or failed: counted once, if anybody asks."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @cached_property
    def _nights(self) -> set[str]:
        return {
            row.night
            for row in self._catalogue.nights()
            if row.done + row.failed == row.observations
        }

    def all_of(self, night: str, observations: Collection[str]) -> bool:
        """Whether each of `observations`, which are all that the night has, was tried."""
        if night in self._nights:
            return True
        # Of some, all was left out for a reason: they count as neither.
        query = ObservationQuery(nights=(night,), summary_only=True)
        found = self._catalogue.find_observations(query)
        return set(observations) <= {d["_id"] for d in found if d.get("pipelined")}


def is_done(catalogue: Catalogue, tried: _NightsTried, night: str, scan: NightScan) -> bool:
    """Whether the catalogue says that a night was gone through with the files that it has."""
    document = catalogue.night(night) or {}
    if (document.get("raw") or {}).get("scan") != scan.fingerprint:
        return False
    if not document.get("report") or waits_for_calibration(catalogue, night):
        return False
    return tried.all_of(night, scan.observations)


def waits_for_calibration(catalogue: Catalogue, night: str) -> bool:
    """Whether the masters of a night could not be made, for want of files."""
    calibration = (catalogue.night(night) or {}).get("calib") or {}
    return bool(calibration.get("reason")) and calibration.get("done") is not True
