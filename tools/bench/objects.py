"""Counting, labelling and measuring across tiles, beside the lecture's function, dask-image and the whole image.

`python course.py bench objects --full` goes up to a slide of 1000 megapixels, which takes minutes.
"""

import os
import sys
from functools import partial

import dask
import dask.array as da
import numpy as np
import pandas as pd
from scipy import ndimage as ndi
from skimage import filters, measure, morphology, segmentation

from course_helpers import memory
from course_helpers.nuclei import count_nuclei, seed_nuclei, segment_nuclei
from course_helpers.objects import count_in_tiles, label_in_tiles, measure_in_tiles, stitch_labels
from course_helpers.slide import nuclei_slide, render_nuclei, true_nuclei
from course_helpers.tiling import compute_in_patches
from tools.bench._timing import best_times, seconds

THRESHOLD, SIGMA, OVERLAP, REACH = 25, 3.5, 50, 30


def lecture_count(tile, threshold=THRESHOLD, sigma=SIGMA):
    """The lecture's way: watershed, count, remove border objects, label what is left again, count, average."""
    mask = filters.gaussian(tile, sigma, preserve_range=True) > threshold
    distance = ndi.distance_transform_edt(mask)
    maxima = morphology.local_maxima(distance, connectivity=1) & mask
    labels = segmentation.watershed(-distance, measure.label(maxima), mask=mask)
    inner = measure.label(segmentation.clear_border(labels) > 0)
    return np.array([[(labels.max() + inner.max()) / 2]])


def map_count(function, tiles, **options):
    """The count map of a function that sees one tile at a time."""
    ones = tuple((1,) * count for count in tiles.numblocks)
    return da.map_blocks(function, tiles, chunks=ones, dtype=float, meta=np.empty((0, 0)), **options)


def print_counting():
    image = render_nuclei((2000, 5000))
    nuclei = {"threshold": THRESHOLD, "sigma": SIGMA}
    seed, segment = partial(seed_nuclei, **nuclei), partial(segment_nuclei, **nuclei)
    tiles = da.from_array(image, chunks=1000)
    ways = {
        "lecture, mapped over tiles": lambda: map_count(lecture_count, tiles).compute().sum(),
        "count_nuclei, mapped over tiles": lambda: map_count(count_nuclei, tiles, **nuclei).compute().sum(),
        "count_in_tiles(segment_nuclei)": lambda: count_in_tiles(segment, tiles, OVERLAP, REACH).compute().sum(),
        "count_in_tiles(seed_nuclei)": lambda: count_in_tiles(seed, tiles, OVERLAP, REACH).compute().sum(),
        "seed_nuclei, whole image": lambda: seed(image).max(),
        "segment_nuclei, whole image": lambda: segment(image).max(),
    }
    with dask.config.set(scheduler="synchronous"):
        results = [way() for way in ways.values()]
        times = best_times(list(ways.values()), 3)
    megapixels = image.size / 1e6
    print(f"\nCounting {image.shape}, tiles of 1000, overlap {OVERLAP}, one core, best of 3")
    print(f"{'':>32} {'count':>9} {'megapixels/s':>13} {'times the lecture':>18}")
    for name, result, duration in zip(ways, results, times):
        print(f"{name:>32} {result:9.1f} {megapixels / duration:13.2f} {times[0] / duration:18.2f}")
    shared = seconds(lambda: count_in_tiles(seed, tiles, OVERLAP, REACH).compute(scheduler="threads"))
    print(f"with all {os.cpu_count()} processors: {megapixels / shared:.2f} megapixels/s")


def print_chunk_sizes():
    image = render_nuclei((1000, 2000))
    seed = partial(seed_nuclei, threshold=THRESHOLD, sigma=SIGMA)
    print(f"\nThe same count for every chunk size: {image.shape}, whole image {seed(image).max()}")
    print(f"{'chunks':>8} {'lecture':>9} {'in tiles':>9} {'lecture':>10} {'in tiles':>10}")
    for chunks in (50, 100, 200, 500, 1000):
        tiles, found = da.from_array(image, chunks=chunks), []
        times = best_times(
            [
                lambda: found.append(map_count(lecture_count, tiles).compute().sum()),
                lambda: found.append(count_in_tiles(seed, tiles, OVERLAP, REACH).compute().sum()),
            ],
            1,
        )
        print(f"{chunks:8d} {found[0]:9.1f} {found[1]:9d} {times[0]:8.2f} s {times[1]:8.2f} s")


def print_labels_and_tables():
    image = render_nuclei((2000, 3000))
    segment = partial(segment_nuclei, threshold=THRESHOLD, sigma=SIGMA)
    tiles, properties = da.from_array(image, chunks=1000), ("label", "area", "bbox", "centroid", "intensity_mean")
    whole = segment(image)
    table, expected = (
        measure_in_tiles(segment, tiles, 80, properties, REACH),
        measure.regionprops_table(whole, image, properties=properties),
    )
    expected = pd.DataFrame(expected).sort_values(["bbox-0", "area", "centroid-1"], ignore_index=True)
    table = table.sort_values(["bbox-0", "area", "centroid-1"], ignore_index=True)
    differences = [np.abs(table[name] - expected[name]).max() for name in table if name != "label"]
    print(f"\nLabels and tables of {image.shape}, tiles of 1000, overlap 80, one core, best of 2")
    print(f"rows {len(table)}, on the whole image {len(expected)}; largest difference {max(differences):.2g}")
    with dask.config.set(scheduler="synchronous"):
        pairs = {
            "label image": (lambda: segment(image), lambda: label_in_tiles(segment, tiles, 80, REACH).compute()),
            "label image from 1 to n": (
                lambda: segment(image),
                lambda: label_in_tiles(segment, tiles, 80, REACH, renumber=True).compute(),
            ),
            "table": (
                lambda: measure.regionprops_table(segment(image), image, properties=properties),
                lambda: measure_in_tiles(segment, tiles, 80, properties, REACH),
            ),
        }
        for name, works in pairs.items():
            alone, tiled = best_times(works, 2)
            print(f"{name:>24}: whole image {alone:6.2f} s, in tiles {tiled:6.2f} s, ratio {tiled / alone:.2f}")


def print_stitching():
    from dask_image.ndmeasure import label

    print("\nStitching a mask, best of 3 (dask-image: once); the number of objects is compared every time")
    print(f"{'shape':>14} {'tiles':>7} {'objects':>8} {'ours':>9} {'whole image':>12} {'dask-image':>11} {'ratio':>7}")
    for size, chunks in ((2000, 500), (2000, 250), (4000, 500), (4000, 250), (4000, 100), (4000, 50)):
        rng = np.random.default_rng(0)
        mask = ndi.gaussian_filter(rng.standard_normal((size, size), np.float32), 4) > 0.02
        tiles, whole = da.from_array(mask, chunks=chunks), measure.label(mask).max()
        labels = tiles.map_blocks(measure.label, dtype=np.int64)
        assert stitch_labels(labels).max().compute() == whole
        ours, alone = best_times([lambda: stitch_labels(labels).compute(), lambda: measure.label(mask)], 3)
        line = f"{size:6d} x {size:5d} {tiles.npartitions:7d} {whole:8d} {ours:7.2f} s {alone:10.2f} s"
        if size > 2000:  # with 250-pixel chunks it does not come back within minutes
            print(f"{line} {'-':>11} {'-':>7}")
            continue
        found = []
        peer = seconds(lambda: found.append(label(tiles, structure=np.ones((3, 3)))[0].max().compute()))
        assert found[0] == whole
        print(f"{line} {peer:9.2f} s {peer / ours:7.1f}")


def print_scaling(sizes, once_up_to):
    """Time and peak memory of slides of all sizes: patch by patch, and with one compute up to a number of pixels."""
    seed = partial(seed_nuclei, threshold=THRESHOLD, sigma=SIGMA)
    count_in_tiles(seed, nuclei_slide((1000, 1000), 1000), OVERLAP, REACH).compute()
    print("\nSlides of any size, tiles of 1000 rendered on the way, all processors")
    print(
        f"{'megapixels':>11} {'tiles':>7} {'true':>9} {'count':>9} {'by patches: per megapixel':>26} {'peak':>8} "
        f"{'at once: per megapixel':>23} {'peak':>8}"
    )
    for shape in sizes:
        counts, megapixels = count_in_tiles(seed, nuclei_slide(shape, 1000), OVERLAP, REACH), np.prod(shape) / 1e6
        found, cells = [], []
        for work in (lambda: compute_in_patches(counts), counts.compute):
            if cells and np.prod(shape) > once_up_to:
                continue
            run = memory.measure(lambda work=work: work().sum())
            found.append(run.result)
            milliseconds = run.seconds / megapixels * 1e3
            cells.append(f"{milliseconds:{23 if cells else 26}.1f} ms"[3:] + f" {run.peak / 1e6:5.0f} MB")
        assert len(set(found)) == 1
        print(f"{megapixels:11.0f} {counts.size:7d} {len(true_nuclei(shape)):9d} {found[0]:9d}", *cells, flush=True)


def main():
    print(f"numpy {np.__version__}, dask {dask.__version__}, {os.cpu_count()} processors")
    print_counting()
    print_chunk_sizes()
    print_labels_and_tables()
    print_stitching()
    # Multiples of 4000 x 10000, after which the slide repeats: equally crowded whatever the size. The first is a quarter.
    sizes = [(2000, 5000), (4000, 10_000), (8000, 10_000), (8000, 20_000)]
    full = "--full" in sys.argv
    print_scaling(sizes + [(20_000, 50_000)] * full, once_up_to=np.inf if full else 1e8)


if __name__ == "__main__":
    main()
