"""Whole steps on a real Dask cluster: two runs at once, failures, retries.

Workers that die and a night of the archive are in tests/faults.
"""

import dagster as dg
import pytest
from step_runs import make_both_partitions, step_cluster

from roboao_assets.orchestration.cluster import ClusterError
from roboao_assets.orchestration.step_executor import DaskStepExecutor, build_step_executor
from roboao_assets.storage.settings import Settings


@pytest.fixture(scope="module")
def step_runs(tmp_path_factory):
    with step_cluster(tmp_path_factory.mktemp("steps")) as runs:
        yield runs


@pytest.fixture(scope="module")
def endings(step_runs):
    """A run of steps of which each ends in another way."""
    seen, said = step_runs.run("endings")
    assert seen.status == "FAILURE", said
    return seen


@pytest.mark.slow
def test_two_runs_at_once_each_make_their_own_partition(step_runs):
    assert make_both_partitions(step_runs) == {"product_one", "product_two"}
    with step_runs.instance() as instance:
        made = instance.get_materialized_partitions(dg.AssetKey("product"))
    assert made == {"one", "two"}


@pytest.mark.slow
def test_a_failed_step_blocks_what_needs_it_and_nothing_else(endings, step_runs):
    assert endings.steps("STEP_FAILURE") == ["defective"]
    assert "a defect" in endings.failure("defective")
    assert {"sound", "after_sound"} <= step_runs.made()
    assert not {"after_defective", "after_both"} & step_runs.made()
    assert not {"after_defective", "after_both"} & set(endings.steps("STEP_START"))


@pytest.mark.slow
def test_steps_are_tried_again_after_the_delay_that_they_ask_for(endings, step_runs):
    assert {"flaky_0", "flaky_1", "flaky_2", "asking_0", "asking_1"} <= step_runs.made()
    assert {"flaky", "asking"} <= set(endings.steps("STEP_SUCCESS"))
    for step, tries in {"flaky": 2, "asking": 1}.items():
        ended, begun = (endings.times(k, step) for k in ("STEP_UP_FOR_RETRY", "STEP_RESTARTED"))
        assert len(ended) == len(begun) == tries
        assert all(later - earlier >= 2 for earlier, later in zip(ended, begun, strict=True))


@pytest.mark.slow
def test_each_try_of_a_step_is_a_task_of_its_own_in_a_process_of_its_own(endings, step_runs):
    run_id = endings.run.run_id
    tasks = {e.metadata["task"].value for e in endings.engine_events("STEP_WORKER_STARTING")}
    assert {f"{run_id}:flaky:{n}" for n in (1, 2, 3)} <= tasks
    processes = [step_runs.process_of(f"flaky_{n}") for n in range(3)]
    assert len(set(processes)) == 3
    assert "started by the worker tcp://" in endings.text


def test_a_run_is_one_process_unless_it_is_asked_otherwise():
    @dg.op
    def nothing():
        pass

    @dg.job(executor_def=build_step_executor(Settings()))
    def by_default():
        nothing()

    with dg.DagsterInstance.ephemeral() as instance:
        # The executor on the cluster would refuse an instance that lives in this process alone.
        assert dg.execute_job(dg.reconstructable(of_this_module), instance).success
        assert by_default.execute_in_process(run_config={}).success


@dg.job(executor_def=build_step_executor(Settings()))
def of_this_module():
    pass


def test_without_a_scheduler_the_executor_is_refused():
    with pytest.raises(ClusterError, match="dask_scheduler names none"):
        DaskStepExecutor(Settings(), {"retries": {"enabled": {}}})
