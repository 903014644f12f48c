"""Memory: the strategies of lesson 0 side by side, predictions against measurements, and what `measure` itself costs.

Predicted are 7 bytes for each pixel that is worked on at a time.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from course_helpers.lazy_recording import open_recording
from course_helpers.memory import measure
from course_helpers.recording import FRAMES, SHAPE, load_time_point
from tools.bench._timing import best_times, claim, seconds

MIB, LIMIT = 2**20, 2**28
PIXELS = int(np.prod(SHAPE))


def main():
    arrays()
    strategies()
    overhead()


def preprocess(pixels):
    flattened = pixels.astype(np.float32)
    flattened += 0.375
    np.sqrt(flattened, out=flattened)
    flattened *= 2
    return flattened


def count_bright(flattened):
    return int(np.count_nonzero(flattened > 40))


def work_on(t, window=np.s_[:, :, :]):
    pixels = load_time_point(t, window)
    flattened = preprocess(pixels)
    return count_bright(flattened)


def all_at_once(times):
    loaded = [load_time_point(t) for t in times]
    preprocessed = [preprocess(frame) for frame in loaded]
    return sum([count_bright(flattened) for flattened in preprocessed])


def by_time_point(times):
    return sum(work_on(t) for t in times)


def in_parallel(workers, times):
    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(work_on, times))


def by_tile(rows, times):
    windows = [np.s_[:, first : first + rows, :] for first in range(0, SHAPE[1], rows)]
    return sum(work_on(t, window) for t in times for window in windows)


def count_chunk(chunk):
    return np.full((1, 1, 1, 1), count_bright(preprocess(chunk)))


def with_dask(rows, workers, times):
    counts = open_recording(rows)[: len(times)].map_blocks(
        count_chunk, chunks=(1, 1, 1, 1), meta=np.empty((0,) * 4, int)
    )
    return int(counts.sum().compute(num_workers=workers))


def arrays():
    print("Arrays of a known size: measured / predicted")
    for mebibytes in (1, 4, 16, 64, 256):
        peaks = [measure(partial(np.ones, mebibytes * MIB, np.uint8)).peak for _ in range(3)]
        print(
            f"{mebibytes:5d} MiB   {min(peaks) / mebibytes / MIB:.3f} to {max(peaks) / mebibytes / MIB:.3f}", flush=True
        )


def strategies(times=range(FRAMES)):
    time_point = 7 * PIXELS
    ways = {
        "all at once": (all_at_once, (6 * len(times) + 1) * PIXELS),
        "time point by time point": (by_time_point, time_point),
        **{f"{workers} in parallel": (partial(in_parallel, workers), workers * time_point) for workers in (2, 4)},
        **{f"tiles of {rows} rows": (partial(by_tile, rows), rows * time_point // SHAPE[1]) for rows in (128, 64)},
        **{
            f"dask, {workers} x {rows} rows": (
                partial(with_dask, rows, workers),
                workers * rows * time_point // SHAPE[1],
            )
            for rows, workers in ((512, 1), (512, 2), (512, 4), (128, 4))
        },
    }
    print(f"\n{len(times)} time points of {2 * PIXELS / MIB} MiB, limit {LIMIT / MIB:.0f} MiB")
    print("                          predicted   measured  measured/predicted       time")
    reference, ratios = None, []
    for name, (way, predicted) in ways.items():
        run = measure(partial(way, times), LIMIT)
        reference = reference or (None if run.died else run)
        outcome = "died" if run.died else f"{run.seconds / reference.seconds:9.2f}x"
        same = "" if run.died or run.result == reference.result else "  ANOTHER RESULT"
        ratios += [] if run.died or predicted < 16 * MIB else [run.peak / predicted]
        print(
            f"{name:24} {predicted / MIB:7.1f} MiB {run.peak / MIB:6.1f} MiB {run.peak / predicted:19.2f} {outcome:>10}{same}",
            flush=True,
        )
    claim("peak memory of a strategy, highest", "prediction", max(ratios), "<= 1.25")
    claim("peak memory of a strategy, lowest", "prediction", min(ratios), ">= 0.8")


def overhead():
    times = range(20)
    empty = min(seconds(partial(measure, int)) for _ in range(5))
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import psutil, cloudpickle'])"
    (imports,) = best_times([partial(exec, script, {"sys": sys})], 5)
    print(f"\nmeasure() of nothing: {empty:.2f} s, {empty / imports:.2f} x a Python that imports what it needs")
    inside, outside = [], []
    for _ in range(5):  # taking turns, so that noise meets both
        inside.append(measure(partial(by_time_point, times)).seconds)
        outside.append(seconds(partial(by_time_point, times)))
    print(f"work of {min(outside):.2f} s takes {min(inside) / min(outside):.2f} x as long when it is measured")


if __name__ == "__main__":
    main()
