"""Clusters for long runs: open only to who has the keys, lost workers replaced, and a reason where there are none."""

import logging
import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
from dask.distributed import LocalCluster, as_completed
from dask.utils import parse_bytes
from distributed.security import Security

PATIENCE = 180  # seconds without a worker after which to say or to do something about it
BUSY = {"PENDING (Resources)", "PENDING (Priority)"}  # how jobs wait for their turn


class NoWorkers(Exception):
    """Nobody does the work; the message says why."""


def local_cluster(workers, memory):
    """Return a cluster of processes on this machine, reachable from it only, and only by who has the keys of this run.

    `workers` says how many, with one thread each, and `memory` the limit of each, such as "1GiB".
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is something to end
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory,
            security=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    cluster.adapt(minimum=workers, maximum=workers)  # replaces those that are lost
    return cluster


@contextmanager
def slurm_cluster(workers, memory, folder, walltime, queue=None, account=None):
    """Give a cluster of one job per worker in a queue of SLURM, with another one for each that is lost.

    To be used in a ``with`` statement, at the end of which it is closed. All connections are encrypted, and open only to who
    has the keys of this run. They lie in a folder in `folder` until then, readable by you alone. Web pages are for the machine on which they are made: reach them through ssh -L.

    Parameters
    ----------
    workers : int
        How many; of 0, nothing is submitted.
    memory : str
        Limit of each, such as "1GiB".
    folder : str
        One that all machines see.
    walltime : str
        Longest time of a job, as SLURM takes it: workers end before, one by one, and others come.
    queue, account : str, optional
        Names of the queue (partition), and of who pays.

    Raises
    ------
    ValueError
        If SLURM takes no such job, or is not here.
    """
    before = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    if signal.getsignal(signal.SIGINT) is not before:  # the import lets Ctrl+C end this process as if all were done
        signal.signal(signal.SIGINT, before)

    yours = dask.config.get("jobqueue.slurm.worker-extra-args")
    security = Security.temporary()
    with TemporaryDirectory(prefix=".keys.", dir=os.path.abspath(folder)) as keys:  # readable by its owner alone
        for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
            Path(keys, name).write_text(getattr(security, name))
            setattr(security, name, f"{keys}/{name}")
        with SLURMCluster(
            queue=queue,
            account=account,
            cores=1,
            memory=memory,
            walltime=walltime,
            security=security,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            worker_extra_args=[*yours, *_lifetime(walltime), "--dashboard-address", "127.0.0.1:0"],
            silence_logs=logging.CRITICAL,
        ) as cluster:
            if workers and (refusal := _refusal(cluster)):
                raise ValueError(f"SLURM takes no job of this kind: {refusal}")
            cluster.adapt(minimum=workers, maximum=workers)  # replaces those that are lost
            yield cluster


def kubernetes_cluster(workers, memory, container):
    """Return a cluster of one pod per worker; needs `pip install dask-kubernetes`, and its operator in Kubernetes.

    Written for dask-kubernetes 2026.3.0 by its source; it has not been run. Its connections are NOT encrypted: every pod
    that reaches the scheduler can run code. Let a NetworkPolicy admit only pods with the label dask.org/cluster-name.
    `container` is an image that holds the Python environment.
    """
    from dask_kubernetes.operator import KubeCluster

    memory = str(parse_bytes(memory))  # Kubernetes knows 1Gi, but not 1GiB: bytes are understood by both
    resources = {"limits": {"memory": memory, "cpu": "1"}}
    command = ["dask-worker", "--nthreads", "1"]
    return KubeCluster(image=container, n_workers=workers, resources=resources, worker_command=command)


def as_done(client, futures):
    """Give each future as soon as it is done, and the seconds of work so far; raise NoWorkers if nobody works at them."""
    finished, running = as_completed(futures), set()
    begun = seen = looked = time.monotonic()
    while finished.count():
        for future in finished.next_batch(block=False):
            seen = time.monotonic()
            yield future, seen - begun
        if time.monotonic() > looked + 5:
            looked, before = time.monotonic(), running
            workers = client.scheduler_info()["workers"]
            running = {address for address, worker in workers.items() if worker["status"] == "running"}
            if not running and finished.count() == len(futures):
                begun = looked
            if running & before:  # a worker that ends at once is none
                seen = looked
            elif looked > seen + PATIENCE:
                _complain(client.cluster, workers)
                seen = looked
        time.sleep(0.1)


def _lifetime(walltime):
    """Return arguments with which workers end by themselves, one by one, before the wall time of their job does it."""
    days, dash, clock = walltime.rpartition("-")
    fields = [int(field) for field in clock.split(":")]
    hours, minutes, seconds = ([] if dash or len(fields) == 3 else [0]) + fields + [0] * (2 + bool(dash) - len(fields))
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return ["--lifetime", f"{0.85 * total:.0f}s", "--lifetime-stagger", f"{0.1 * total:.0f}s"]


def _refusal(cluster):
    """Return what SLURM says against a job, without running it."""
    try:
        run = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no sbatch here. Run this where jobs are submitted."
    return run.returncode and " ".join(run.stderr.split())


def _complain(cluster, workers):
    """Say that the queue is busy, if it is; otherwise raise NoWorkers with the reason."""
    full = sum(worker["status"] == "paused" for worker in workers.values())
    jobs = _jobs_in_queue(cluster) if hasattr(cluster, "job_script") else None
    if full:
        why = f"{full} are there, but paused, as their memory is full"
    elif jobs:
        why = "squeue says: " + ", ".join(f"{number} {state}" for state, number in jobs.items())
    elif jobs is None:
        why = "none has come, or all ended as soon as they had begun"
    else:
        why = f"no job of this run is in the queue. What the last ones said is in {os.getcwd()}, in slurm-NUMBER.out"
    if not jobs or not BUSY & set(jobs):
        raise NoWorkers(f"No worker could be had for {PATIENCE} s: {why}.")
    print(f"No worker for {PATIENCE} s; {why}. Waiting for one; Ctrl+C ends this.", flush=True)


def _jobs_in_queue(cluster):
    """Return how many jobs of a cluster are in SLURM's queue, counted by what squeue says about them."""
    numbers = {getattr(job, "job_id", None) for job in cluster.workers.values()}
    run = subprocess.run(["squeue", f"--user={getuser()}", "--noheader", "--format=%i %T (%r)"], capture_output=True)
    jobs = [line.split(" ", 1) for line in run.stdout.decode().splitlines()]
    return Counter(state for number, state in jobs if number in numbers)
