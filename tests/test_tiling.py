"""Tiles with overlap and patches: how much overlap is enough, what it costs; the same result as on the whole image."""

from itertools import product
from math import prod

import dask.array as da
import numpy as np
import pytest
from random_images import DTYPES, for_any_seed, random_chunks, random_pixels, values_of
from scipy import ndimage
from skimage.filters import difference_of_gaussians, gaussian
from skimage.morphology import closing, dilation, disk, erosion

from course_helpers._engine.tiled import tiled
from course_helpers.background import remove_background
from course_helpers.tiling import compute_in_patches, overlap_needed, smallest_overlap, tile_cost, tiling_error

TILE = 32


def two_disks(radius, bright, dark):
    """A disk with one pixel missing, 2 * radius beyond the last pixel of a tile: the worst case for an opening."""
    image = np.full((96, 96), dark, np.uint8)
    rows, cols = np.indices(image.shape)
    for center in (TILE - 1 + radius, TILE - radius):
        image[(rows - center) ** 2 + (cols - center - 20) ** 2 <= radius**2] = bright
        image[(rows - center - 20) ** 2 + (cols - center) ** 2 <= radius**2] = bright
    image[TILE - 1 + 2 * radius, TILE + 19 + radius] = dark
    return image


def adversarial_images(radius):
    rng = np.random.default_rng(5)
    corners = np.zeros((96, 96), np.uint8)
    corners[TILE - 1 :: TILE, TILE - 1 :: TILE] = 255
    corners[TILE::TILE, TILE::TILE] = 255
    half = np.zeros((96, 96), np.uint8)
    half[:, TILE + 2 :] = 255
    return {
        "random": rng.integers(0, 256, (96, 96), dtype=np.uint8),
        "random, ragged": rng.integers(0, 256, (75, 101), dtype=np.uint8),
        "random numbers": rng.normal(size=(96, 96)),
        "bright corners": corners,
        "dark corners": 255 - corners,
        "step": half,
        "bright disks": two_disks(int(radius), 200, 10),
        "dark disks": two_disks(int(radius), 10, 200),
    }


def side(radius):
    return 2 * radius + 1


def maximum(pixels, radius):
    return ndimage.maximum_filter(pixels, side(radius))


PIPELINES = [
    ([("gaussian", 2)], lambda pixels: ndimage.gaussian_filter(pixels, 2, output=float)),
    ([("gaussian", 1.7)], lambda pixels: gaussian(pixels, sigma=1.7)),
    ([("gaussian", 3)], lambda pixels: difference_of_gaussians(pixels, 1, 3)),
    ([("maximum", 4)], lambda pixels: dilation(pixels, disk(4))),
    ([("minimum", 3)], lambda pixels: erosion(pixels, disk(3))),
    ([("top-hat", 6)], lambda pixels: remove_background(pixels, 6)),
    ([("top-hat", 3)], lambda pixels: closing(pixels, disk(3))),
    ([("neighbourhood", 3)], lambda pixels: ndimage.percentile_filter(pixels, 80, side(3))),
    ([("neighbourhood", 4)], lambda pixels: ndimage.convolve(pixels, np.full((9, 9), 1 / 81), output=float)),
    ([("gaussian", 1), ("maximum", 3)], lambda pixels: maximum(ndimage.gaussian_filter(pixels, 1, output=float), 3)),
    (
        [("neighbourhood", 4), ("gaussian", 1)],
        lambda pixels: ndimage.gaussian_filter(maximum(pixels, 4), 1, output=float),
    ),
]


@pytest.mark.parametrize(("steps", "procedure"), PIPELINES, ids=lambda value: str(value) * isinstance(value, list))
def test_the_overlap_is_enough_and_one_pixel_less_is_not(steps, procedure):
    overlap, images = overlap_needed(*steps), adversarial_images(steps[-1][1])
    assert overlap == sum(overlap_needed(step) for step in steps)
    for name, image in images.items():
        assert tiling_error(procedure, image, TILE, overlap) == 0, name
        assert tiling_error(procedure, image, (27, 40), overlap) == 0, name
    assert max(tiling_error(procedure, image, TILE, overlap - 1) for image in images.values()) > 0


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "constant"])
def test_the_overlap_is_enough_for_every_local_treatment_of_the_border(mode):
    image = np.random.default_rng(2).normal(size=(70, 45)).astype(np.float32)
    for step, procedure in [
        (("gaussian", 3), lambda pixels: ndimage.gaussian_filter(pixels, 3, mode=mode)),
        (("top-hat", 4), lambda pixels: ndimage.grey_opening(pixels, side(4), mode=mode)),
    ]:
        assert tiling_error(procedure, image, 16, overlap_needed(step)) == 0


def test_no_overlap_is_enough_for_what_is_not_local():
    image = np.random.default_rng(2).normal(size=(64, 64))
    image[30, 30] = np.inf
    for procedure in (
        lambda pixels: ndimage.gaussian_filter(np.nan_to_num(pixels, posinf=9), 1, mode="wrap"),
        lambda pixels: pixels > np.median(pixels),
    ):
        with pytest.raises(ValueError, match="overlap 12 .* Raise maximum.* the procedure needs the whole image"):
            smallest_overlap(procedure, image, 16, maximum=12)


@pytest.mark.parametrize(
    "steps, expected",
    [([], 0), ([("gaussian", 0.6)], 2), ([("gaussian", np.float32(2))], 8), ([["maximum", np.int64(3)]], 3)],
)
def test_overlap_needed_in_pixels(steps, expected):
    overlap = overlap_needed(*steps)
    assert overlap == expected and type(overlap) is int


@pytest.mark.parametrize(
    "step, error, words",
    [
        ("gaussian", ValueError, "must be a pair of a name"),
        (("gaussian",), ValueError, "must be a pair of a name"),
        (("otsu", 1), ValueError, "Known names are gaussian, .*neighbourhood.* No overlap is enough .* Otsu"),
        (("gaussian", -1), ValueError, 'the length of "gaussian" is -1, but must be a finite number from 0'),
        (("gaussian", (1, 2)), TypeError, "finite number"),
        (("gaussian", 1e308), ValueError, "reach of .* is inf, but must be a finite number"),
    ],
)
def test_steps_that_are_refused(step, error, words):
    with pytest.raises(error, match=words):
        overlap_needed(("gaussian", 1), step)


def test_tile_cost_is_what_a_tile_in_the_middle_costs():
    sizes = []
    tiled(lambda pixels: sizes.append(pixels.size) or pixels, np.zeros((96, 60, 30)), (32, 20, 10), (7, 3, 12))
    assert len(sizes) == 27
    assert max(sizes) / (32 * 20 * 10) == tile_cost((32, 20, 10), (7, 3, 10))  # 12 are not there
    assert tile_cost(32, 10) == tile_cost([32, 32], 10) == (52 / 32) ** 2


@for_any_seed(60)
def test_any_tiles_give_the_same_as_the_whole_image(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 14, size=rng.integers(1, 5)))
    image = random_pixels(rng, shape, rng.choice(DTYPES))
    tile, overlap = rng.integers(1, 16, size=len(shape)).tolist(), rng.integers(0, 4, size=len(shape)).tolist()
    result = tiled(lambda pixels: pixels, image, tile, overlap)
    assert result.dtype == image.dtype.newbyteorder("=") and result.tobytes() == image.astype(result.dtype).tobytes()
    assert tiling_error(lambda pixels: pixels[:], image, tile, overlap) == 0

    def procedure(pixels):  # it may write into its input
        pixels[:] = ndimage.maximum_filter(pixels, [side(far) for far in overlap])
        return pixels

    numbers = rng.integers(0, 99, shape).astype(rng.choice(["u1", ">i4", "f8"]))
    before = numbers.copy()
    assert tiling_error(procedure, numbers, tile, overlap) == 0 and np.array_equal(numbers, before)


def exact_difference(a, b):
    """Of two Python numbers; NaN and NaN are equal, NaN and a number differ by infinity."""
    if a == b or a != a and b != b:
        return 0.0
    difference = abs(a - b)
    return float(np.inf if difference != difference else difference)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_difference_is_exact(dtype):
    zeros = np.zeros(4, dtype)
    for whole, tiles in product(values_of(np.random.default_rng(0), dtype), repeat=2):
        with np.errstate(all="raise"):
            result = tiling_error(
                lambda pixels: np.full_like(pixels, whole if pixels.size == 4 else tiles), zeros, 2, 0
            )
        expected = exact_difference(whole.item(), tiles.item())
        assert result == pytest.approx(expected, rel=1e-15 * (dtype == "c8"), abs=0) and type(result) is float


def test_results_of_different_dtypes():
    image = np.arange(8)
    with pytest.raises(ValueError, match="float64 values that do not fit into int64"):
        tiled(lambda pixels: pixels / 2 if pixels[0] else pixels, image, 4, 0)
    assert tiled(lambda pixels: pixels if pixels[0] else pixels / 1, image, 4, 0).tolist() == image.tolist()
    with pytest.raises(ValueError, match="float64 for tiles, but must return int64"):
        tiling_error(lambda pixels: pixels * (1 if pixels.size == 8 else 1.5), image, 4, 0)


def running_mean(pixels):
    """The mean of three neighbours along rows, as the difference of two sums in the precision of the pixels."""
    sums = np.pad(np.cumsum(pixels, axis=1, dtype=pixels.dtype), ((0, 0), (2, 1)), mode="edge")
    return (sums[:, 3:] - sums[:, :-3]) / 3


@pytest.mark.parametrize(
    "procedure, dtype",
    [
        (running_mean, "f8"),
        (running_mean, "f4"),
        (lambda pixels: pixels + running_mean(pixels.astype("f4")) / 30, "f8"),
        (lambda pixels: pixels - running_mean(pixels), "f8"),
        (lambda pixels: np.floor(running_mean(np.rint(pixels) / 3)).astype(int), "f8"),
        (lambda pixels: running_mean(np.rint(pixels) / 3) >= 3333, "f8"),
    ],
    ids=["float64", "float32", "both", "a small difference of large numbers", "integers", "booleans"],
)
def test_rounding_is_not_taken_for_a_need_of_the_whole_image(procedure, dtype):
    image = np.random.default_rng(0).normal(10_000, 9, (60, 90)).astype(dtype)
    with pytest.raises(ValueError, match="differ from the whole image by up to .* it may be rounding"):
        smallest_overlap(procedure, image, 16, 4)


def bin_in_pairs(pixels):
    """Every second pixel, twice: depends on whether a tile starts at an even or an odd pixel."""
    return np.repeat(pixels[::2], 2, axis=0)[: len(pixels)]


@pytest.mark.parametrize(
    "procedure, tile, most, expected",
    [
        (lambda pixels: maximum(pixels, 5), 16, 16, 5),
        (lambda pixels: maximum(pixels, 5), (20, 11), 9999, 5),
        (lambda pixels: maximum(pixels, 5), 10, 5, 5),
        (lambda pixels: pixels + 1, 16, 16, 0),
        (bin_in_pairs, 8, 8, 8),  # it passes with even overlaps and fails with odd ones
    ],
)
def test_the_search_steps_down_until_an_overlap_fails(procedure, tile, most, expected):
    image = np.random.default_rng(1).integers(0, 256, (60, 60), dtype=np.uint8)
    assert smallest_overlap(procedure, image, tile, most) == expected
    assert tiling_error(procedure, image, tile, expected) == 0
    assert expected == 0 or tiling_error(procedure, image, tile, expected - 1) > 0
    assert smallest_overlap(np.copy, np.array(7), 16, most) == 0


@pytest.mark.parametrize("function", [tiled, tiling_error, smallest_overlap])
@pytest.mark.parametrize(
    "procedure, words",
    [
        (lambda pixels: pixels[1:], "has shape"),
        (lambda pixels: None, r"has shape \(\)"),
        (lambda pixels: np.ma.array(pixels), "has a mask"),
        (lambda pixels: pixels.astype(object), "is object, but must hold numbers"),
        (lambda pixels: pixels.astype("M8[s]"), "is datetime.*, but must hold numbers"),
    ],
)
def test_results_that_do_not_fit_the_pixels_are_refused(function, procedure, words):
    with pytest.raises((TypeError, ValueError), match=f"result of procedure {words}"):
        function(procedure, np.zeros((9, 9)), 3, 1)


# Patches.


@for_any_seed(40)
def test_any_patches_give_the_same_as_one_compute(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(0, 9, size=rng.integers(4)))
    image = random_pixels(rng, shape, rng.choice(DTYPES))
    array = da.from_array(image, chunks=random_chunks(rng, shape)) if shape else da.from_array(image)
    computed = compute_in_patches(array, rng.choice([1, 2, 9, 10**9]) if rng.random() < 0.8 else None)
    assert computed.dtype == image.dtype and np.asarray(computed).tobytes() == image.tobytes()


def regions_of(array, size=None):
    """Where `compute_in_patches` writes an array of single pixels, in this order, each patch when it alone is computed."""
    regions, running = [], []

    class Out:
        shape = array.shape

        def __setitem__(self, region, pixels):
            regions.append(region)
            assert sorted(running) == list(product(*[range(part.start, part.stop) for part in region]))
            running.clear()

    out = Out()
    watched = array.map_blocks(lambda block, block_id: running.append(block_id) or block, meta=array._meta)
    assert compute_in_patches(watched, size, out) is out
    return regions


def test_one_patch_is_computed_and_written_at_a_time():
    regions = regions_of(da.ones((6, 4), chunks=1), (2, 3))
    assert regions == [(slice(row, row + 2), slice(*columns)) for row in (0, 2, 4) for columns in ((0, 3), (3, 4))]
    for shape in [(128,), (8, 16), (4, 4, 8)]:  # by default, a patch has 64 chunks
        sizes = [prod(part.stop - part.start for part in region) for region in regions_of(da.ones(shape, chunks=1))]
        assert sizes == [64, 64]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.ones(4),), TypeError, "ndarray, but must be a dask array"),
        ((da.ones(4), 0), ValueError, "size is 0, but must be a whole number from 1"),
        ((da.ones(4), 1, np.ones(5)), ValueError, r"out has shape \(5,\), but must have \(4,\)"),
        ((da.full(4, 70_000), 1, np.zeros(4, np.uint16)), ValueError, "int64 values that do not fit into uint16"),
        ((da.ones(4) / 2, 1, np.zeros(4, int)), ValueError, "float64 values that do not fit into int64"),
        ((da.ma.masked_equal(da.arange(4), 1),), TypeError, "array has a mask"),
    ],
)
def test_patches_that_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        compute_in_patches(*arguments)


@pytest.mark.parametrize("dtype", [">u2", "u1", "f4", "i8", object])
def test_numbers_that_fit_may_be_written_in_another_dtype(dtype):
    array = da.arange(100, chunks=7, dtype=np.uint64).map_blocks(lambda block: block.astype(">f8"), dtype=np.uint64)
    out = np.zeros(100, dtype)
    compute_in_patches(array, 2, out)
    assert np.array_equal(out, np.arange(100)) and compute_in_patches(array).dtype == np.uint64
