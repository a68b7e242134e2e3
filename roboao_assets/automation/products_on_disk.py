"""The sensor that looks after what was made: is it still there, and still what it was?"""

import time

import dagster as dg

from roboao_assets.automation.jobs import ArchiveJobs
from roboao_assets.automation.tags import active_nights
from roboao_assets.orchestration.readiness import why_not_now
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.inspection import inspect_night
from roboao_assets.pipelines.rebuilding import refresh_records
from roboao_assets.pipelines.redo import BY_ARCHIVE, take_package_wish
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue
from roboao_assets.storage.paths import ArchivePaths

# Of one tick: an archive of a thousand nights is gone round in some ten minutes.
_TIME_LIMIT_S = 2.0


def build_products_on_disk_sensor(location: CodeLocation, jobs: ArchiveJobs) -> dg.SensorDefinition:
    """Return the sensor that goes round the nights and asks for what has gone or changed."""
    settings = location.settings

    @dg.sensor(
        name="products_on_disk",
        job=jobs.reduce_observations,
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Goes round the nights, some at a time: products that were changed or "
        "removed on disk are asked for again.",
    )
    def products_on_disk(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        not_now = why_not_now(settings, location.now())
        if not_now:
            return dg.SensorResult(skip_reason=not_now, cursor=context.cursor)
        end = time.monotonic() + _TIME_LIMIT_S
        paths = ArchivePaths(settings.archive_root.absolute())
        looked, asked, last = 0, 0, context.cursor or ""
        active = active_nights(context.instance)
        with open_catalogue(settings.resolved_catalogue_url) as catalogue:
            nights = [row.night for row in catalogue.nights()]
            # Newest first; after the oldest comes the newest again.
            for night in [n for n in nights if n < last] or nights:
                if time.monotonic() > end:
                    break
                looked, last = looked + 1, night
                if night in active:
                    continue
                # Operators change documents by any client: their copies follow.
                refresh_records(catalogue, paths, night)
                held_back = ObservationQuery(nights=(night,), distributed=False, summary_only=True)
                for document in catalogue.find_observations(held_back):
                    take_package_wish(catalogue, document)
                for broken in inspect_night(catalogue, paths, night):
                    asked += 1
                    catalogue.requests.ask(
                        broken.subject,
                        night,
                        [broken.stage],
                        by=BY_ARCHIVE,
                        why=broken.reason,
                        force=False,
                    )
        found = f"{asked} products were changed or removed" if asked else "all is in order"
        return dg.SensorResult(
            skip_reason=f"{looked} nights down to {last or '-'}: {found}", cursor=last
        )

    return products_on_disk
