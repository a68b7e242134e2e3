"""What Dagster adds to the reduction of a night: a real run against the bare calls.

The observations are short quarter-frame ones, of which the real stages take about a second: the
same few simulated files under many ids. Both ways reduce them on as many worker processes.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
from distributed import Client

from benchmarks.nights import NIGHT, BenchNight, _link, check, make_masters, make_night
from benchmarks.rows import Goal, Options, Row, interleave, timed
from roboao_assets.assets.observation_products import STAGES
from roboao_assets.automation.tags import night_tags, range_tags
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.cluster import ObservationCluster
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.orchestration.resources import load_code_location
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.storage.manifest import update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_names import RAW_SUFFIX
from roboao_assets.storage.settings import Settings

SHARE_GOAL = Goal(limit=5)
WORKERS = 2
OBSERVATIONS, QUICK_OBSERVATIONS = 100, 4
FRAMES, SIZE_PX, TARGETS = 60, 256, 2
# A 90 s exposure of 770 full frames, both stacks (docs/performance.md: 100 ms a frame).
EXPOSURE_S = 70.0


def measure(options: Options) -> Iterator[Row]:
    """Yield what a run costs above the bare calls: a share of the time, and an observation's."""
    count = QUICK_OBSERVATIONS if options.quick else OBSERVATIONS
    night = _many(make_night(options, targets=TARGETS, frames=FRAMES, size_px=SIZE_PX), count)
    pairs = interleave(lambda: _bare(night), {"run": lambda: _run(night)}, min(options.repeats, 2))[
        "run"
    ]
    added = [pair.seconds - pair.baseline for pair in pairs]
    what = f"{count} observations of {FRAMES} quarter frames on {WORKERS} workers"
    # Two workers: while Dagster adds this to an observation, two are reduced.
    full = [100 * a / (count * EXPOSURE_S / WORKERS) for a in added]
    yield Row(
        name="orchestration of tiny observations / all",
        values=tuple(100 * a / p.seconds for a, p in zip(added, pairs, strict=True)),
        unit="%",
        key="orchestration_share_tiny",
        goal=SHARE_GOAL,
        note=what,
    )
    yield Row(
        name="orchestration of 90 s exposures / all",
        values=tuple(100 * f / (100 + f) for f in full),
        unit="%",
        key="orchestration_share",
        goal=SHARE_GOAL,
        note=f"the same overhead over {EXPOSURE_S:g} s of a worker for each",
    )
    yield Row(
        name="  overhead an observation",
        values=tuple(1000 * a / count for a in added),
        unit="ms",
        note=f"{len(STAGES)} products and 2 checks each",
    )
    yield Row(name="  bare calls", values=tuple(p.baseline for p in pairs), unit="s")
    yield Row(name="  run", values=tuple(p.seconds for p in pairs), unit="s")


def _many(night: BenchNight, count: int) -> BenchNight:
    """Return a night of `count` observations: those of `night`, linked under other times."""
    raw_root = Path(tempfile.mkdtemp(prefix="many-", dir=night.scratch))
    folder = raw_root / NIGHT
    shutil.copytree(night.raw_root / NIGHT, folder, copy_function=_copy_or_link)
    sources = night.observations
    for source in sources:
        for path in source.files:
            (folder / path.name).unlink()
    start = datetime.strptime(NIGHT, "%Y%m%d") + timedelta(hours=3)
    for number in range(count):
        source = sources[number % len(sources)]
        utc = start + timedelta(seconds=60 * number)
        name = re.sub(r"\d{8}_\d{6}\.\d+$", f"{utc:%Y%m%d_%H%M%S}.000000", source.id)
        _link(source.files[0], folder / f"{name}{RAW_SUFFIX}")
    return BenchNight(
        raw_root=raw_root, masters=night.masters, scratch=night.scratch, cores=night.cores
    )


def _copy_or_link(source: str, target: str) -> None:
    _link(Path(source), Path(target))


def _archived(night: BenchNight, work: Callable[[Settings], float]) -> float:
    """Do `work` in an archive where the night is registered and calibrated, and nothing else."""
    with night.new_archive(threads=1, workers=WORKERS) as settings:
        make_masters(settings)
        return work(settings)


def _bare(night: BenchNight) -> float:
    """Seconds of the reductions alone, on as many processes."""
    return _archived(night, lambda settings: _bare_seconds(settings, night))


def _bare_seconds(settings: Settings, night: BenchNight) -> float:
    text, names = settings.model_dump_json(), [o.id for o in night.observations]
    with ObservationCluster(settings).connect(len(names)) as client:
        return timed(lambda: _reduce_all(client, text, names))


def _reduce_all(client: Client, text: str, names: list[str]) -> None:
    futures = [
        client.submit(reduce_observation, text, NIGHT, name, STAGES, pure=False) for name in names
    ]
    for outcomes in client.gather(futures):
        check(outcomes, STAGES)


def _run(night: BenchNight) -> float:
    """Seconds of a run of the job, less the start of its cluster, which the other has as well."""
    return _archived(night, lambda settings: _run_seconds(settings, night))


def _run_seconds(settings: Settings, night: BenchNight) -> float:
    paths = ArchivePaths(settings.archive_root.absolute())
    update_manifest(paths.manifest, {NIGHT: [o.id for o in night.observations]})
    location = load_code_location(settings)
    job = build_definitions(location).resolve_job_def("reduce_observations")
    ends = range_tags(location, NIGHT) or {}
    home = settings.archive_root / "dagster"
    with _instance(settings, home) as instance:
        result = []
        seconds = timed(
            lambda: result.append(
                job.execute_in_process(
                    instance=instance,
                    tags={**ends, **night_tags(NIGHT)},
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    raise_on_error=False,
                )
            )
        )
        if not result[0].success:
            raise RuntimeError("the run of the job failed")
    return seconds - _cluster_seconds(settings)


def _instance(settings: Settings, home: Path) -> dg.DagsterInstance:
    import os

    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.from_config(str(prepare_dagster_home(settings)))


def _cluster_seconds(settings: Settings) -> float:
    """Seconds that a cluster takes to start and to end."""

    def start_and_end() -> None:
        with ObservationCluster(settings).connect(WORKERS):
            pass

    return timed(start_and_end)
