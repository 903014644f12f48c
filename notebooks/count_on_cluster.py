"""Count the nuclei of a slide on a cluster, tile by tile. Run it again with the same arguments to resume.

    python count_on_cluster.py counts.zarr                                 the virtual slide, on this machine
    python count_on_cluster.py counts.zarr --image slide.zarr              your slide, a two-dimensional Zarr array
    python count_on_cluster.py counts.zarr --cluster slurm --workers 64    as jobs of a SLURM cluster

The result is a Zarr array with one number per tile; -1 means "not counted yet". Its chunks, called parts here, are
written by the workers themselves. A run that ends early (killed, out of time, machine lost) keeps all finished parts,
and the next run counts only the others. On a cluster, slide and result must lie on a disk that all workers see, and
the workers need the same Python environment. Lesson 7 tries it, and its section "Store results where they are made"
explains how parts are stored.

It ends with 0 when all is counted, 1 when something must be put right first (the message says what), 2 for a wrong
command line, 3 when it was stopped or got no workers: then the same line goes on.
"""

import signal

if __name__ == "__mp_main__":  # a worker on this machine imports this file under this name
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the script, which then ends the workers

import argparse
import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
import dask.array as da
import zarr
from dask.distributed import Client, KilledWorker, LocalCluster, as_completed
from dask.utils import parse_bytes
from distributed.security import Security

from course_helpers._engine.safe_writing import held
from course_helpers.nuclei import seed_nuclei
from course_helpers.objects import count_in_tiles
from course_helpers.slide import nuclei_slide
from course_helpers.storage import CODECS, check_store
from course_helpers.tiling import overlap_needed

NOT_COUNTED = -1


# --- where the work is done: the only part that differs between a laptop and a cluster --------------------------------


def local_cluster(options):
    """Processes on this machine, reachable from this machine only, and only by who has the keys of this run."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is something to end
    try:
        cluster = LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            memory_limit=options.memory,
            security=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    cluster.adapt(minimum=options.workers, maximum=options.workers)  # replaces those that are lost
    return cluster


@contextmanager
def slurm_cluster(options):
    """One job per worker in a queue of SLURM, and another one when it is lost; run this script where jobs are submitted.

    All connections are encrypted, and open only to who has the keys of this run. They lie beside the output until it
    ends, readable by you alone. Web pages are for the machine on which they are made: reach them through ssh -L.
    """
    from dask_jobqueue import SLURMCluster

    yours = dask.config.get("jobqueue.slurm.worker-extra-args")
    output, security = Path(os.path.abspath(options.output)), Security.temporary()
    with TemporaryDirectory(prefix=f".{output.name}.keys.", dir=output.parent) as folder:  # readable by its owner alone
        for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
            Path(folder, name).write_text(getattr(security, name))
            setattr(security, name, f"{folder}/{name}")
        with SLURMCluster(
            queue=options.queue,
            account=options.account,
            cores=1,
            memory=options.memory,
            walltime=options.walltime,
            security=security,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            worker_extra_args=[*yours, *within(options.walltime), "--dashboard-address", "127.0.0.1:0"],
            silence_logs=logging.CRITICAL,
        ) as cluster:
            if options.workers:
                refuse_what_slurm_refuses(cluster)
            cluster.adapt(minimum=options.workers, maximum=options.workers)  # replaces those that are lost
            yield cluster


def within(walltime):
    """Arguments with which workers end by themselves, one by one, before the wall time of their job does it."""
    days, dash, clock = walltime.rpartition("-")
    fields = [int(field) for field in clock.split(":")]
    hours, minutes, seconds = ([] if dash or len(fields) == 3 else [0]) + fields + [0] * (2 + bool(dash) - len(fields))
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return ["--lifetime", f"{0.85 * total:.0f}s", "--lifetime-stagger", f"{0.1 * total:.0f}s"]


def refuse_what_slurm_refuses(cluster):
    """Let SLURM look at a job without running it; exit with what it says if it refuses."""
    try:
        run = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
        refusal = run.returncode and " ".join(run.stderr.split())
    except FileNotFoundError:
        refusal = "there is no sbatch here. Run this script where jobs are submitted."
    if refusal:
        sys.exit(f"SLURM takes no job of this kind: {refusal}")


def jobs_in_queue(cluster):
    """How many jobs of a cluster are in SLURM's queue, counted by what squeue says about them."""
    numbers = {getattr(job, "job_id", None) for job in cluster.workers.values()}
    run = subprocess.run(["squeue", f"--user={getuser()}", "--noheader", "--format=%i %T (%r)"], capture_output=True)
    jobs = [line.split(" ", 1) for line in run.stdout.decode().splitlines()]
    return Counter(state for number, state in jobs if number in numbers)


def kubernetes_cluster(options):
    """One pod per worker; needs `pip install dask-kubernetes`, and its operator in the Kubernetes cluster.

    Written for dask-kubernetes 2026.3.0 by its source; it has not been run. Its connections are NOT encrypted: every pod
    that reaches the scheduler can run code. Let a NetworkPolicy admit only pods with the label dask.org/cluster-name.
    """
    from dask_kubernetes.operator import KubeCluster

    memory = str(parse_bytes(options.memory))  # Kubernetes knows 1Gi, but not 1GiB: bytes are understood by both
    resources = {"limits": {"memory": memory, "cpu": "1"}}
    command = ["dask-worker", "--nthreads", "1"]
    return KubeCluster(image=options.container, n_workers=options.workers, resources=resources, worker_command=command)


class NoWorkers(Exception):
    """Nobody does the work; the message says why."""


PATIENCE = 180  # seconds without a worker after which to say or to do something about it
BUSY = {"PENDING (Resources)", "PENDING (Priority)"}  # how jobs wait for their turn


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
                complain(client.cluster, workers)
                seen = looked
        time.sleep(0.1)


def complain(cluster, workers):
    """Say that the queue is busy, if it is; otherwise raise NoWorkers with the reason."""
    full = sum(worker["status"] == "paused" for worker in workers.values())
    jobs = jobs_in_queue(cluster) if hasattr(cluster, "job_script") else None
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


CLUSTERS = {"local": local_cluster, "slurm": slurm_cluster, "kubernetes": kubernetes_cluster}


# --- what is done: the same everywhere --------------------------------------------------------------------------------


def lazy_count_map(options):
    """The number of nuclei in each tile as in lesson 7, not computed."""
    if options.image:
        slide = da.from_zarr(options.image)
        if slide.ndim != 2:
            sys.exit(f"{options.image} has {slide.ndim} dimensions, but two are expected. Store one plane on its own.")
        slide = slide.rechunk(options.tile)
    else:
        slide = nuclei_slide(tuple(options.shape), chunks=options.tile)
    seeds = partial(seed_nuclei, threshold=options.threshold, sigma=options.sigma)
    reach = overlap_needed(("gaussian", options.sigma)) + options.largest // 2
    return count_in_tiles(seeds, slide, options.largest + reach, reach=reach)  # the rule of lesson 5


def open_target(count_map, options):
    """The Zarr array for the counts: a new one, or that of a run with the same settings which ended early."""
    settings = {name: getattr(options, name) for name in ("image", "shape", "tile", "threshold", "sigma", "largest")}
    if not os.path.exists(options.output) or os.path.isdir(options.output) and not os.listdir(options.output):
        return zarr.create_array(
            options.output,
            shape=count_map.shape,
            chunks=tuple(min(options.part, size) for size in count_map.shape),
            dtype="int64",
            fill_value=NOT_COUNTED,
            compressors=CODECS,
            attributes=settings,
        )
    try:
        target = zarr.open_array(options.output, mode="r+", zarr_format=3)
        if (target.shape, target.dtype, target.compressors) != (count_map.shape, "int64", CODECS):
            raise ValueError(f"it is {target.shape} {target.dtype}, with {target.compressors or 'no checksums'}")
    except Exception as error:
        sys.exit(
            f"{options.output} is no result of this script, or damaged: {error}. Delete it, or use another output."
        )
    begun = dict(target.attrs)
    changed = [
        f"{name} {begun.get(name)!r}, not {value!r}" for name, value in settings.items() if begun.get(name) != value
    ]
    if changed:
        sys.exit(f"{options.output} was begun with {'; '.join(changed)}. Use the same settings, or another output.")
    return target


def unfinished_parts(target):
    """The regions of those chunks of the target that are not counted yet or damaged, and the number of all chunks."""
    report = check_store(target.store.root)
    parts = [
        tuple(slice(number * step, min((number + 1) * step, size)) for number, step, size in zip(*layout))
        for layout in ((place, target.chunks, target.shape) for place in sorted(report.missing + report.damaged))
    ]
    return parts, report.files


def count_parts(client, count_map, target, parts, total):
    """Let the workers count and write the parts; print a line for each as soon as it is on disk."""
    count_map = count_map.rechunk(target.chunks)  # aligned: no two tasks write to the same file
    stored = [da.store(count_map[part], target, regions=part, lock=False, compute=False) for part in parts]
    for number, (part, seconds) in enumerate(as_done(client, client.compute(stored)), start=1):
        part.result()  # raises here what went wrong on a worker
        left = timedelta(seconds=round(seconds / number * (len(parts) - number)))
        print(f"part {total - len(parts) + number} of {total} is stored, about {left} left", flush=True)


def main(arguments=None):
    options = parsed(arguments)
    if options.job_script:
        options.workers = 0  # nothing is submitted
        with slurm_cluster(options) as cluster:
            return print(cluster.job_script())
    with ExitStack() as stack:
        try:
            stack.enter_context(held(Path(os.path.realpath(options.output))))
        except OSError as error:
            sys.exit(f"{error}")
        count(options)


def count(options):
    """Count what is not counted yet, and print the sum."""
    count_map = lazy_count_map(options)
    try:
        target = open_target(count_map, options)
    except OSError as error:
        sys.exit(f"{options.output} cannot be written: {error}. When this is put right, run the same line again.")
    parts, total = unfinished_parts(target)
    print(f"{total - len(parts)} of {total} parts are there already", flush=True)
    if parts:
        start = time.perf_counter()
        try:
            with CLUSTERS[options.cluster](options) as cluster, Client(cluster) as client:
                print(f"dashboard: {client.dashboard_link}", flush=True)
                count_parts(client, count_map, target, parts, total)
        except (KeyboardInterrupt, NoWorkers, KilledWorker, OSError) as error:
            end_early(error, target, options)
        print(f"counted in {time.perf_counter() - start:.0f} s, start of the cluster included")
    print(f"{target[:].sum():,} nuclei in {target.size:,} tiles")


def end_early(error, target, options):
    """Exit with a sentence about what happened, and what is stored: code 3 if the same line goes on, 1 if it would not."""
    code = 3 if isinstance(error, (KeyboardInterrupt, NoWorkers)) else 1
    why, remedy = f"{error}", "Run the same line again to count the others."
    if isinstance(error, KeyboardInterrupt):
        why = "Stopped."
    elif isinstance(error, KilledWorker):
        lost = error.allowed_failures + 1
        why = (
            f"{lost} workers were lost at the same part: for want of memory, or ended from outside before it was done."
        )
        remedy = f"Run this again, with more than --memory {options.memory} in the first case, to count the others."
    elif isinstance(error, OSError):
        why = f"A part could not be read or stored: {error}."
        remedy = "When this is put right, run the same line again to count the others."
    left, total = unfinished_parts(target)
    print(f"\n{why} {total - len(left)} of {total} parts are stored. {remedy}", file=sys.stderr)
    sys.exit(code)


def parsed(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="Zarr array with the counts: made, or resumed")
    parser.add_argument("--image", help="Zarr array with the slide; without it, the virtual slide is counted")
    parser.add_argument("--shape", type=positive, nargs=2, default=[4000, 4000], help="of the virtual slide, in pixels")
    parser.add_argument("--tile", type=positive, default=1000, help="side of a tile, in pixels")
    parser.add_argument("--part", type=positive, default=2, help="tiles along each side that one file holds")
    parser.add_argument("--threshold", type=float, default=32, help="what is brighter after the blur is foreground")
    parser.add_argument("--sigma", type=float, default=2, help="width of the blur, in pixels")
    parser.add_argument("--largest", type=positive, default=30, help="size of the largest nucleus, in pixels")
    parser.add_argument("--cluster", choices=CLUSTERS, default="local", help="where the workers run")
    parser.add_argument("--workers", type=positive, default=2, help="how many, with one thread each")
    parser.add_argument("--memory", default="1GiB", help="limit of each worker")
    parser.add_argument("--queue", help="SLURM: name of the queue (partition)")
    parser.add_argument("--account", help="SLURM: who pays")
    parser.add_argument("--walltime", type=walltime, default="01:00:00", help="SLURM: longest time a worker may run")
    parser.add_argument("--container", help="Kubernetes: image that holds the Python environment")
    parser.add_argument("--job-script", action="store_true", help="print what would be submitted to SLURM, and end")
    return parser.parse_args(arguments)


def walltime(text):
    """A time as SLURM takes it on the command line."""
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise argparse.ArgumentTypeError(f"{text} is no time like 90 (minutes), 01:30:00 or 1-12:00:00 (days first)")
    return text


def positive(text):
    """A whole number from 1 on the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return number


if __name__ == "__main__":
    main()
