"""The processes of a deployment, as the kernel counts them."""

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class Use:
    """What the processes of one role hold at a moment."""

    processes: int
    memory_mib: float
    descriptors: int
    threads: int


ROLES = {
    "webserver": ("dagster_webserver", "dagster-webserver"),
    "daemon": ("dagster._daemon", "dagster-daemon"),
    "code server": ("grpc", "code-server"),
    "dashboard": ("dashboards.app",),
    "scheduler": ("dask scheduler", "distributed.cli.dask_scheduler"),
    "worker": ("dask worker", "distributed.cli.dask_worker", "from multiprocessing"),
}


def use_by_role(home: Path) -> dict[str, Use]:
    """Return what the processes hold whose environment names `home` as their DAGSTER_HOME."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("DAGSTER_HOME") == str(home):
                found.setdefault(_role(process), []).append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return {role: _use(processes) for role, processes in found.items()}


def _role(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((role for role, signs in ROLES.items() if any(s in line for s in signs)), "other")


def _use(processes: list[psutil.Process]) -> Use:
    memory = descriptors = threads = 0
    alive = 0
    for process in processes:
        try:
            memory += process.memory_full_info().uss
            descriptors += process.num_fds()
            threads += process.num_threads()
            alive += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return Use(processes=alive, memory_mib=memory / 2**20, descriptors=descriptors, threads=threads)
