"""Logs of old runs: forgotten in Dagster's own storages; what assets are is known as before."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from roboao_assets.automation.run_logs import build_run_logs_sensor
from roboao_assets.orchestration.resources import load_code_location
from roboao_assets.orchestration.run_logs import forget_run_logs
from roboao_assets.storage.settings import Settings

KEY = dg.AssetKey("stack")
DAYS = dg.StaticPartitionsDefinition(["a", "b"])


@dg.asset(partitions_def=DAYS, name="stack")
def stack(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    for frame in range(300):
        context.log.info("frame %d of a long reduction", frame)
    print("to standard output")
    return dg.MaterializeResult(metadata={"frames": 50})


@dg.asset_check(asset=stack)
def is_good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.job
def nothing() -> None:
    """A job of no ops."""


@dg.asset(partitions_def=DAYS)
def broken() -> None:
    raise ValueError("no frame is left")


CONSOLIDATED = {
    "event_log_storage": {
        "module": "dagster._core.storage.event_log",
        "class": "ConsolidatedSqliteEventLogStorage",
    }
}


@pytest.fixture(params=["a file a run", "one table"])
def instance(request, tmp_path):
    overrides = {"telemetry": {"enabled": False}}
    if request.param == "one table":
        config = CONSOLIDATED["event_log_storage"] | {"config": {"base_dir": str(tmp_path / "log")}}
        overrides["event_log_storage"] = config
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home"), overrides=overrides) as opened:
        yield opened


def materialize(instance, partition, *assets):
    result = dg.materialize(
        list(assets), partition_key=partition, instance=instance, raise_on_error=False
    )
    return result.run_id


def kinds(instance, run_id):
    events = [entry.dagster_event for entry in instance.all_logs(run_id)]
    return {"log" if event is None else event.event_type.name for event in events}


def known_of_assets(instance):
    """What Dagster's pages tell of the assets."""
    latest = instance.get_latest_materialization_event(KEY)
    counts = instance.event_log_storage.get_materialized_partitions(KEY)
    checks = instance.event_log_storage.get_asset_check_execution_history(
        check_key=dg.AssetCheckKey(KEY, "is_good"), limit=10
    )
    return (
        latest.run_id,
        latest.asset_materialization.metadata["frames"].value,
        counts,
        [(check.status, check.run_id) for check in checks],
        [r.storage_id for r in instance.fetch_materializations(KEY, limit=10).records],
    )


@pytest.fixture
def code_location(tmp_path):
    def make(**values):
        settings = Settings(raw_roots=(tmp_path,), archive_root=tmp_path / "archive", **values)
        return load_code_location(settings)

    return make


def later(days):
    return datetime.now(UTC) + timedelta(days=days)


def test_what_runs_logged_is_forgotten_and_nothing_else(instance):
    good = materialize(instance, "a", stack, is_good)
    bad = materialize(instance, "a", broken)
    kept_whole = kinds(instance, good)
    assert {"log", "STEP_START", "ASSET_MATERIALIZATION"} <= kept_whole
    before = known_of_assets(instance)
    nothing = forget_run_logs(instance, later(-1), after=None, most=10)
    assert (nothing.runs, nothing.events, nothing.up_to) == (0, 0, None)
    assert kinds(instance, good) == kept_whole
    done = forget_run_logs(instance, later(1), after=None, most=10)
    assert done.runs == 2
    assert done.events > 300
    assert known_of_assets(instance) == before
    assert {"RUN_START", "RUN_SUCCESS"} <= kinds(instance, good)
    assert not {"log", "STEP_START", "ENGINE_EVENT"} & kinds(instance, good)
    assert {"RUN_FAILURE", "STEP_FAILURE"} <= kinds(instance, bad)
    assert instance.get_run_by_id(bad).status == dg.DagsterRunStatus.FAILURE
    assert instance.get_run_stats(good).end_time
    # Other runs go on as ever, and so does this storage.
    again = materialize(instance, "b", stack, is_good)
    assert "log" in kinds(instance, again)
    assert known_of_assets(instance)[0] == again
    after = forget_run_logs(instance, later(1), after=done.up_to, most=10)
    assert after.runs == 1


def test_a_run_under_way_keeps_its_log(instance):
    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("the run has begun", run)
    assert forget_run_logs(instance, later(1), after=None, most=10).runs == 0
    assert kinds(instance, run.run_id) == {"ENGINE_EVENT"}


def test_the_files_of_runs_become_small(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        run = materialize(instance, "a", stack)
        folder = home / "storage" / run / "compute_logs"
        assert any("standard output" in p.read_text() for p in folder.iterdir())
        file = home / "history" / "runs" / f"{run}.db"
        with_log = sum(p.stat().st_size for p in file.parent.glob(f"{run}*"))
        forget_run_logs(instance, later(1), after=None, most=10)
        assert not folder.exists()
        assert sum(p.stat().st_size for p in file.parent.glob(f"{run}*")) < with_log / 2


def test_the_sensor_goes_on_where_it_was(instance, code_location):
    for partition in ("a", "b"):
        materialize(instance, partition, stack)
    sensor = build_run_logs_sensor(code_location(keep_run_logs_days=1e-9))
    first = sensor(dg.build_sensor_context(instance=instance))
    assert "of 2 runs were forgotten" in first.skip_reason.skip_message
    second = sensor(dg.build_sensor_context(instance=instance, cursor=first.cursor))
    assert "no finished run" in second.skip_message
    for days, words in ((0, "kept for ever"), (90, "no finished run")):
        sensor = build_run_logs_sensor(code_location(keep_run_logs_days=days))
        answer = sensor(dg.build_sensor_context(instance=instance))
        assert words in answer.skip_message
