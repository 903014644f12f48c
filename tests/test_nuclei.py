"""Finding and counting nuclei: the same in tiles as in the whole picture."""

import os
import warnings
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from random_images import for_any_seed
from scipy import ndimage as ndi
from skimage import io, measure, segmentation
from skimage.morphology import local_maxima
from test_objects import compute, largest, names_of

from course_helpers._engine.blur import gaussian_blur
from course_helpers._engine.distance import squared_distance
from course_helpers._engine.maxima import label_maxima
from course_helpers._engine.watershed import flood
from course_helpers.nuclei import count_nuclei, seed_nuclei, segment_nuclei
from course_helpers.objects import OverlapError, count_in_tiles, label_in_tiles, measure_in_tiles
from course_helpers.slide import nuclei_slide, render_nuclei, true_nuclei

CROWDED = np.s_[1200:1560, 3600:4000]


@pytest.fixture(scope="module")
def mitosis():
    folder = os.environ.get("COURSE_TEST_IMAGES")
    if not folder:
        pytest.skip("COURSE_TEST_IMAGES is not set: no folder with real images to compare with")
    return io.imread(Path(folder) / "human_mitosis.tif")


def test_real_nuclei_are_the_same_for_every_chunk_size(mitosis):
    segment, seed = (partial(function, threshold=40, sigma=2) for function in (segment_nuclei, seed_nuclei))
    assert segment(mitosis).max() == seed(mitosis).max() == 349
    for chunks in (50, 64, 100, 128, 200, (100, 7)):
        tiles = da.from_array(mitosis, chunks=chunks)
        assert count_in_tiles(seed, tiles, 16).compute().sum() == 349
        assert count_in_tiles(seed, tiles, 30, reach=20).compute().sum() == 349
    tiles = da.from_array(mitosis, chunks=100)
    assert np.array_equal(label_in_tiles(segment, tiles, 40).compute(), names_of(segment(mitosis)))
    assert len(measure_in_tiles(segment, tiles, 40)) == 349


def test_the_lectures_numbers_on_the_real_image(mitosis):
    # The lecture labels again what is left without border nuclei, which joins those that touch: 296 instead of 335.5.
    labels = segment_nuclei(mitosis, 40, 2)
    left = segmentation.clear_border(labels)
    assert (labels.max() + measure.label(left > 0).max()) / 2 == 296
    assert count_nuclei(mitosis, 40, 2) == (349 + len(np.unique(left)) - 1) / 2 == 335.5


@for_any_seed(150)
def test_the_blur_is_that_of_scipy_in_every_bit(seed):
    rng = np.random.default_rng(seed)
    shape, sigma = rng.integers(1, [40, 150, 3][: (axes := rng.integers(1, 4))]), rng.choice([0, 0.1, 1, 3.5, 12], axes)
    image = (rng.random(shape) * 250).astype(rng.choice(["u1", ">u2", "i4", "f4", "f8"]))
    image = image.transpose() if rng.random() < 0.5 else image
    precise = np.result_type(image, np.float32)
    expected = ndi.gaussian_filter(image, sigma, mode="nearest", output=precise)
    blurred = gaussian_blur(image, sigma.tolist(), precise)
    assert blurred.dtype == precise and np.array_equal(blurred, expected)


@for_any_seed(150)
def test_maxima_are_those_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    shape = rng.permutation(rng.integers((1, 2), 20))
    height = rng.integers(0, rng.integers(2, 6), shape, np.int32)
    height.flat[0] = 9  # where all pixels are equal, as in a picture of one, scikit-image finds none
    labels = label_maxima(height)
    maxima = local_maxima(height, connectivity=1) & (height > 0)
    assert np.array_equal(labels, ndi.label(maxima, np.ones((3, 3)))[0])


@for_any_seed(50)
def test_distances_are_exact(seed):
    rng = np.random.default_rng(seed)
    mask = ndi.gaussian_filter(rng.random(rng.integers(1, 50, 2)), rng.uniform(0, 4)) > rng.uniform(0.4, 0.5)
    mask.flat[rng.integers(mask.size)] = False
    distance = np.empty(mask.shape, np.int32)
    squared_distance(mask, distance)
    assert np.array_equal(distance, np.rint(ndi.distance_transform_edt(mask) ** 2))


@for_any_seed(50)
def test_floods_like_scikit_image_when_no_two_pixels_are_equal(seed):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, rng.integers(2, 9), rng.integers(1, 30, 2), np.int32)
    labels = np.where(distance > 0, rng.integers(1, 99, distance.shape) * (rng.random(distance.shape) < 0.05), 0)
    order = np.arange(distance.size).reshape(distance.shape) - distance * float(distance.size)
    expected = segmentation.watershed(order, labels, mask=distance > 0) if labels.any() else labels.copy()
    flood(distance, labels := labels.astype(np.int32))
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize(("threshold", "sigma"), [(20, 1), (30, 1), (30, 2), (25, 3.5), (12, 0)])
def test_segments_and_seeds_are_the_same_number(threshold, sigma):
    image = render_nuclei(window=CROWDED)
    labels, seeds = segment_nuclei(image, threshold, sigma), seed_nuclei(image, threshold, sigma)
    assert labels.max() == seeds.max() == len(np.unique(labels)) - 1 > 100
    assert np.array_equal(labels[seeds > 0], seeds[seeds > 0])


@pytest.mark.parametrize("chunks", [33, 64, (100, 7), ((160, 200), (399, 1))])
def test_a_crowded_slide_is_the_same_for_every_chunk_size(chunks):
    # Its clumps are larger than the overlap; this fails with a watershed that breaks ties by the order of its queue.
    image = render_nuclei(window=CROWDED)
    tiles = da.from_array(image, chunks=chunks)
    segment, reach = partial(segment_nuclei, threshold=30, sigma=2), 8 + 9 + 2  # blur, half a width, neighbours
    whole = segment(image)
    assert np.array_equal(label_in_tiles(segment, tiles, largest(whole) + reach, reach).compute(), names_of(whole))
    assert count_in_tiles(segment, tiles, largest(whole) + reach, reach).compute().sum() == whole.max()


@for_any_seed(25)
def test_seeds_are_exact_or_refused_when_the_reach_is_known(seed):
    rng, image, find = (
        np.random.default_rng(seed),
        render_nuclei(window=CROWDED),
        partial(seed_nuclei, threshold=30, sigma=1),
    )
    overlap, seeds = int(rng.integers(12, 61)), find(image)
    tiles = da.from_array(image, chunks=tuple(rng.integers(20, 121, 2).tolist()))
    try:
        count = compute(count_in_tiles(find, tiles, overlap, reach=12)).sum()
    except OverlapError:
        assert overlap < 12 + largest(seeds)
    else:
        assert count == seeds.max()


def test_counts_come_close_to_the_truth_where_nuclei_lie_apart():
    slide, truth = nuclei_slide((1000, 2000), chunks=100), true_nuclei((1000, 2000))
    seed = partial(seed_nuclei, threshold=25, sigma=3.5)
    counts = count_in_tiles(seed, slide, 50, reach=30).compute()
    assert counts.sum() == seed(slide.compute()).max()
    assert abs(counts.sum() / len(truth) - 1) < 0.05
    density, _, _ = np.histogram2d(*truth["centre"].T, [np.arange(-0.5, size, 100) for size in slide.shape])
    assert np.abs(counts - density).mean() < 0.25


NOTHING = {
    "black": np.zeros((100, 100), np.uint8),
    "bright everywhere": np.full((100, 100), 200, np.uint8),
    "no pixels": np.zeros((0, 30)),
    "one pixel": np.zeros((1, 1)),
    "narrow": np.full((1, 200), 99.0),
    "a spot": np.pad(np.full((5, 5), 250), 4),
    "a stripe": np.pad(np.full((100, 5), 250), 4),
}


@pytest.mark.parametrize("tile", NOTHING.values(), ids=NOTHING)
def test_tiles_without_anything_to_count(tile):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count = count_nuclei(tile, 40)
    assert count.shape == (1, 1) and count.dtype == float and count == 0
    assert segment_nuclei(tile, 40).shape == seed_nuclei(tile, 40).shape == tile.shape


def test_nuclei_at_the_border_count_one_half():
    image = np.zeros((100, 100))
    image[40:52, 40:52] = image[:8, 20:32] = image[60:72, -7:] = 100
    assert count_nuclei(image, 40, 1) == 2
    tiles = da.from_array(np.tile(image, (2, 3)), chunks=100)
    counts = tiles.map_blocks(count_nuclei, 40, 1, chunks=(1, 1), dtype=float)
    assert counts.shape == (2, 3) and counts.compute().tolist() == [[2, 2, 2]] * 2


@for_any_seed(40)
def test_nuclei_do_not_depend_on_how_grey_values_are_stored(seed):
    rng = np.random.default_rng(seed)
    dtype = rng.choice(["u1", ">u2", "u4", ">i8", "u8", ">f4", "f8"])
    image = (200 * ndi.gaussian_filter(rng.random(rng.integers(1, 50, 2)), 2)).astype(np.uint8)
    for function in (segment_nuclei, seed_nuclei, count_nuclei):
        assert np.array_equal(function(image.astype(dtype), 100, 2), function(image, 100, 2))


def test_large_grey_values_are_not_rounded():
    image = np.zeros((9, 9), np.int64)
    image[4, 4] = 2**24 + 1
    assert segment_nuclei(image, 2**24, 0).max() == 1 and segment_nuclei(image, 2**24 + 1, 0).max() == 0
