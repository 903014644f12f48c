"""Counting, labelling and measuring across tiles, beside the lecture's function, dask-image and the whole image."""

import os
from functools import partial

import dask
import dask.array as da
import numpy as np
import pandas as pd
from scipy import ndimage as ndi
from skimage import filters, measure, morphology, segmentation

from course_helpers.nuclei import count_nuclei, seed_nuclei, segment_nuclei
from course_helpers.objects import count_in_tiles, label_in_tiles, measure_in_tiles, stitch_labels
from course_helpers.slide import render_nuclei
from tools.bench._timing import best_times, claim

THRESHOLD, SIGMA, OVERLAP, REACH = 25, 3.5, 50, 30
PROPERTIES = ("label", "area", "bbox", "centroid", "intensity_mean")


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
    claim("counting with seeds, tiles of 1000", "lecture's function", times[0] / times[3], ">= 6")
    counts = count_in_tiles(seed, da.from_array(render_nuclei((4000, 10_000)), chunks=1000), OVERLAP, REACH)
    schedulers = [
        lambda name=name: counts.compute(scheduler=name, num_workers=2) for name in ("synchronous", "threads")
    ]
    one, two = best_times(schedulers, 3)
    print(f"two threads count {one / two:.2f} times as fast as one")
    claim("counting with two threads", "one thread", one / two, ">= 1.8")


def lecture_table(tile):
    """Measure what the tile shows, cut nuclei and all; the lecture does not number objects across tiles."""
    labels = segment_nuclei(tile, THRESHOLD, SIGMA)
    return np.array([[len(pd.DataFrame(measure.regionprops_table(labels, tile, properties=PROPERTIES)))]])


def print_chunk_sizes():
    image = render_nuclei((1000, 2000))
    seed, segment = [partial(function, threshold=THRESHOLD, sigma=SIGMA) for function in (seed_nuclei, segment_nuclei)]
    print(f"\nThe same count for every chunk size: {image.shape}, whole image {seed(image).max()}; seconds")
    print(
        f"{'chunks':>8}{'lecture':>9}{'in tiles':>9}{'lecture':>10}{'in tiles':>10}{'tile by tile':>14}{'measured in tiles':>19}"
    )
    counting, tables = [], []
    for chunks in (50, 100, 200, 500, 1000):
        tiles = da.from_array(image, chunks=chunks)
        ways = [
            lambda: map_count(lecture_count, tiles).compute().sum(),
            lambda: count_in_tiles(seed, tiles, OVERLAP, REACH).compute().sum(),
            lambda: map_count(lecture_table, tiles).compute().sum(),
            lambda: measure_in_tiles(segment, tiles, OVERLAP, PROPERTIES, REACH),
        ]
        counts = [way() for way in ways[:2]]
        lecture, ours, alone, measured = best_times(ways, 3)
        counting.append(lecture / ours)
        tables.append(lecture / measured)
        print(
            f"{chunks:8d}{counts[0]:9.1f}{counts[1]:9d}{lecture:10.2f}{ours:10.2f}{alone:14.2f}{measured:19.2f}",
            flush=True,
        )
    for what, ratios in (("counting with seeds", counting), ("a table", tables)):
        claim(f"{what}, worst of tiles of 50 to 1000", "lecture's function", min(ratios), ">= 1")


def print_labels_and_tables():
    image = render_nuclei((2000, 3000))
    segment = partial(segment_nuclei, threshold=THRESHOLD, sigma=SIGMA)
    tiles = da.from_array(image, chunks=1000)
    whole = segment(image)
    table, expected = (
        measure_in_tiles(segment, tiles, 80, PROPERTIES, REACH),
        measure.regionprops_table(whole, image, properties=PROPERTIES),
    )
    names, expected = (
        table["label"],
        pd.DataFrame(expected).sort_values(["bbox-0", "area", "centroid-1"], ignore_index=True),
    )
    table = table.sort_values(["bbox-0", "area", "centroid-1"], ignore_index=True)
    differences = [np.abs(table[name] - expected[name]).max() for name in table if name != "label"]
    print(f"\nLabels and tables of {image.shape}, tiles of 1000, overlap 80, one core, best of 2")
    print(f"rows {len(table)}, on the whole image {len(expected)}; largest difference {max(differences):.2g}")
    with dask.config.set(scheduler="synchronous"):
        pairs = {
            "label image": (lambda: segment(image), lambda: label_in_tiles(segment, tiles, 80, REACH).compute()),
            "label image from 1 to n": (
                lambda: segment(image),
                lambda: label_in_tiles(segment, tiles, 80, REACH, renumber=names).compute(),
            ),
            "table": (
                lambda: measure.regionprops_table(segment(image), image, properties=PROPERTIES),
                lambda: measure_in_tiles(segment, tiles, 80, PROPERTIES, REACH),
            ),
        }
        for name, works in pairs.items():
            alone, tiled = best_times(works, 2)
            print(f"{name:>24}: whole image {alone:6.2f} s, in tiles {tiled:6.2f} s, ratio {tiled / alone:.2f}")


def print_stitching():
    from dask_image.ndmeasure import label

    print(
        "\nStitching a mask (dask-image: with 16 tiles); milliseconds per tile, and finding labels, which is done twice"
    )
    print(f"{'tiles':>7}{'objects':>9}{'together':>10}{'labels':>8}{'ratio to dask-image':>21}")
    per_tile = {}
    for size, chunks in ((2000, 500), (500, 50), (2000, 50), (5000, 50)):
        noise = np.random.default_rng(0).standard_normal((500, 500), np.float32)
        mask = np.tile(ndi.gaussian_filter(noise, 4, mode="wrap") > 0.02, (size // 500, size // 500))
        tiles, whole = da.from_array(mask, chunks=chunks), measure.label(mask).max()
        labels = tiles.map_blocks(measure.label, dtype=np.int64)
        assert stitch_labels(labels).max().compute() == whole
        ways = [lambda: stitch_labels(labels).compute(), labels.compute]
        if chunks == 500:  # with more tiles it takes minutes
            ways.append(lambda tiles=tiles: label(tiles, structure=np.ones((3, 3)))[0].compute())
        both, alone, *other = best_times(ways, 2) / tiles.npartitions * 1e3
        ratio = f"{other[0] / both:21.1f}" if other else f"{'-':>21}"
        print(f"{tiles.npartitions:7d}{whole:9d}{both:10.2f}{alone:8.2f}{ratio}", flush=True)
        per_tile[tiles.npartitions] = both, both - 2 * alone
        if other:
            claim("stitching, 16 tiles of 500", "dask-image", other[0] / both, ">= 10")
    claim("stitching 10,000 tiles, ms per tile beyond finding labels", "(twice)", per_tile[10_000][1], "<= 0.5")
    claim("stitching, time per tile, 10,000 tiles", "1600 tiles", per_tile[10_000][0] / per_tile[1600][0], "<= 1.15")


def main():
    print(f"numpy {np.__version__}, dask {dask.__version__}, {os.cpu_count()} processors")
    print_counting()
    print_chunk_sizes()
    print_labels_and_tables()
    print_stitching()


if __name__ == "__main__":
    main()
