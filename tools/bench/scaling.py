"""A cluster on this machine: speed-up over workers beside Amdahl's prediction, overhead per task, loss of a worker.

Run it with --full for a slide nine times as large.
"""

import logging
import os
import sys
import time
from functools import partial

import dask
import numpy as np
import psutil
from dask.distributed import Client, LocalCluster, futures_of, get_task_stream

from course_helpers.nuclei import seed_nuclei
from course_helpers.objects import count_in_tiles
from course_helpers.slide import nuclei_slide
from tools.bench._timing import best_times, claim, seconds

SEEDS = partial(seed_nuclei, threshold=32, sigma=2)
TASKS = 1000


def cluster_of(workers, **options):
    """A cluster of processes with one thread each, reachable from this machine only, and only with its keys."""
    settings = {
        "threads_per_worker": 1,
        "memory_limit": "1 GiB",
        "security": True,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
    }
    return LocalCluster(n_workers=workers, silence_logs=logging.CRITICAL, **settings | options)


def nothing(number):
    return number


def print_overhead():
    """Milliseconds per task that does nothing, by scheduler, best of 3."""

    def run(scheduler):
        plans = [dask.delayed(nothing)(number) for number in range(TASKS)]
        return lambda: dask.compute(*plans, scheduler=scheduler)

    loopback = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    in_process = LocalCluster(processes=False, n_workers=1, threads_per_worker=2, **loopback)
    with in_process, Client(in_process) as threads, cluster_of(2) as cluster, Client(cluster) as processes:
        ways = {
            "synchronous": run("synchronous"),
            "threads": run("threads"),
            "distributed, threads": run(threads),
            "distributed, processes": run(processes),
        }
        times = best_times(list(ways.values()), 3)
    print(f"\nOverhead of {TASKS} tasks that do nothing")
    for name, taken in zip(ways, times):
        print(f"{name:24} {1000 * taken / TASKS:7.3f} ms per task, {taken / times[1]:5.1f} times dask's threads")


def compute_time(stream):
    """Seconds in which workers computed, from a recorded task stream."""
    parts = [part for message in stream.data for part in message["startstops"] if part["action"] == "compute"]
    return sum(part["stop"] - part["start"] for part in parts)


def amdahl(serial, workers):
    """How many times as fast so many workers should be."""
    return 1 / (serial + (1 - serial) / workers)


def print_speed_up(shape):
    """Speed-up over workers; Amdahl's prediction takes what one worker does not spend on tasks for the serial share."""
    count_map = count_in_tiles(SEEDS, nuclei_slide(shape, chunks=500), 38, reach=23)
    cores = os.cpu_count()
    workers = sorted({1, 2, cores, 2 * cores})
    with cluster_of(workers[-1]) as cluster, Client(cluster) as client:
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])

        def run(count):
            return lambda: client.compute(count_map.sum(), workers=addresses[:count]).result()

        run(workers[-1])()  # imports and compiled functions
        busy = psutil.cpu_percent(interval=1)  # while the workers wait
        times = best_times([run(count) for count in workers], 3)
        with get_task_stream(client) as stream:
            alone = seconds(run(1))
    serial = max(0, 1 - compute_time(stream) / alone)
    print(f"\nSpeed-up of counting {shape}, {count_map.size} tiles, on {cores} cores; share not divided: {serial:.1%}")
    print(f"Before, other programs used {busy:.0f} % of the cores; the prediction is for cores that are free")
    claim(
        "counting with two worker processes", "Amdahl's prediction", times[0] / times[1] / amdahl(serial, 2), ">= 0.7"
    )
    for count, taken in zip(workers, times):
        predicted = amdahl(serial, count)
        note = "  (more workers than cores)" if count > cores else ""
        print(f"{count:3} workers: measured {times[0] / taken:5.2f}, predicted {predicted:5.2f}{note}")


def print_loss(shape):
    """Kill a worker when a quarter of the tiles is counted, and compare the result with that of dask's threads."""
    count_map = count_in_tiles(SEEDS, nuclei_slide(shape, chunks=500), 38, reach=23)
    expected = count_map.compute(scheduler="threads")
    with cluster_of(2) as cluster, Client(cluster) as client:
        undisturbed = seconds(lambda: client.compute(count_map).result())
        undisturbed = min(undisturbed, seconds(lambda: client.compute(count_map).result()))
        with get_task_stream(client) as stream:
            start = time.perf_counter()
            counting = client.persist(count_map)
            futures = futures_of(counting)
            while sum(future.status == "finished" for future in futures) < len(futures) // 4:
                time.sleep(0.01)
            psutil.Process(next(iter(client.run(os.getpid).values()))).kill()
            counts = counting.compute()
            disturbed = time.perf_counter() - start
    counted = sum(message["key"][0].startswith("objects") for message in stream.data)
    print(
        f"\nA worker of two is killed: tiles counted {counted} for {count_map.size}, "
        f"counts that differ {np.count_nonzero(counts != expected)}, time {disturbed / undisturbed:.1f} times"
    )


def main():
    shape = (12_000, 12_000) if "--full" in sys.argv else (4000, 4000)
    print_overhead()
    print_speed_up(shape)
    print_loss(shape)


if __name__ == "__main__":
    main()
