"""Speed of the Mandelbrot helpers, as ratios to plain NumPy and to the lecture's way of stacking, in the same run."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask import delayed
from numba.core.codegen import get_host_cpu_features

from course_helpers.mandelbrot import (
    SCALE0,
    SIZE,
    ZOOM_PER_LEVEL,
    mandelbrot_array,
    mandelbrot_numpy,
    render_level,
)
from tools.bench._timing import best_times, claim

LEVELS = [0, 20_000, 60_000, 100_000, 102_000, 139_000]  # from 102,000 on by perturbation
FIRST_CALL = """
import time
start = time.perf_counter()
from course_helpers.mandelbrot import render_level
imported = time.perf_counter()
render_level({level})
first = time.perf_counter()
render_level({level})
print(imported - start, first - imported, time.perf_counter() - first)
"""
OPEN_THE_STACK = """
import os, time
from tools.bench.mandelbrot import np, one_layer_stack, render_level
{warm_up}
def resident():  # in bytes; only Linux tells
    path = "/proc/self/statm"
    return int(open(path).read().split()[1]) * os.sysconf("SC_PAGE_SIZE") if os.path.exists(path) else np.nan
before, start = resident(), time.perf_counter()
stack = one_layer_stack(200_000)
built = time.perf_counter()
stack[100_000].compute()
first = time.perf_counter()
np.asarray(stack[0:20_000:1000, ::2, ::2])
end = time.perf_counter()
print(built - start, first - built, end - first, (resident() - before) / 1e6)
"""


def numbers_from_fresh_process(code, cache_folder):
    """Run code in a new Python with its own cache of compiled functions; return the numbers that it prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache_folder}
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(word) for word in output.stdout.split()]


def one_layer_stack(number_of_images):
    """Stack images by one rule, as lesson 1 does in the end: one layer of the graph for all of them."""
    chunks = ((1,) * number_of_images, (SIZE,), (SIZE,))
    return da.map_blocks(render_block, chunks=chunks, meta=np.empty((0, 0, 0), np.uint16))


def render_block(block_id):
    return render_level(block_id[0])[np.newaxis]


def lecture_stack(number_of_images):
    """Stack delayed images one by one, as in the lecture: a layer of the graph for every image."""
    images = [
        da.from_delayed(delayed(render_level)(level), shape=(SIZE, SIZE), dtype=np.uint16)
        for level in range(number_of_images)
    ]
    return da.stack(images)


def print_rendering():
    print(f"\nRendering {SIZE} x {SIZE}, one thread, best of several")
    print(f"{'level':>8} {'NumPy':>10} {'ours':>10} {'ratio':>7}   pixels that differ")
    for level in LEVELS:
        scale = SCALE0 / ZOOM_PER_LEVEL**level
        works = [partial(mandelbrot_numpy, scale=scale), *[partial(mandelbrot_array, scale=scale)] * 4]
        plain, *ours = best_times(works, 4)
        if level <= 100_000:
            aim = 60 if "+avx512f" in get_host_cpu_features() else 40
            claim(f"rendering level {level:,}", "NumPy", plain / min(ours), f">= {aim}")
        differ = np.mean(mandelbrot_numpy(scale=scale) != mandelbrot_array(scale=scale))
        print(f"{level:8d} {plain * 1e3:7.0f} ms {min(ours) * 1e3:7.1f} ms {plain / min(ours):7.1f}   {differ:.4%}")


def print_first_calls():
    print("\nFirst call in a fresh process")
    print(f"{'level':>8} {'':>14} {'import':>10} {'first call':>11} {'second':>10}")
    for level in (0, 139_000):
        with tempfile.TemporaryDirectory() as cache_folder:
            for state in ("not compiled", "cached"):
                times = numbers_from_fresh_process(FIRST_CALL.format(level=level), cache_folder)
                print(f"{level:8d} {state:>14} {times[0]:8.2f} s {times[1]:9.2f} s {times[2] * 1e3:7.1f} ms")


def print_whole_stack():
    print("\nOne layer for 200,000 images in a fresh process, functions compiled before and cached")
    print(f"{'':>32} {'built':>8} {'[100_000]':>10} {'[0:20000:1000, ::2, ::2]':>25} {'memory':>9}")
    with tempfile.TemporaryDirectory() as cache_folder:
        numbers_from_fresh_process(FIRST_CALL.format(level=0), cache_folder)
        for name, warm_up in (("nothing rendered before", ""), ("after a first image", "render_level(0)")):
            code = OPEN_THE_STACK.format(warm_up=warm_up)
            built, first, several, memory = numbers_from_fresh_process(code, cache_folder)
            print(f"{name:>32} {built:6.2f} s {first:8.2f} s {several:23.2f} s {memory:6.0f} MB")
    stack = one_layer_stack(200_000)
    works = [lambda: stack[5].compute(), lambda: render_level(5)]
    from_stack, direct = best_times(works, 10)
    print(
        f"one more image: {from_stack * 1e3:.1f} ms from the stack, {direct * 1e3:.1f} ms by render_level, "
        f"overhead {(from_stack - direct) * 1e3:.1f} ms"
    )


def print_ways_to_stack():
    print("\nThe lecture's way (from_delayed, stack) and one layer; overhead: time for one image minus render_level")
    print(f"{'images':>8} {'way':>12} {'layers':>8} {'built':>10} {'per image':>11} {'overhead of one image':>22}")
    for number_of_images in (200, 2_000):
        for name, build in (("lecture", lecture_stack), ("one layer", one_layer_stack)):
            start = time.perf_counter()
            stack = build(number_of_images)
            built = time.perf_counter() - start
            works = [lambda stack=stack: stack[5].compute(scheduler="synchronous"), lambda: render_level(5)]
            from_stack, direct = best_times(works, 3)
            print(
                f"{number_of_images:8d} {name:>12} {len(stack.dask.layers):8d} {built:8.3f} s "
                f"{built / number_of_images * 1e6:8.1f} us {(from_stack - direct) * 1e3:19.1f} ms"
            )


def main():
    print(f"numpy {np.__version__}, dask {dask.__version__}, {os.cpu_count()} processors")
    print_rendering()
    print_first_calls()
    print_whole_stack()
    print_ways_to_stack()


if __name__ == "__main__":
    main()
