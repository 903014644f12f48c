"""Finding and counting nuclei: the same in tiles as in the whole picture."""

import os
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from random_images import for_any_seed, random_chunks
from scipy import ndimage as ndi
from skimage import io, measure, segmentation
from skimage.morphology import local_maxima
from test_objects import computed_or_refused, largest, names_of

from course_helpers._engine.blur import gaussian_blur
from course_helpers._engine.distance import squared_distance
from course_helpers._engine.maxima import label_maxima
from course_helpers._engine.watershed import flood
from course_helpers.nuclei import count_nuclei, seed_nuclei, segment_nuclei
from course_helpers.objects import label_in_tiles
from course_helpers.slide import render_nuclei

CROWDED = render_nuclei(window=np.s_[1200:1560, 3600:4000])


@pytest.mark.skipif("COURSE_TEST_IMAGES" not in os.environ, reason="no folder with real images to compare with")
def test_the_lectures_numbers_on_the_real_image():
    mitosis = io.imread(Path(os.environ["COURSE_TEST_IMAGES"]) / "human_mitosis.tif")
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


@pytest.mark.parametrize(("threshold", "sigma"), [(20, 1), (25, 3.5), (12, 0)])
def test_segments_and_seeds_are_the_same_number(threshold, sigma):
    labels, seeds = segment_nuclei(CROWDED, threshold, sigma), seed_nuclei(CROWDED, threshold, sigma)
    assert labels.max() == seeds.max() == len(np.unique(labels)) - 1 > 100
    assert np.array_equal(labels[seeds > 0], seeds[seeds > 0])


@pytest.mark.parametrize("find", [partial(segment_nuclei, sigma=2), partial(seed_nuclei, sigma=1)])
@for_any_seed(15)
def test_crowded_nuclei_are_those_of_the_whole_slide_or_refused(seed, find):
    # Some clumps are larger than the overlap; this fails with a watershed that breaks ties by the order of its queue.
    rng, find, reach = (
        np.random.default_rng(seed),
        partial(find, threshold=30),
        8 + 9 + 2,
    )  # blur, half a width, neighbours
    tiles = da.from_array(CROWDED, chunks=random_chunks(rng, CROWDED.shape, 12))
    whole = find(CROWDED)
    enough = max(largest(whole)) + reach
    overlap = int(rng.choice([enough, rng.integers(reach, enough)]))
    labels = computed_or_refused(label_in_tiles(find, tiles, overlap, reach))
    assert overlap < enough if labels is None else np.array_equal(labels, names_of(whole))


@pytest.mark.parametrize(
    "tile",
    [np.zeros((99, 99)), np.full((99, 99), 200), np.pad(np.full((5, 5), 250), 4)],
    ids=["black", "bright", "spot"],
)
def test_tiles_without_anything_to_count(tile):
    assert count_nuclei(tile, 40).tolist() == [[0]]
    assert segment_nuclei(tile, 40).shape == seed_nuclei(tile, 40).shape == tile.shape


def test_nuclei_at_the_border_count_one_half():
    image = np.zeros((100, 100))
    image[40:52, 40:52] = image[:8, 20:32] = image[60:72, -7:] = 100
    assert count_nuclei(image, 40, 1) == 2


def test_large_grey_values_are_not_rounded():
    image = np.zeros((9, 9), np.int64)
    image[4, 4] = 2**24 + 1
    assert segment_nuclei(image, 2**24, 0).max() == 1 and segment_nuclei(image, 2**24 + 1, 0).max() == 0
