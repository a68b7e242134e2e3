"""Dask workers of the archive as SLURM jobs: as many as there is work, none when there is none.

Run on a login node, in an environment with this package and dask-jobqueue. The scheduler is its
child; give its address to the archive: ROBOAO_DASK_SCHEDULER=tcp://THIS_NODE:8786.

    python deploy/hpc/slurm_workers.py --queue regular --most 40 --walltime 04:00:00
"""

import argparse
import os
import signal

from dask_jobqueue import SLURMCluster

# An observation of 770 frames takes 2 GB and, with lbzip2, two cores.
CORES, MEMORY = 2, "6GB"
# What a worker of the archive must know; the rest comes with each task.
PASSED_ON = ("ROBOAO_CATALOGUE_URL", "ROBOAO_RAW_ROOTS", "ROBOAO_ARCHIVE_ROOT")


def make_cluster(queue: str, walltime: str, *, port: int, account: str | None) -> SLURMCluster:
    """Return the scheduler, without a worker yet.

    Parameters
    ----------
    queue : str
        SLURM's partition.
    walltime : str
        HH:MM:SS of a job. A worker ends five minutes before, and its observation is done again by
        another one.
    port : int
        Of the scheduler.
    account : str or None
    """
    hours, minutes, seconds = (int(part) for part in walltime.split(":"))
    lifetime_s = hours * 3600 + minutes * 60 + seconds - 300
    # Names only: values, a password among them, would stand in the job script.
    exported = ",".join(name for name in PASSED_ON if name in os.environ)
    return SLURMCluster(
        queue=queue,
        account=account,
        walltime=walltime,
        cores=1,
        job_cpu=CORES,
        processes=1,
        memory=MEMORY,
        job_extra_directives=[f"--export={exported or 'NONE'}"],
        worker_extra_args=["--lifetime", f"{lifetime_s}s", "--lifetime-stagger", "2m"],
        local_directory="/tmp",  # noqa: S108 - of the node
        scheduler_options={"port": port, "dashboard_address": ":0"},
    )


def main() -> None:
    """Keep between none and `--most` jobs until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queue", required=True, help="SLURM's partition")
    parser.add_argument("--account")
    parser.add_argument("--walltime", default="04:00:00", help="of a job, HH:MM:SS")
    parser.add_argument("--most", type=int, default=20, help="jobs at a time")
    parser.add_argument("--port", type=int, default=8786, help="of the scheduler")
    options = parser.parse_args()
    with make_cluster(
        options.queue, options.walltime, port=options.port, account=options.account
    ) as cluster:
        cluster.adapt(minimum_jobs=0, maximum_jobs=options.most)
        print(f"ROBOAO_DASK_SCHEDULER={cluster.scheduler_address}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
