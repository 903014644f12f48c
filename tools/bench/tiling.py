"""Tiling against the whole image, and background removal against scikit-image and SciPy.

One thread for everything, in CPU time, which other programs disturb less. The ways that are compared take turns; the
fastest of several rounds counts. Filters may be slower on arrays whose rows are a power of two long, like tiles without
overlap: this is part of the time for all tiles, but not of the time outside the procedure.
"""

from time import process_time

import dask
import dask.array as da
import numpy as np
from scipy import ndimage
from skimage.filters import rank
from skimage.morphology import disk, white_tophat
from skimage.util import apply_parallel

from course_helpers._engine.tiled import tiled
from course_helpers.background import remove_background
from tools.bench._timing import claim

OVERLAPS = (0, 32)
TILES = (128, 512)
SHAPE = (2000, 2000)  # no power of 2: long steps of 2048 pixels would slow down the whole image, not the tiles


def main():
    compare_background_removal()
    compare_tilings()


def blur(pixels):
    return ndimage.gaussian_filter(pixels, 2)


def seconds(*ways, rounds, meter):
    """Return for each way the CPU seconds of its fastest round, its result, and what `meter` (a dictionary that the
    ways add to) counted in that round. In a round, every way has one turn.
    """
    best, results, meters = [np.inf] * len(ways), [None] * len(ways), [None] * len(ways)
    for _ in range(rounds):
        for number, way in enumerate(ways):
            meter.update(dict.fromkeys(meter, 0))
            start = process_time()
            results[number] = way()
            taken = process_time() - start
            if taken < best[number]:
                best[number], meters[number] = taken, dict(meter)
    return best, results, meters


def compare_background_removal():
    print("White top-hat: time / time of remove_background, and whether the result is the same.")
    print("radius  dtype    pixels       ours   disk, scikit-image  disk as sequence   rank filters    square, SciPy")
    cases = [
        (6, np.uint8, (1000, 1000)),
        (15, np.uint8, (2000, 2000)),
        (15, np.uint16, (1000, 1000)),
        (15, np.float32, (1000, 1000)),
        (30, np.uint8, (500, 500)),
    ]
    for radius, dtype, shape in cases:
        image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
        footprint = disk(radius)
        sequence = disk(radius, decomposition="sequence")
        ways = [
            lambda: remove_background(image, radius),
            lambda: white_tophat(image, footprint),
            lambda: white_tophat(image, sequence),
            lambda: image - rank.maximum(rank.minimum(image, footprint), footprint),
            lambda: ndimage.white_tophat(image, size=2 * radius + 1),
        ]
        if dtype != np.uint8:
            ways[3] = lambda: None  # the rank filters are made for uint8
        remove_background(image, radius)
        (ours, *others), (expected, *results), _ = seconds(*ways, rounds=2, meter={})
        cells = [
            "-" if result is None else f"{other / ours:.0f}x {'same' if (result == expected).all() else 'other'}"
            for other, result in zip(others, results)
        ]
        print(
            f"{radius:6d}  {np.dtype(dtype).name:7s}  {shape[0]:4d} x {shape[1]:4d}"
            f"  {ours * 1e9 / image.size:5.1f} ns/px" + "".join(f"{cell:>17s}" for cell in cells),
            flush=True,
        )
        if dtype == np.uint8:
            claim(f"background removal, disk of radius {radius}", "scikit-image, sequence", others[1] / ours, ">= 10")


def compare_tilings():
    print(f"\nGaussian, sigma 2, uint8 image of {SHAPE[0]} x {SHAPE[1]} pixels, one thread.")
    print("extra: processed pixels / pixels of the image. Then time / time for the whole image, and in brackets what")
    print("is spent outside the procedure, in percent of the time inside. The same: whether all results agree.")
    print("overlap   tile   extra   tiled (ours)      map_overlap   apply_parallel    the same")
    image = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    for overlap in OVERLAPS:
        for tile in TILES:
            compare_tiling(image, overlap, tile)


def compare_tiling(image, overlap, tile):
    """Print a line of the table."""
    blocks, meter = da.from_array(image, chunks=tile), {"pixels": 0, "seconds": 0}

    def metered(pixels):
        start = process_time()
        result = blur(pixels)
        meter["seconds"] += process_time() - start
        meter["pixels"] += pixels.size
        return result

    ways = [
        lambda: metered(image),
        lambda: tiled(metered, image, tile, overlap),
        lambda: blocks.map_overlap(metered, depth=overlap, boundary="none", dtype=np.uint8).compute(),
        lambda: apply_parallel(metered, image, (tile, tile), overlap, mode="none", dtype=image.dtype),
    ]
    with dask.config.set(num_workers=1, scheduler="synchronous"):
        (whole, *others), results, (_, *meters) = seconds(*ways, rounds=4, meter=meter)
    extra = meters[0]["pixels"] / image.size
    same = "yes" if all((result == results[0]).all() for result in results) else "no"
    added = [other / inside["seconds"] - 1 for other, inside in zip(others, meters)]
    cells = [f"{other / whole:.2f} ({share:+.0%})" for other, share in zip(others, added)]
    print(
        f"{overlap:7d} {tile:6d} {extra:7.3f}" + "".join(f"{cell:>17s}" for cell in cells) + f"{same:>10s}", flush=True
    )
    if overlap == 32:
        claim(f"tiles of {tile} with overlap 32", "map_overlap", others[1] / others[0], ">= 1.2")


if __name__ == "__main__":
    main()
