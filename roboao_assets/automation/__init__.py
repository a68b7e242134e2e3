"""What happens by itself: jobs, and the sensors that start them.

raw files -> `raw_nights` -> calibrate_night -> `calibrated_nights` -> reduce_observations
-> `reduced_nights` -> summarise_night.

Beside this flow stand `requests` (what operators ask for, what failed and may pass),
`products_on_disk` (what was made and has gone or changed), `psf_library_changes`, and
`dead_runs` and `old_run_logs`, which start nothing.

Sensors and not automation conditions: a condition on every observation costs a
hundred megabytes of schedule storage a night (docs/adr/0001-dagster.md). Every step
is idempotent: what is up to date is left alone, so a run too many costs little.
"""

import dagster as dg

from roboao_assets.automation.dead_runs import build_dead_runs_sensor
from roboao_assets.automation.following import build_following_sensors
from roboao_assets.automation.jobs import ArchiveJobs
from roboao_assets.automation.products_on_disk import build_products_on_disk_sensor
from roboao_assets.automation.psf_library import build_psf_library_sensor
from roboao_assets.automation.raw_nights import build_raw_nights_sensor
from roboao_assets.automation.requests import build_requests_sensor
from roboao_assets.automation.run_logs import build_run_logs_sensor
from roboao_assets.orchestration.resources import CodeLocation


def build_sensors(location: CodeLocation, jobs: ArchiveJobs) -> list[dg.SensorDefinition]:
    """Return the sensors."""
    return [
        build_raw_nights_sensor(location, jobs),
        *build_following_sensors(location, jobs),
        build_requests_sensor(location, jobs),
        build_products_on_disk_sensor(location, jobs),
        build_psf_library_sensor(location, jobs),
        build_dead_runs_sensor(location),
        build_run_logs_sensor(location),
    ]
