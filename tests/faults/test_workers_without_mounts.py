"""What can go wrong with workers to which files are sent: killed in mid-push, disk full; a night
as the Dagster run has it, resolved object and library included.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest
from blind_workers import blind_cluster
from ledger import Fault, half_files
from mongodb_server import with_database

from roboao_assets.orchestration import file_transfer
from roboao_assets.orchestration.file_transfer import served_files
from roboao_assets.orchestration.observation_runs import ObservationRun
from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.pipelines.retrying import is_transient
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.files import PARTIAL_PREFIX
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings
from simulator import simulate_night

NIGHT = "20170607"
STAGES = ("bright_star_stack", "strehl_ratio")
LIMIT_S = 1500
pytestmark = pytest.mark.mongodb


@pytest.fixture
def site(small_night, tmp_path, mongodb_url):
    """Settings of an archive with the masters of the small night, of which workers see nothing."""
    (tmp_path / "archive").mkdir()
    settings = Settings(
        raw_roots=(small_night,),
        archive_root=tmp_path / "archive",
        catalogue_url=mongodb_url,
        worker_files="sent",
        worker_scratch=str(tmp_path / "cluster" / "worker" / "files"),
    )
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(settings, NIGHT).succeeded
    return settings


def blind(site, tmp_path, **options):
    hidden = (site.raw_roots[0], site.archive_root)
    return blind_cluster(tmp_path / "cluster", hidden, **options)


def send(client, settings, observations):
    run_id = uuid.uuid4().hex
    rules = TaskRules(
        run_id=run_id,
        owner=f"run {run_id}",
        settings_json=settings.model_dump_json(),
        force=False,
        time_limit_s=settings.stage_timeout_s,
        send_files=True,
    )
    tasks = [ObservationTask(night=NIGHT, observation=o, stages=STAGES) for o in observations]
    with served_files(client, rules, settings, tasks) as traffic:
        return dict(ObservationRun(client, rules).outcomes(tasks)), traffic


def images(archive):
    night = archive / NIGHT
    return {str(p.relative_to(night)): p.read_bytes() for p in sorted(night.rglob("*.fits"))}


def test_a_worker_killed_in_mid_push(
    site, small_observations, tmp_path, tmp_path_factory, monkeypatch, ledger
):
    # Small chunks make a push long enough to be met in its middle.
    monkeypatch.setattr(file_transfer, "CHUNK_BYTES", 1 << 14)
    observation = small_observations[0]
    folder = ArchivePaths(site.archive_root).pipeline(NIGHT, observation, "bright_star")
    met = []

    with blind(site, tmp_path, workers=2) as cluster:

        def kill_in_mid_push():
            while not met:
                for partial in folder.glob(f"{PARTIAL_PREFIX}*.fits"):
                    sizes = {w.pid: _scratch_of(cluster.scratch, w.pid) for w in cluster.workers}
                    busy = [pid for pid, tasks in sizes.items() if tasks]
                    if busy and partial.exists() and partial.stat().st_size > 0:
                        met.append(partial.stat().st_size)
                        os.kill(busy[0], signal.SIGKILL)
                        return
                time.sleep(0.002)

        watcher = threading.Thread(target=kill_in_mid_push)
        watcher.start()
        made, _ = send(cluster.client, site, [observation])
        watcher.join(10)
        left = [p for p in (cluster.scratch / "files").glob("*/*") if p.name != "shared"]
        of_the_dead = [p for p in (cluster.scratch / "files").glob("roboao-files-*.lock")]
    elsewhere = tmp_path_factory.mktemp("mounted")
    shutil.copytree(site.archive_root / NIGHT / "calib", elsewhere / NIGHT / "calib")
    mounted = Settings(raw_roots=site.raw_roots, archive_root=elsewhere)
    stages.register_night(mounted, NIGHT)
    reduce_observation(mounted.model_dump_json(), NIGHT, observation, STAGES)
    half = half_files([site.archive_root])
    same = images(site.archive_root) == images(elsewhere)
    outcome = made[observation][0]
    ledger.enter(
        Fault(
            name="worker without mounts killed in mid-push",
            tried=1,
            survived=int(bool(met) and outcome.succeeded and same),
            told=outcome.reason or "done again by another worker",
            half_files=len(half),
        )
    )
    assert met, "no push was met in its middle"
    assert [o.status for o in made[observation]] == ["done", "done"]
    assert half == []
    assert same
    # The worker that went on has tidied up after the dead one, and after itself.
    assert left == []
    assert len(of_the_dead) == 1
    with open_catalogue(site.resolved_catalogue_url, read_only=True) as catalogue:
        assert product(catalogue.observation(observation), "bright_star")["status"]["done"] is True


def _scratch_of(scratch, pid):
    return list((scratch / "files").glob(f"roboao-files-*-{pid}-*/task-*"))


def test_a_full_scratch_disk_is_told_and_passes(site, small_observations, tmp_path, ledger):
    observation = small_observations[0]
    with blind(site, tmp_path, scratch_mb=20) as cluster:
        monkey = pytest.MonkeyPatch()
        with monkey.context() as patch:
            # Once is enough here.
            patch.setattr("roboao_assets.orchestration.observation_runs.MAX_RETRIES", 0)
            made, _ = send(cluster.client, site, [observation])
    outcome = made[observation][0]
    half = half_files([site.archive_root])
    with blind_cluster(tmp_path / "larger", (site.raw_roots[0], site.archive_root)) as cluster:
        site = site.model_copy(update={"worker_scratch": ""})
        again, _ = send(cluster.client, site, [observation])
    ledger.enter(
        Fault(
            name="full scratch disk of a worker without mounts",
            tried=1,
            survived=int(all(o.status == "done" for o in again[observation])),
            told=outcome.reason,
            half_files=len(half),
        )
    )
    assert outcome.status == "failed"
    assert is_transient(outcome)
    assert "the scratch folder" in outcome.reason
    assert "make room there, or name another folder in the setting worker_scratch" in outcome.reason
    assert half == []
    assert [o.status for o in again[observation]] == ["done", "done"]


@pytest.fixture(scope="module")
def ten_targets(tmp_path_factory):
    """Raw root of a night with a single star, others, and at last a resolved disc."""
    root = tmp_path_factory.mktemp("ten")
    simulate_night(root, NIGHT, targets=10, frames=60, size=256, seed=5, dark_frames=10)
    # The disc, the star that it is deconvolved with, and one that is compared with that star.
    for path in (root / NIGHT).glob("[0-9]*.fits.bz2"):
        if not any(name in path.name for name in ("Ganymede", "HIP76952", "351_Yrsa")):
            path.unlink()
    return root


def test_a_night_as_the_run_has_it(ten_targets, tmp_path, mongodb_server):
    """`roboao night` over workers with and without mounts, twice, with stars in the library."""
    archive = tmp_path / "archive"
    found = {}
    for way in ("mounted", "sent"):
        archive.mkdir()
        cluster_folder = tmp_path / way
        hidden = (ten_targets, archive) if way == "sent" else ()
        with blind_cluster(cluster_folder, hidden) as cluster:
            home = tmp_path / f"home_{way}"
            home.mkdir()
            url = with_database(mongodb_server, f"roboao_test_{way}_{uuid.uuid4().hex[:8]}")
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER"))}
            environment = kept | {
                "DAGSTER_HOME": str(home),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "ROBOAO_RAW_ROOTS": str(ten_targets),
                "ROBOAO_ARCHIVE_ROOT": str(archive),
                "ROBOAO_CATALOGUE_URL": url,
                "ROBOAO_DASK_SCHEDULER": cluster.address,
                "ROBOAO_WORKER_FILES": way,
            }

            def roboao(*words, environment=environment, home=home):
                done = subprocess.run(
                    [sys.executable, "-m", "roboao_assets.cli", *words],
                    env=environment,
                    cwd=home,
                    capture_output=True,
                    text=True,
                    timeout=LIMIT_S,
                    check=False,
                )
                assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
                return done.stdout

            roboao("night", NIGHT)
            stars = [
                path.stem
                for path in sorted((archive / NIGHT / "summary" / "psflib").glob("*.fits"))
            ]
            roboao("psf-library", "add", *stars)
            roboao("night", NIGHT)
            with open_catalogue(url, read_only=True) as catalogue:
                resolved = next(
                    o.id for o in read_night((ten_targets,), NIGHT).observations if o.id[:2] == "24"
                )
                disc = product(catalogue.observation(resolved), "extended_object")
        found[way] = (images(archive), stars, disc["deconvolved"], disc["psf_observation"])
        assert half_files([archive]) == []
        archive.rename(tmp_path / f"archive_{way}")
    assert len(found["mounted"][1]) >= 1
    assert found["sent"][1:] == found["mounted"][1:]
    mounted, sent = found["mounted"][0], found["sent"][0]
    assert sorted(sent) == sorted(mounted)
    assert [name for name in mounted if mounted[name] != sent[name]] == []
    assert any(name.endswith("_pca.fits") for name in sent)
    assert any("/extended_object/" in name for name in sent)
