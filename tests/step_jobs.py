"""Jobs of which every step ends in a way of its own, for the tests of executors of steps.

A code location of its own: `dagster job execute -f tests/step_jobs.py`. The folder that
`STEP_JOBS_FOLDER` names is where the steps leave what they made.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg

from roboao_assets.orchestration.step_executor import build_step_executor
from roboao_assets.storage.settings import load_settings

FOLDER = Path(os.environ["STEP_JOBS_FOLDER"])
LIMIT_S = 300


def leave(name: str) -> None:
    """Leave a file that says that `name` was made, and in which process."""
    file = FOLDER / name
    file.with_suffix(".part").write_text(f"{os.getpid()} {os.getppid()} {time.time()}")
    file.with_suffix(".part").rename(file)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["one", "two"]))
def product(context: dg.AssetExecutionContext) -> None:
    # Both runs are on the scheduler before either of them ends.
    deadline = time.monotonic() + LIMIT_S
    while not (FOLDER / "go").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    leave(f"product_{context.partition_key}")


@dg.asset
def sound() -> None:
    leave("sound")


@dg.asset
def defective() -> None:
    raise dg.Failure("a defect", allow_retries=False)


@dg.asset(deps=[defective])
def after_defective() -> None:
    leave("after_defective")


@dg.asset(deps=[after_defective, sound])
def after_both() -> None:
    leave("after_both")


@dg.asset(deps=[sound])
def after_sound() -> None:
    leave("after_sound")


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=2, delay=2))
def flaky(context: dg.AssetExecutionContext) -> None:
    leave(f"flaky_{context.retry_number}")
    if context.retry_number < 2:
        raise ValueError("not yet")


@dg.asset(deps=[flaky])
def asking(context: dg.AssetExecutionContext) -> None:
    leave(f"asking_{context.retry_number}")
    if context.retry_number < 1:
        raise dg.RetryRequested(max_retries=1, seconds_to_wait=2)


def _kill_worker(context: dg.AssetExecutionContext, name: str) -> None:
    leave(f"{name}_{context.retry_number}")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(LIMIT_S)


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
def kills_its_worker_once(context: dg.AssetExecutionContext) -> None:
    if context.retry_number == 0:
        _kill_worker(context, "kills_once")
    leave("kills_once_1")


@dg.asset
def kills_its_worker(context: dg.AssetExecutionContext) -> None:
    _kill_worker(context, "kills")


@dg.asset
def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dg.asset
def hangs() -> None:
    # With a process of its own, as an unpacking has: both must go.
    with subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LIMIT_S})"]) as child:
        (FOLDER / "child").write_text(str(child.pid))
        leave("hangs")
        child.wait()


@dg.asset(deps=[hangs])
def after_hangs() -> None:
    leave("after_hangs")


@dg.asset(op_tags={"roboao/drives_cluster": "true"})
def drives() -> None:
    # Waits for a place on the cluster: it must not have the only one.
    from distributed import Client

    with Client(load_settings().dask_scheduler, timeout=30, set_as_default=False) as client:
        worker = client.submit(os.getpid, pure=False).result(timeout=60)
    assert worker != os.getppid()
    leave("drives")


def _executor() -> dg.ExecutorDefinition:
    if os.environ.get("STEP_JOBS_EXECUTOR") != "dagster_dask":
        return build_step_executor(load_settings())
    from dagster_dask import dask_executor

    return dask_executor


def _job(name: str, *assets: dg.AssetsDefinition):
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets))


JOBS = {
    "make_product": (product,),
    "endings": (sound, defective, after_defective, after_both, after_sound, flaky, asking),
    "lose_worker_once": (kills_its_worker_once,),
    "lose_workers": (kills_its_worker, is_killed, sound),
    "hang": (hangs, after_hangs),
    "drive": (drives,),
}

defs = dg.Definitions(
    assets=list({asset.key: asset for assets in JOBS.values() for asset in assets}.values()),
    jobs=[_job(name, *assets) for name, assets in JOBS.items()],
    executor=_executor(),
)
