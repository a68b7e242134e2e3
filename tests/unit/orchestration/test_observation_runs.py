import os
import signal
import sys
import threading
from dataclasses import replace

import dask
import pytest
from cluster_works import do_what_the_name_says
from dask_processes import dask_cluster
from distributed import Client, LocalCluster

from roboao_assets.orchestration import observation_runs
from roboao_assets.orchestration.cluster import LOCAL_CONFIG, ClusterError, check_cluster
from roboao_assets.orchestration.observation_runs import ObservationRun
from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules

STAGES = ("bright_star_stack", "strehl_ratio")


def task(name):
    return ObservationTask(night="20160925", observation=name, stages=STAGES)


def rules(run_id="run", time_limit_s=60.0):
    return TaskRules(
        run_id=run_id, owner=run_id, settings_json="{}", force=False, time_limit_s=time_limit_s
    )


@pytest.fixture(scope="module")
def cluster():
    # A worker that is killed is killed once: what a third death adds is only time.
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({**LOCAL_CONFIG, "distributed.scheduler.allowed-failures": 0}),
        LocalCluster(processes=True, **options) as started,
    ):
        yield started


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as connected:
        connected.wait_for_workers(2, timeout=30)
        yield connected


def reduce(client, names, **options):
    run = ObservationRun(client, rules(**options), do_what_the_name_says)
    return dict(run.outcomes([task(name) for name in names]))


def test_the_cluster_has_our_code(client):
    check_cluster(client)


def test_a_worker_without_the_password_of_the_catalogue_is_refused(client):
    place = "mongodb://***@db.example.org/roboao"
    with pytest.raises(ClusterError, match="ROBOAO_CATALOGUE_URL is not set, not mongodb://") as no:
        check_cluster(client, place)
    assert "Dask worker" in str(no.value)


def test_a_task_does_not_show_its_settings():
    """What Dask writes into its log when a task fails is the repr of its arguments."""
    shown = repr(rules())
    assert "run_id='run'" in shown
    assert "settings" not in shown


def test_every_observation_comes_back_once_with_its_stages(client):
    names = [f"star_{n}" for n in range(12)]
    results = reduce(client, names)
    assert sorted(results) == sorted(names)
    assert all([o.stage for o in outcomes] == list(STAGES) for outcomes in results.values())
    assert all(o.succeeded for outcomes in results.values() for o in outcomes)


def test_frames_read_so_far_are_told(client, monkeypatch):
    monkeypatch.setattr(observation_runs, "_PROGRESS_S", 0.5)
    told = []
    run = ObservationRun(client, rules(), do_what_the_name_says, on_progress=told.append)
    outcomes = dict(run.outcomes([task("reads_1"), task("reads_2")]))
    assert all(o.succeeded for stages in outcomes.values() for o in stages)
    for name in ("reads_1", "reads_2"):
        frames = [reading[name] for reading in told if name in reading]
        assert frames
        assert frames == sorted(frames)
        assert all(part == count / 100 < 1 for count, part in frames)


def test_a_defect_stops_only_its_own_observation(client):
    results = reduce(client, ["star_a", "raises", "star_b"])
    assert [o.succeeded for o in results["raises"]] == [False, False]
    assert "ZeroDivisionError: a defect" in results["raises"][0].reason
    assert results["raises"][1].reason.startswith("bright_star_stack failed: ")
    assert all(o.succeeded for name in ("star_a", "star_b") for o in results[name])


def test_a_killed_worker_stops_only_its_own_observation(client):
    results = reduce(client, ["kills_its_worker", *[f"star_{n}" for n in range(3)]])
    reason = results.pop("kills_its_worker")[0].reason
    assert "the worker died each of the" in reason
    assert all(o.succeeded for outcomes in results.values() for o in outcomes)


def test_an_observation_over_its_time_limit_gives_its_worker_back(client):
    names = ["hangs_1", "hangs_2", "star_1", "star_2"]
    results = reduce(client, names, run_id="limited", time_limit_s=3.0)
    for name in ("hangs_1", "hangs_2"):
        assert "not finished within 3 s" in results.pop(name)[0].reason
    assert all(o.succeeded for outcomes in results.values() for o in outcomes)


def test_what_may_pass_is_tried_again_from_where_it_failed(client, monkeypatch):
    monkeypatch.setattr(observation_runs, "wait_before_retry_s", lambda attempt: 0.1)
    first, second = reduce(client, ["unreachable_once"])["unreachable_once"]
    assert (first.fingerprint, first.succeeded) == ("first", True)
    assert second.succeeded
    assert second.metadata == {"attempt": 2}


def test_what_was_left_out_for_want_of_a_failed_product_is_made_with_it(client, monkeypatch):
    monkeypatch.setattr(observation_runs, "wait_before_retry_s", lambda attempt: 0.1)
    run = ObservationRun(client, rules(run_id="packed"), do_what_the_name_says)
    stages = (*STAGES, "distribution_package")
    (outcomes,) = dict(run.outcomes([replace(task("unreachable_once"), stages=stages)])).values()
    assert [(o.stage, o.metadata.get("attempt")) for o in outcomes] == [
        ("bright_star_stack", None),
        ("strehl_ratio", 2),
        ("distribution_package", 2),
    ]


def test_two_runs_at_once_on_one_scheduler_each_get_their_own(cluster):
    names = [f"slow_{n}" for n in range(3)]
    results = {}

    def run(run_id):
        with Client(cluster, set_as_default=False) as connected:
            results[run_id] = reduce(connected, names, run_id=run_id)

    threads = [threading.Thread(target=run, args=(run_id,)) for run_id in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run_id in ("one", "two"):
        made_by = {o.fingerprint.split(":")[0] for os_ in results[run_id].values() for o in os_}
        assert made_by == {run_id}


def test_a_scheduler_that_goes_away_ends_the_run_with_a_sentence(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        dask_cluster(tmp_path, environment) as processes,
        Client(processes.address, set_as_default=False) as connected,
    ):
        check_cluster(connected)
        run = ObservationRun(connected, rules(), do_what_the_name_says)
        results = run.outcomes([task(f"slow_{n}") for n in range(50)])
        assert next(results)[1][0].succeeded
        os.killpg(processes.scheduler.pid, signal.SIGKILL)
        with pytest.raises(ClusterError, match="scheduler was lost with .* observations to go"):
            list(results)
