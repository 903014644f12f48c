"""Count the nuclei of a slide on a cluster, tile by tile. Run it again with the same arguments to resume.

    python count_on_cluster.py counts.zarr                                 the virtual slide, on this machine
    python count_on_cluster.py counts.zarr --image slide.zarr              your slide, a two-dimensional Zarr array
    python count_on_cluster.py counts.zarr --cluster slurm --workers 64    as jobs of a SLURM cluster

The result is a Zarr array with one number per tile; -1 means "not counted yet". Its chunks, called parts here, are
written by the workers themselves. A run that ends early (killed, out of time, machine lost) keeps all finished parts,
and the next run counts only the others. On a cluster, slide and result must lie on a disk that all workers see, and
the workers need the same Python environment. Lesson 7 tries it, and its section "Store results where they are made"
explains how parts are stored.
"""

import signal

if __name__ == "__mp_main__":  # a worker on this machine imports this file under this name
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the script, which then ends the workers

import argparse
import logging
import os
import sys
import time
from functools import partial

import dask.array as da
import zarr
from dask.distributed import Client, LocalCluster, as_completed

from course_helpers.nuclei import seed_nuclei
from course_helpers.objects import count_in_tiles
from course_helpers.slide import nuclei_slide
from course_helpers.storage import CODECS, check_store
from course_helpers.tiling import overlap_needed

NOT_COUNTED = -1


# --- where the work is done: the only part that differs between a laptop and a cluster --------------------------------


def local_cluster(options):
    """Processes on this machine, reachable from this machine and with their key only."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is something to end
    try:
        return LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            memory_limit=options.memory,
            host="127.0.0.1",
            security=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def slurm_cluster(options):
    """One job per worker in a queue of SLURM; run this script where jobs may be submitted."""
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        queue=options.queue,
        account=options.account,
        cores=1,
        memory=options.memory,
        walltime=options.walltime,
        security=True,  # the workers read their key from files that only you may read, beside the result
        shared_temp_directory=os.path.dirname(os.path.abspath(options.output)),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},  # look at it through a tunnel: ssh -L
        worker_extra_args=["--dashboard-address", "127.0.0.1:0"],
    )
    cluster.scale(options.workers)
    return cluster


def kubernetes_cluster(options):
    """One pod per worker; needs `pip install dask-kubernetes`, and its operator in the Kubernetes cluster."""
    from dask_kubernetes.operator import KubeCluster

    resources = {"limits": {"memory": options.memory, "cpu": "1"}}
    return KubeCluster(name="count", image=options.container, n_workers=options.workers, resources=resources)


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
    if not os.path.exists(options.output):
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
    for number, part in enumerate(as_completed(client.compute(stored)), start=total - len(parts) + 1):
        part.result()  # raises here what went wrong on a worker
        print(f"part {number} of {total} is stored", flush=True)


def main(arguments=None):
    options = parsed(arguments)
    if options.job_script:
        options.workers = 0  # nothing is submitted
        with slurm_cluster(options) as cluster:
            return print(cluster.job_script())
    count_map = lazy_count_map(options)
    target = open_target(count_map, options)
    parts, total = unfinished_parts(target)
    print(f"{total - len(parts)} of {total} parts are there already", flush=True)
    if parts:
        start = time.perf_counter()
        try:
            with CLUSTERS[options.cluster](options) as cluster, Client(cluster) as client:
                print(f"dashboard: {client.dashboard_link}", flush=True)
                count_parts(client, count_map, target, parts, total)
        except KeyboardInterrupt:
            done = total - len(unfinished_parts(target)[0])
            sys.exit(f"\nStopped: {done} of {total} parts are stored. Run the same line again to count the others.")
        print(f"counted in {time.perf_counter() - start:.0f} s, start of the cluster included")
    print(f"{target[:].sum():,} nuclei in {target.size:,} tiles")


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
    parser.add_argument("--walltime", default="01:00:00", help="SLURM: longest time a worker may run")
    parser.add_argument("--container", help="Kubernetes: image that holds the Python environment")
    parser.add_argument("--job-script", action="store_true", help="print what would be submitted to SLURM, and end")
    return parser.parse_args(arguments)


def positive(text):
    """A whole number from 1 on the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return number


if __name__ == "__main__":
    main()
