"""How fast the virtual stack is rendered, and how much memory lesson 8 takes for files of several sizes.

Run it with --full for files of 1 and 4 GB, too, which takes half an hour.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage as ndi

from course_helpers.image_files import open_image
from course_helpers.memory import measure
from course_helpers.nuclei import segment_blobs
from course_helpers.objects import label_in_tiles, measure_in_tiles
from course_helpers.own_image import summed_histogram
from course_helpers.pyramids import write_labels, write_pyramid
from course_helpers.stack import VOXEL_SIZE, nuclei_stack, true_stack_nuclei
from tools.bench._timing import seconds

TILE = (16, 128, 128)
OVERLAP, REACH = (20, 53, 53), (5, 13, 13)
FIND = partial(segment_blobs, threshold=322, outline_sigma=(2 / 3, 2, 2), spot_sigma=(1, 3, 3))


def draw_with_libraries(shape):
    """Draw as many balls of light by NumPy, blur them with SciPy, add noise: the usual way to make a test volume."""
    rng, light = np.random.default_rng(0), np.zeros(shape, np.float32)
    planes, rows, columns = np.ogrid[-4:5, -10:11, -10:11]
    ball = (1.5 * planes) ** 2 + (rows / 2) ** 2 + (columns / 2) ** 2 < 18
    for centre in rng.integers(
        (4, 10, 10), np.subtract(shape, (5, 11, 11)), (len(true_stack_nuclei((1, 1, *shape))), 3)
    ):
        light[tuple(slice(middle - half, middle + half + 1) for middle, half in zip(centre, (4, 10, 10)))] += 500 * ball
    light = ndi.gaussian_filter(light, 0.7)
    return (rng.poisson(light) + rng.normal(100, 6, shape)).clip(0, 65535).astype(np.uint16)


def compare_speed(shape=(32, 512, 512), repetitions=3):
    """Print megavoxels per second on one core, best of some interleaved repetitions."""

    def in_chunks(side):
        stack = nuclei_stack((1, 1, *shape), chunks=(1, 1, 32, side, side))
        return lambda: stack.max().compute(scheduler="synchronous")

    contenders = {"NumPy and SciPy": lambda: draw_with_libraries(shape)}
    contenders |= {f"chunks of 32 x {side} x {side}": in_chunks(side) for side in (64, 128, 512)}
    times = [{name: seconds(work) for name, work in contenders.items()} for _ in range(repetitions + 1)][1:]
    best = {name: min(run[name] for run in times) for name in contenders}
    print(f"\n{'virtual stack, one core':36} {'Mvoxel/s':>9} {'x peer':>8}")
    for name, taken in best.items():
        print(f"{name:36} {np.prod(shape) / 1e6 / taken:9.1f} {best['NumPy and SciPy'] / taken:8.1f}")


def write_file(path, side):
    """Write one time point of one channel as an OME-TIFF file, plane by plane."""
    stack = nuclei_stack((1, 1, 64, side, side), chunks=(1, 1, 1, side, side))[0, 0]
    sizes = {f"PhysicalSize{axis}": size for axis, size in VOXEL_SIZE.items()}
    planes = (stack[number].compute() for number in range(64))
    tifffile.imwrite(path, planes, shape=stack.shape, dtype=np.uint16, metadata={"axes": "ZYX", **sizes})


def step(folder, name):
    """Do one step of the lesson; what it needs is opened anew, because `measure` runs it in another process."""
    store = f"{folder}/stack.ome.zarr"
    if name == "copy":
        image = open_image(f"{folder}/stack.ome.tif")
        write_pyramid(image.array, store, image.pixel_size, axes=image.axes)
        return
    image = open_image(store, number=0)
    volume = image.tczyx()[0, 0].rechunk(TILE)
    if name == "histogram":
        summed_histogram(image.array)
    elif name == "table":
        measure_in_tiles(FIND, volume, OVERLAP, ("label", "area"), REACH, spacing=image.spacing)
    else:
        write_labels(label_in_tiles(FIND, volume, OVERLAP, REACH), store, "nuclei")


def compare_memory(sides, steps=("copy", "histogram", "table", "labels")):
    """Print time and peak memory of steps for files of several sizes."""
    print(f"\n{'file':>8} {'step':12} {'seconds':>9} {'peak MiB':>9}")
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            write_file(f"{folder}/stack.ome.tif", side)
            megabytes = Path(f"{folder}/stack.ome.tif").stat().st_size / 1e6
            for name in steps:
                run = measure(partial(step, folder, name))
                print(
                    f"{megabytes:5.0f} MB {name:12} {run.seconds:9.1f} {run.peak / 2**20:9.0f} {run.died or ''}",
                    flush=True,
                )


def main():
    compare_speed()
    compare_memory((400, 800))
    if "--full" in sys.argv:
        compare_memory((2800, 5600))


if __name__ == "__main__":
    main()
