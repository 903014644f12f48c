"""Whether time per megapixel and peak memory stay the same from 10 to 1000 megapixels, and from 100 to 10,000 tiles.

All images are one square of a slide, repeated: equally crowded, and without cost. Memory does not grow with pixels, but
a little with tiles: with the plan of what to do, faces of tiles, and rows of the table. Every size is measured in a process of its
own; work on a small image goes before it, for imports and compiled functions.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import tifffile
from skimage.measure import label

from course_helpers.image_files import open_image
from course_helpers.memory import measure
from course_helpers.nuclei import seed_nuclei
from course_helpers.objects import count_in_tiles, label_in_tiles, measure_in_tiles, stitch_labels
from course_helpers.slide import render_nuclei
from course_helpers.storage import write_verified
from course_helpers.tiling import compute_in_patches
from tools.bench._timing import claim

SIDE, TILES_ALONG = 320, (10, 100)
SEEDS, OVERLAP, REACH = partial(seed_nuclei, threshold=25, sigma=3.5), 50, 30


class Nowhere:
    """What forgets all that is written into it."""

    def __init__(self, image, dtype):
        self.shape, self.dtype = image.shape, np.dtype(dtype)

    def __setitem__(self, region, pixels):
        pass


def count(image, folder):
    compute_in_patches(count_in_tiles(SEEDS, image, OVERLAP, REACH))


def label_objects(image, folder):
    compute_in_patches(label_in_tiles(SEEDS, image, OVERLAP, REACH), out=Nowhere(image, np.int64))


def measure_objects(image, folder):
    measure_in_tiles(SEEDS, image, OVERLAP, reach=REACH)


def stitch(image, folder):
    stitched = stitch_labels((image > 25).map_blocks(label, dtype=np.int64))
    da.store(stitched, Nowhere(image, np.int64), lock=False)


def store(image, folder):
    write_verified(image, folder / f"{image.npartitions}.zarr", overwrite=True)


def convert(image, folder):
    store(open_image(folder / f"{image.npartitions}.tif").array, folder)


STEPS = {
    "counting": count,
    "labelling": label_objects,
    "measuring": measure_objects,
    "stitching": stitch,
    "storing": store,
    "converting a TIFF file": convert,
}


def repeated(square, along):
    """A lazy image of so many squares along each axis."""
    chunks = ((SIDE,) * along,) * 2
    return da.map_blocks(lambda block_id: square, chunks=chunks, dtype=square.dtype, meta=square[:0, :0])


def seconds_of(work, small, image, folder):
    """Do the same with a small image and with another one, ten times if it has few tiles; return the mean time of the second."""
    work(small, folder)
    runs, start = max(1000 // image.npartitions, 1), time.perf_counter()
    for _ in range(runs):
        work(image, folder)
    return (time.perf_counter() - start) / runs


def main():
    square = render_nuclei(window=np.s_[1000 : 1000 + SIDE, 2500 : 2500 + SIDE])
    print(f"{'':24}{'megapixels':>11}{'tiles':>7}{'ms per megapixel':>18}{'peak MB':>9}")
    for name, work in STEPS.items():
        times, peaks, tiles = [], [], [along**2 for along in TILES_ALONG]
        for along in TILES_ALONG:
            images = [repeated(square, 2), repeated(square, along)]
            with tempfile.TemporaryDirectory() as folder:
                if work is convert:
                    for image in images:
                        squares = (square for _ in range(image.npartitions))
                        path, grid = f"{folder}/{image.npartitions}.tif", (SIDE, SIDE)
                        tifffile.imwrite(path, squares, shape=image.shape, dtype=image.dtype, tile=grid, bigtiff=True)
                run = measure(partial(seconds_of, work, *images, Path(folder)))
            times.append(run.result / images[-1].size * 1e9)
            peaks.append(run.peak / 1e6)
            print(
                f"{name:24}{images[-1].size / 1e6:11.0f}{images[-1].npartitions:7d}{times[-1]:18.1f}{peaks[-1]:9.0f}",
                flush=True,
            )
        claim(f"{name}: time per megapixel", "10 megapixels", times[-1] / times[0], "<= 1.15")
        more = (peaks[-1] - peaks[0]) * 1e6 / (tiles[-1] - tiles[0])
        claim(f"{name}: peak memory for each further tile", "its pixels", more / SIDE**2, "<= 0.15")


if __name__ == "__main__":
    main()
