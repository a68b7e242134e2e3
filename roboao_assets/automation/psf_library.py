"""What follows a change of the PSF library."""

import json
from typing import Any

import dagster as dg

from roboao_assets.automation.jobs import ArchiveJobs
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary, PsfLibraryError


def build_psf_library_sensor(location: CodeLocation, jobs: ArchiveJobs) -> dg.SensorDefinition:
    """Return the sensor that looks whether the library was changed."""
    library = PsfLibrary(ArchivePaths(location.settings.archive_root.absolute()).psf_library)

    @dg.sensor(
        name="psf_library_changes",
        job=jobs.follow_psf_library,
        minimum_interval_seconds=location.settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After a change of the PSF library, tells which observations are stale. "
        "Nothing is redone.",
    )
    def psf_library_changes(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            seen = library.path.stat()
        except FileNotFoundError:
            return dg.SkipReason(f"there is no PSF library {library.path} yet")
        before: dict[str, Any] = json.loads(context.cursor or "{}")
        written = [seen.st_mtime_ns, seen.st_size]
        if before.get("written") == written:
            return dg.SkipReason("the PSF library was not changed")
        try:
            # A star removed and added again is the same library, and two changes more.
            content = f"{library.fingerprint()}:{len(library.history())}"
        except PsfLibraryError as error:
            return dg.SkipReason(str(error))
        cursor = json.dumps({"written": written, "content": content})
        if before.get("content") == content:
            return dg.SensorResult(skip_reason="the PSF library is as it was", cursor=cursor)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=content)], cursor=cursor)

    return psf_library_changes
