"""A night reduced by a worker that sees neither raw root nor archive, and by one that does.

Both work for archives of the same path, one after the other: not a byte may differ.
"""

import json
import re
import uuid
from importlib import resources
from pathlib import Path

import pytest
from astropy.table import Table
from blind_workers import blind_cluster
from mongodb_server import with_database
from pymongo import MongoClient

from roboao_assets.orchestration.cluster import ClusterError, ObservationCluster
from roboao_assets.orchestration.file_transfer import served_files
from roboao_assets.orchestration.observation_runs import ObservationRun
from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
from roboao_assets.orchestration.worker_files import DaskCarrier
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import OBSERVATION_STAGES, reduce_observation
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.psf_candidates import add_to_library
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.files import PARTIAL_PREFIX
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
MASTERS = (
    stages.register_night,
    stages.make_master_darks,
    stages.make_master_flats,
    stages.make_bad_pixel_mask,
)
pytestmark = pytest.mark.mongodb


def rules_of(settings, **options):
    run_id = uuid.uuid4().hex
    return TaskRules(
        run_id=run_id,
        owner=f"run {run_id}",
        settings_json=settings.model_dump_json(),
        force=False,
        time_limit_s=settings.stage_timeout_s,
        send_files=True,
        **options,
    )


def send(client, settings, observations, stages_wanted=OBSERVATION_STAGES):
    """Reduce on the cluster as the Dagster run does; return outcomes and what has travelled."""
    tasks = [
        ObservationTask(night=NIGHT, observation=o, stages=stages_wanted) for o in observations
    ]
    rules = rules_of(settings)
    with served_files(client, rules, settings, tasks) as traffic:
        made = dict(ObservationRun(client, rules).outcomes(tasks))
    return made, traffic


def reduce_here(settings, observations):
    return {o: reduce_observation(settings.model_dump_json(), NIGHT, o) for o in observations}


def statuses(made):
    return {(name, o.stage): o.status for name, outcomes in made.items() for o in outcomes}


def complete(settings, observations, reduce):
    """The night twice, as an operator has it: the second time with its stars in the library."""
    for stage in MASTERS:
        assert stage(settings, NIGHT).succeeded
    first = reduce(observations)
    for name in observations[:2]:
        add_to_library(settings, name, by="test")
    return first, reduce(observations)


@pytest.fixture(scope="module")
def raw_root(small_night, tmp_path_factory):
    """The small night, and an observation whose file is cut short."""
    root = tmp_path_factory.mktemp("raw")
    (root / NIGHT).mkdir()
    for path in (small_night / NIGHT).iterdir():
        (root / NIGHT / path.name).hardlink_to(path)
    source = read_night((small_night,), NIGHT).observations[0].files[0]
    cut = re.sub(r"_\d{6}\.\d{6}\.", "_120000.000000.", source.name)
    content = source.read_bytes()
    (root / NIGHT / cut).write_bytes(content[: len(content) // 2])
    return root


@pytest.fixture(scope="module")
def observations(raw_root):
    return tuple(e.id for e in read_night((raw_root,), NIGHT).observations)


@pytest.fixture(scope="module")
def site_files(tmp_path_factory):
    """What settings name beside archive and raw root: profiles, and stars in a table."""
    folder = tmp_path_factory.mktemp("site")
    profiles = resources.files("roboao_assets.storage").joinpath("instruments.toml")
    (folder / "instruments.toml").write_text(profiles.read_text())
    # Parquet is opened by a library, out of Python's sight.
    Table({"ra": [10.0], "dec": [20.0], "epoch": [2016.0]}).write(folder / "stars.parquet")
    return folder


@pytest.fixture(scope="module")
def night(raw_root, observations, site_files, mongodb_server, tmp_path_factory):
    """The archive of a mounted reduction (`mounted`), and of one without, in its place."""
    root = tmp_path_factory.mktemp("blind")
    archive = root / "archive"
    database = f"roboao_test_{uuid.uuid4().hex[:12]}"
    settings = Settings(
        raw_roots=(raw_root,),
        archive_root=archive,
        catalogue_url=with_database(mongodb_server, database),
        threads=2,
        instruments_file=site_files / "instruments.toml",
        astrometry={"catalogue": str(site_files / "stars.parquet")},
        worker_files="sent",
        worker_scratch=str(root / "worker" / "files"),
    )
    made = {"mounted": complete(settings, observations, lambda o: reduce_here(settings, o))}
    archive.rename(root / "mounted")
    archive.mkdir()
    with MongoClient(mongodb_server, serverSelectionTimeoutMS=5000) as server:
        server.drop_database(database)
        with blind_cluster(root, (raw_root, archive, site_files)) as cluster:
            made["sent"] = complete(
                settings, observations, lambda o: send(cluster.client, settings, o)[0]
            )
            yield {
                "root": root,
                "settings": settings,
                "cluster": cluster,
                "made": made,
                "mounted": root / "mounted" / NIGHT,
                "sent": archive / NIGHT,
            }
        server.drop_database(database)


def files(night, *, but=()):
    return {
        str(path.relative_to(night)): path.read_bytes()
        for path in sorted(night.rglob("*"))
        if path.is_file() and path.suffix not in but
    }


def test_the_worker_sees_neither_raw_root_nor_archive(night, raw_root):
    seen = night["cluster"].client.run(
        lambda *folders: [list(Path(folder).iterdir()) for folder in folders],
        str(raw_root),
        str(night["settings"].archive_root),
    )
    assert list(seen.values()) == [[[], []]]
    assert (raw_root / NIGHT).is_dir()


def test_every_stage_ends_as_with_mounts(night, observations):
    for one, other in zip(night["made"]["mounted"], night["made"]["sent"], strict=True):
        assert statuses(one) == statuses(other)
        for name in observations:
            reasons = [[o.reason for o in made[name]] for made in (one, other)]
            assert reasons[0] == reasons[1]
    second = statuses(night["made"]["sent"][1])
    assert "done" in {status for (_, stage), status in second.items() if stage == "pca_residual"}


def test_not_a_byte_of_a_product_differs(night):
    mounted, sent = (files(night[name], but=(".json",)) for name in ("mounted", "sent"))
    assert sorted(sent) == sorted(mounted)
    assert [name for name in mounted if mounted[name] != sent[name]] == []
    assert sum(name.endswith(".fits") for name in sent) > 20


def test_the_stars_of_the_table_were_read_by_both(night, observations):
    for name in ("mounted", "sent"):
        record = json.loads((night[name] / "records" / f"{observations[0]}.json").read_text())
        solved = record["document"]["pipelined"]["bright_star"]["astrometry"]
        # Its one star is elsewhere; a table that cannot be read is another reason.
        assert "the catalogue has 0 near the field" in solved["reason_unsolved"]


def without_times(value):
    """A document of which what tells when it was made is left out."""
    if isinstance(value, dict):
        if "$date" in value:
            return "a time"
        # What failed with which inputs holds the times of the masters.
        left_out = {"mtime_ns", "failed_with"}
        return {k: without_times(item) for k, item in value.items() if k not in left_out}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return "a time" if isinstance(value, int) and value > 10**18 else value


def test_the_records_are_the_same_up_to_times(night, observations):
    records = [night[name] / "records" for name in ("mounted", "sent")]
    for name in (*observations, NIGHT):
        one, other = (
            without_times(json.loads((folder / f"{name}.json").read_text())) for folder in records
        )
        assert one == other


def test_nothing_tells_of_the_workers_folders_and_nothing_is_left_there(night):
    scratch = str(night["root"] / "worker").encode()
    tree = files(night["sent"].parent)
    assert [name for name, content in tree.items() if scratch in content] == []
    assert [name for name in tree if PARTIAL_PREFIX in name] == []
    left = [p for p in (night["root"] / "worker" / "files").glob("*/*") if p.name != "shared"]
    assert left == []


def test_a_second_look_makes_nothing_and_transfers_little(night, observations):
    whole = observations[:2]
    raw = {
        path.name: path.stat().st_size
        for path in (night["settings"].raw_roots[0] / NIGHT).iterdir()
        if path.name.startswith(whole)
    }
    # Of a first file that is no larger than what is sent for its header all comes.
    short = [name for o in whole if raw[name := f"{o}.fits.bz2"] <= 1 << 20]
    before = files(night["sent"])
    made, traffic = send(night["cluster"].client, night["settings"], whole)
    assert set(statuses(made).values()) == {"unchanged", "skipped"}
    print(f"second look: {traffic}; the raw files have {sum(raw.values()) / 1e6:.1f} MB")
    assert traffic.pushed_files == 0
    assert traffic.fetched_files == len(short)
    # A raw header's block and the headers of some products, no image.
    assert traffic.fetched_bytes < len(whole) * 2_000_000
    assert files(night["sent"]) == before


def test_a_worker_with_mounts_then_finds_everything_as_it_was(night, observations):
    mounted = night["settings"].model_copy(update={"worker_files": "mounted"})
    made = reduce_here(mounted, observations)
    assert set(statuses({o: made[o] for o in observations[:2]}).values()) == {
        "unchanged",
        "skipped",
    }
    cut = made[observations[2]][0]
    # It can only fail again: the raw file and the masters are what they were for the other worker.
    assert (cut.status, cut.error_type) == ("failed", "KnownFailure")


def ask_for_what_is_none_of_its_business(
    rules: TaskRules, task: ObservationTask, other: str
) -> list[StageOutcome]:
    from distributed import get_worker

    carrier = DaskCarrier(
        worker=get_worker(), topic=rules.files_topic, observation=task.observation
    )
    own = Path(get_worker().local_directory) / "own"
    own.write_text("a text")
    said = []
    for ask in (
        lambda: carrier.push(own, f"archive/{NIGHT}/{other}/bright_star/100p.fits"),
        lambda: carrier.push(own, f"archive/{NIGHT}/{task.observation}/../../escaped"),
        lambda: carrier.push(own, "archive/psf_library.fits"),
        lambda: carrier.push(own, "/etc/roboao"),
        lambda: carrier.remove(f"archive/{NIGHT}/calib/bad_pixels.fits"),
        lambda: carrier.head("archive/.dashboard/cookie_secret", 100),
        lambda: carrier.head("archive/manifest.json", 100),
    ):
        try:
            ask()
            said.append("it was done")
        except ArchiveError as error:
            said.append(str(error))
    return [StageOutcome(stage="asks", status="done", metadata={"said": json.dumps(said)})]


def test_a_worker_that_asks_for_what_is_none_of_its_observation_is_refused(night, observations):
    before = files(night["sent"].parent)
    settings, client = night["settings"], night["cluster"].client
    task = ObservationTask(night=NIGHT, observation=observations[0], stages=("asks",))
    rules = rules_of(settings)
    with served_files(client, rules, settings, [task]):
        (outcome,) = client.submit(
            ask_for_what_is_none_of_its_business, rules, task, observations[1], pure=False
        ).result(60)
    said = json.loads(outcome.metadata["said"])
    assert len(said) == 7
    for sentence in said:
        assert "none of that observation's files" in sentence
    assert files(night["sent"].parent) == before


def test_a_catalogue_that_no_worker_could_reach_is_refused_before_anything_is_sent(tmp_path):
    settings = Settings(
        archive_root=tmp_path, dask_scheduler="tcp://127.0.0.1:9", worker_files="sent"
    )
    with (
        pytest.raises(ClusterError, match="cannot reach the SQLite catalogue"),
        ObservationCluster(settings).connect(1),
    ):
        pass


def test_what_a_run_could_not_bring_is_no_lasting_failure(night, observations):
    """Nobody serves the files: the worker gives up, with a sentence and to be tried again."""
    settings, client = night["settings"], night["cluster"].client
    task = ObservationTask(night=NIGHT, observation=observations[0], stages=("strehl_ratio",))

    def impatient(rules, task):
        from roboao_assets.orchestration import worker_files
        from roboao_assets.orchestration.observation_task import reduce_on_worker

        patience, worker_files.SILENCE_S = worker_files.SILENCE_S, 1.0
        try:
            return reduce_on_worker(rules, task)
        finally:
            worker_files.SILENCE_S = patience

    (outcome,) = client.submit(impatient, rules_of(settings), task, pure=False).result(60)
    assert outcome.retryable
    assert re.search("has not answered the worker .* for 1 s", outcome.reason)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        status = catalogue.observation(observations[0])["pipelined"]["bright_star"]["strehl"]
    assert status["status"]["done"] is True
    assert ArchivePaths(settings.archive_root).stack(NIGHT, observations[0], 100).exists()
