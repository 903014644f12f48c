"""Time and peak memory of the steps of lesson 8, for a file of 20 MB; with --full up to 4 GB, which takes half an hour."""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from course_helpers.image_files import open_image
from course_helpers.memory import measure
from course_helpers.nuclei import segment_blobs
from course_helpers.objects import label_in_tiles, measure_in_tiles
from course_helpers.own_image import summed_histogram
from course_helpers.pyramids import write_labels, write_pyramid
from course_helpers.stack import VOXEL_SIZE, nuclei_stack

TILE = (16, 128, 128)
OVERLAP, REACH = (20, 53, 53), (5, 13, 13)
FIND = partial(segment_blobs, threshold=322, outline_sigma=(2 / 3, 2, 2), spot_sigma=(1, 3, 3))


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
    print(f"{'file':>8} {'step':12} {'seconds':>9} {'peak MiB':>9}")
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
    compare_memory((400, 800, 2800, 5600) if "--full" in sys.argv else (400,))


if __name__ == "__main__":
    main()
