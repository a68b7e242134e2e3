"""Backfills: which nights, how urgent, and what their runs hand on."""

import dagster as dg
import pytest
from typer.testing import CliRunner

from roboao_assets import cli
from roboao_assets.automation.backfills import (
    BackfillError,
    backfill_names,
    backfill_progress,
    known_nights,
    launch_backfill,
)
from roboao_assets.automation.tags import (
    BACKFILL_TAG,
    NIGHT_TAG,
    OPERATORS_PRIORITY,
    PAGES_BACKFILL_TAG,
    PARTITION_TAG,
    PRIORITY_TAG,
    active_nights,
    asked_of,
    backfill_tags,
    following_tags,
    night_tags,
)
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.partitions import ArchivePartitions
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.manifest import Manifest
from roboao_assets.storage.settings import Settings

NIGHTS = {
    night: [f"24_HD{n}_VIC_Si_o_{night}_03{n:02d}00.000000" for n in range(3)]
    for night in ("20160901", "20160925", "20161001")
}


@pytest.fixture
def location(tmp_path):
    return CodeLocation(
        settings=Settings(archive_root=tmp_path / "archive", dagster_port=1),
        partitions=ArchivePartitions(Manifest().with_nights(NIGHTS)),
    )


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run_of(instance, tags, status=dg.DagsterRunStatus.NOT_STARTED, job="calibrate_night"):
    run = dg.DagsterRun(job_name=job, tags=tags, status=status)
    return instance.run_storage.add_run(run)


def test_the_nights_of_a_backfill_are_those_that_are_known_newest_first(location):
    assert known_nights(location, "20160901", "20160930") == ("20160925", "20160901")
    assert known_nights(location, "20160925", "20160925") == ("20160925",)


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        ("20160902", "20160902", "does not know 20160902; the nearest are 20160901, 20160925"),
        ("20150101", "20150131", "no night from 20150101 to 20150131; the nearest are 20160901"),
        ("20160925", "20160901", "20160925 is later than 20160901"),
    ],
)
def test_nights_that_are_not_known_are_refused(location, first, last, sentence):
    with pytest.raises(BackfillError, match=sentence):
        known_nights(location, first, last)


def test_an_archive_without_nights_says_so(tmp_path):
    empty = CodeLocation(
        settings=Settings(archive_root=tmp_path), partitions=ArchivePartitions(Manifest())
    )
    with pytest.raises(BackfillError, match="knows no night at all"):
        known_nights(empty, "20160901", "20160930")


def test_without_a_webserver_nothing_is_launched(location):
    with pytest.raises(BackfillError, match="did not take the run of 20160925 .* 0 nights are in"):
        launch_backfill(location, ["20160925", "20160901"])


def test_a_backfill_comes_after_all_else_and_its_newest_night_first():
    new, old = (int(backfill_tags(n, "b")[PRIORITY_TAG]) for n in ("20161001", "20160901"))
    pages = int(following_tags({PAGES_BACKFILL_TAG: "x"}, "20161001")[PRIORITY_TAG])
    oldest_night = int(night_tags("20000101")[PRIORITY_TAG])
    assert old < new < pages < oldest_night < int(OPERATORS_PRIORITY)


def test_what_follows_a_run_is_as_urgent_as_the_run():
    night = "20160925"
    of_backfill = backfill_tags(night, "b", force=True)
    followed = following_tags({**of_backfill, PARTITION_TAG: night}, night)
    assert followed == of_backfill
    assert following_tags(followed, night) == of_backfill
    assert asked_of(followed) == {"force": True, "new_code": False}
    # Launched on Dagster's pages: the first run has its tag, the second has ours.
    second = following_tags({PAGES_BACKFILL_TAG: "xyz", PARTITION_TAG: night}, night)
    assert second == {NIGHT_TAG: night, PRIORITY_TAG: "0", BACKFILL_TAG: "xyz"}
    assert following_tags(second, night) == second
    asked = {**night_tags(night), PRIORITY_TAG: OPERATORS_PRIORITY}
    assert following_tags(asked, night)[PRIORITY_TAG] == OPERATORS_PRIORITY
    assert following_tags(night_tags(night), night) == night_tags(night)


def test_nights_that_wait_in_a_backfill_hold_nothing_up(instance):
    run_of(instance, backfill_tags("20160901", "b"))
    run_of(instance, backfill_tags("20160902", "b"), dg.DagsterRunStatus.STARTED)
    run_of(instance, {NIGHT_TAG: "20160903", PAGES_BACKFILL_TAG: "x"})
    run_of(instance, night_tags("20160904"))
    run_of(instance, night_tags("20160905"), dg.DagsterRunStatus.SUCCESS)
    assert active_nights(instance) == {"20160902", "20160904"}


def test_runs_launched_on_the_pages_count_as_runs_of_their_night(location):
    repository = build_definitions(location).get_repository_def()
    for job in ("calibrate_night", "summarise_night"):
        tags = repository.get_job(job).get_tags_for_partition_key("20160925", None)
        assert tags[NIGHT_TAG] == "20160925"
        assert PRIORITY_TAG not in tags


def test_the_progress_of_a_backfill(instance):
    success, failure = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
    run_of(instance, backfill_tags("20160801", "older"), success)
    for night in NIGHTS:
        run_of(instance, backfill_tags(night, "b"), success if night < "2016092" else failure)
    tags = backfill_tags("20160901", "b")
    run_of(instance, tags, success, "reduce_observations")
    run_of(instance, tags, success, "summarise_night")
    run_of(instance, backfill_tags("20161001", "b"))  # once more, by hand
    assert backfill_names(instance) == ["older", "b"]
    progress = backfill_progress(instance, "b")
    assert [(p.night, p.state) for p in progress] == [
        ("20161001", "waits"),
        ("20160925", "failed"),
        ("20160901", "done"),
    ]
    assert progress[2].statuses == ("SUCCESS", "SUCCESS", "SUCCESS")


def test_the_command_refuses_what_it_does_not_know(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOAO_ARCHIVE_ROOT", str(tmp_path / "archive"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    runner = CliRunner()
    for arguments, sentence in (
        (["20160901", "20160930", "--stage", "coffee"], "there is no stage coffee"),
        (["2016-09-01"], "is no night"),
        ([], "give the first and the last night"),
    ):
        ended = runner.invoke(cli.app, ["backfill", *arguments])
        assert ended.exit_code == 2
        assert sentence in ended.stderr
    ended = runner.invoke(cli.app, ["backfill", "--status"])
    assert (ended.exit_code, ended.output.strip()) == (0, "there has been no backfill")
