from math import prod
from threading import Lock

import dask.array as da
import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage.filters import difference_of_gaussians, gaussian
from skimage.morphology import closing, dilation, disk

from course_helpers._engine.tiled import tiled
from course_helpers.background import remove_background
from course_helpers.tiling import (
    REACH,
    compute_in_patches,
    overlap_needed,
    smallest_overlap,
    tile_cost,
    tiling_error,
)

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
    rows, cols = np.indices((96, 96))
    corners = np.zeros((96, 96), np.uint8)
    corners[TILE - 1 :: TILE, TILE - 1 :: TILE] = 255
    corners[TILE::TILE, TILE::TILE] = 255
    half = np.zeros((96, 96), np.uint8)
    half[:, TILE + 2 :] = 255
    return {
        "random": rng.integers(0, 256, (96, 96), dtype=np.uint8),
        "random, ragged": rng.integers(0, 256, (75, 101), dtype=np.uint8),
        "random numbers": rng.normal(size=(96, 96)),
        "checkerboard": ((rows + cols) % 2 * 255).astype(np.uint8),
        "bright corners": corners,
        "dark corners": 255 - corners,
        "step": half,
        "stairs": (rows // 5 * 10 + cols // 7).astype(np.uint8),
        "bright disks": two_disks(int(radius), 200, 10),
        "dark disks": two_disks(int(radius), 10, 200),
    }


def as_float(procedure):
    return lambda pixels: procedure(pixels.astype(float))


def side(radius):
    return 2 * radius + 1


STEPS = [
    (("gaussian", 2), as_float(lambda pixels: ndimage.gaussian_filter(pixels, 2))),
    (("gaussian", 1.7), lambda pixels: gaussian(pixels, sigma=1.7)),
    (("gaussian", 3), as_float(lambda pixels: difference_of_gaussians(pixels, 1, 3))),
    (("maximum", 5), lambda pixels: ndimage.maximum_filter(pixels, side(5))),
    (("maximum", 4), lambda pixels: dilation(pixels, disk(4))),
    (("top-hat", 6), lambda pixels: remove_background(pixels, 6)),
    (("top-hat", 3), lambda pixels: closing(pixels, disk(3))),
    (("neighbourhood", 3), lambda pixels: ndimage.percentile_filter(pixels, 80, side(3))),
    (("neighbourhood", 4), lambda pixels: ndimage.convolve(pixels.astype(float), np.full((9, 9), 1 / 81))),
    (("neighbourhood", 2), lambda pixels: ndimage.median_filter(pixels, side(2))),
]
STEP_NAMES = ["-".join(map(str, step)) for step, _ in STEPS]


@pytest.mark.parametrize("step, procedure", STEPS, ids=STEP_NAMES)
def test_the_overlap_is_enough_on_adversarial_images(step, procedure):
    overlap = overlap_needed(step)
    for name, image in adversarial_images(step[1]).items():
        assert tiling_error(procedure, image, TILE, overlap) == 0, name
        assert tiling_error(procedure, image, (27, 40), overlap) == 0, name


@pytest.mark.parametrize("step, procedure", STEPS, ids=STEP_NAMES)
def test_one_pixel_less_is_not_enough_on_some_image(step, procedure):
    overlap = overlap_needed(step) - 1
    errors = [tiling_error(procedure, image, TILE, overlap) for image in adversarial_images(step[1]).values()]
    assert max(errors) > 0


def test_every_known_step_is_tested():
    assert {step[0] for step, _ in STEPS} == set(REACH)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "constant"])
def test_the_overlap_is_enough_for_every_local_treatment_of_the_border(mode):
    image = np.random.default_rng(2).normal(size=(70, 45)).astype(np.float32)
    for step, procedure in [
        (("gaussian", 3), lambda pixels: ndimage.gaussian_filter(pixels, 3, mode=mode)),
        (("top-hat", 4), lambda pixels: ndimage.grey_opening(pixels, side(4), mode=mode)),
    ]:
        assert tiling_error(procedure, image, 16, overlap_needed(step)) == 0


@pytest.mark.parametrize(
    "procedure",
    [lambda pixels: ndimage.gaussian_filter(pixels, 1, mode="wrap"), lambda pixels: pixels > pixels.mean()],
    ids=["wraps around", "global threshold"],
)
def test_no_overlap_is_enough_for_what_is_not_local(procedure):
    image = np.random.default_rng(2).normal(size=(64, 64))
    assert tiling_error(procedure, image, 16, 12) > 0
    with pytest.raises(ValueError, match="overlap 12 .* Raise maximum"):
        smallest_overlap(procedure, image, 16, maximum=12)


PIPELINES = [
    (
        [("maximum", 2), ("maximum", 3)],
        lambda pixels: ndimage.maximum_filter(ndimage.maximum_filter(pixels, side(2)), side(3)),
    ),
    (
        [("gaussian", 1), ("maximum", 3)],
        lambda pixels: ndimage.maximum_filter(ndimage.gaussian_filter(pixels.astype(float), 1), side(3)),
    ),
    (
        [("neighbourhood", 4), ("gaussian", 1)],
        lambda pixels: ndimage.gaussian_filter(ndimage.minimum_filter(pixels.astype(float), side(4)), 1),
    ),
]


@pytest.mark.parametrize("steps, procedure", PIPELINES)
def test_the_reaches_of_a_pipeline_add_up(steps, procedure):
    overlap = overlap_needed(*steps)
    assert overlap == sum(overlap_needed(step) for step in steps)
    images = adversarial_images(3).values()
    assert max(tiling_error(procedure, image, TILE, overlap) for image in images) == 0
    assert max(tiling_error(procedure, image, TILE, overlap - 1) for image in images) > 0


@pytest.mark.parametrize(
    "steps, expected",
    [
        ([], 0),
        ([("gaussian", 0.6)], 2),
        ([("gaussian", np.float32(2))], 8),
        ([["maximum", np.int64(3)]], 3),
        ([("gaussian", 2), ("top-hat", 6), ("neighbourhood", 1)], 21),
    ],
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
    shapes = recorded_shapes(np.zeros((96, 60, 30)), (32, 20, 10), (7, 3, 2))
    assert len(shapes) == 27
    assert max(map(prod, shapes)) / (32 * 20 * 10) == tile_cost((32, 20, 10), (7, 3, 2))
    assert tile_cost(32, 10) == tile_cost((32, 32), 10) == (52 / 32) ** 2
    assert tile_cost([64, 64, 64], 8) == tile_cost((64, 64, 64), 8)


def recorded_shapes(image, tile, overlap):
    shapes, lock = [], Lock()

    def procedure(pixels):
        with lock:
            shapes.append(pixels.shape)
        return pixels

    tiled(procedure, image, tile, overlap)
    return shapes


def test_tiles_keep_their_size_where_the_overlap_is_larger():
    assert sorted(recorded_shapes(np.zeros(100), 32, 0)) == [(4,), (32,), (32,), (32,)]
    assert sorted(recorded_shapes(np.zeros(100), 32, 10)) == [(14,), (42,), (46,), (52,)]
    assert sorted(recorded_shapes(np.zeros(100), 32, 40)) == [(44,), (72,), (76,), (100,)]


@pytest.mark.parametrize(
    "shape, tile, overlap",
    [((50,), 7, 3), ((40, 33), (16, 50), (5, 0)), ((12, 20, 31), (1, 20, 5), (2, 0, 5)), ((5, 6, 7, 8), 3, 1)],
)
def test_tiles_come_back_to_their_place(shape, tile, overlap):
    image = np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)
    result = tiled(lambda pixels: pixels, image, tile, overlap)
    assert result.dtype == image.dtype
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_it_does_the_same_as_map_overlap(overlap):
    image = np.random.default_rng(0).normal(size=(64, 72))
    blocks = da.from_array(image, chunks=(16, 24))
    expected = blocks.map_overlap(ndimage.gaussian_filter, depth=overlap, boundary="none", sigma=3).compute()
    np.testing.assert_array_equal(
        tiled(lambda pixels: ndimage.gaussian_filter(pixels, 3), image, (16, 24), overlap), expected
    )


def test_three_dimensions():
    image = np.random.default_rng(0).normal(size=(24, 40, 36))
    overlap = (overlap_needed(("gaussian", 0.5)), overlap_needed(("gaussian", 1)), overlap_needed(("gaussian", 1.5)))

    def procedure(pixels):
        return ndimage.gaussian_filter(pixels, (0.5, 1, 1.5))

    assert overlap == (2, 4, 6)
    assert tiling_error(procedure, image, (8, 16, 11), overlap) == 0
    for axis in range(3):
        less = tuple(margin - (number == axis) for number, margin in enumerate(overlap))
        assert tiling_error(procedure, image, (8, 16, 11), less) > 0


def test_a_procedure_may_write_into_its_input():
    image = np.random.default_rng(0).normal(size=(40, 40))
    before = image.copy()

    def procedure(pixels):
        pixels *= 2
        return pixels

    assert tiling_error(procedure, image, 16, 5) == 0
    np.testing.assert_array_equal(image, before)


def per_tile(whole, tile):
    """A procedure that returns one value everywhere: `whole` for the whole image of 8 pixels, `tile` for less."""
    return lambda pixels: np.full(pixels.shape, whole if pixels.size == 8 else tile)


@pytest.mark.parametrize(
    "whole, tile, error",
    [
        (np.uint8(0), np.uint8(255), 255),
        (np.uint8(255), np.uint8(0), 255),
        (np.int8(-128), np.int8(127), 255),
        (np.int64(2**60), np.int64(2**60 + 1), 1),
        (np.uint64(2**63), np.uint64(2**63), 0),
        (np.int64(-(2**63)), np.int64(2**63 - 1), 2.0**64),
        (True, False, 1),
        (True, True, 0),
        (np.float16(6e4), np.float16(-6e4), 120000),
        (1.0, 1.0 + 2**-52, 2**-52),
        (1e308, -1e308, np.inf),
        (np.nan, np.nan, 0),
        (np.nan, 1.0, np.inf),
        (1.0, np.nan, np.inf),
        (np.inf, np.inf, 0),
        (np.inf, -np.inf, np.inf),
        (np.inf, 1.0, np.inf),
        (3j, 4 + 0j, 5),
        (-0.0, 0.0, 0),
    ],
)
def test_the_largest_difference_is_exact(whole, tile, error):
    with np.errstate(all="raise"):
        result = tiling_error(per_tile(whole, tile), np.zeros(8), 4, 0)
    assert result == error and type(result) is float


def test_results_of_different_dtypes():
    image = np.arange(8)
    with pytest.raises(ValueError, match="float64 values that do not fit into int64"):
        tiled(lambda pixels: pixels / 2 if pixels[0] else pixels, image, 4, 0)
    assert tiled(lambda pixels: pixels if pixels[0] else pixels / 1, image, 4, 0).tolist() == image.tolist()
    with pytest.raises(ValueError, match="float64 for tiles, but must return int64"):
        tiling_error(per_tile(1, 2.5), image, 4, 0)
    swapped = np.random.default_rng(0).integers(0, 9, (20, 20)).astype(">u2")
    assert tiling_error(lambda pixels: pixels[:], swapped, 8, 0) == 0


def running_mean(pixels):
    """The mean of three neighbours along rows, as the difference of two sums in the precision of the pixels."""
    sums = np.pad(np.cumsum(pixels, axis=1, dtype=pixels.dtype), ((0, 0), (2, 1)), mode="edge")
    return (sums[:, 3:] - sums[:, :-3]) / 3


@pytest.mark.parametrize(
    "procedure, dtype",
    [
        (running_mean, "f8"),
        (running_mean, "f4"),
        (lambda pixels: pixels - running_mean(pixels), "f8"),
        (lambda pixels: np.floor(running_mean(np.rint(pixels) / 3)).astype(int), "f8"),
        (lambda pixels: running_mean(np.rint(pixels) / 3) >= 3333, "f8"),
    ],
    ids=["float64", "float32", "a small difference of large numbers", "integers", "booleans"],
)
def test_rounding_is_not_taken_for_a_need_of_the_whole_image(procedure, dtype):
    image = np.random.default_rng(0).normal(10_000, 9, (60, 90)).astype(dtype)
    with pytest.raises(ValueError, match="differ from the whole image by up to .* it may be rounding"):
        smallest_overlap(procedure, image, 16, 4)


def bin_in_pairs(pixels):
    """Every second pixel, twice: depends on whether a tile starts at an even or an odd pixel."""
    return np.repeat(pixels[::2], 2)[: len(pixels)]


def test_the_search_finds_the_smallest_overlap():
    image = np.random.default_rng(1).integers(0, 256, (60, 60), dtype=np.uint8)

    def procedure(pixels):
        return ndimage.maximum_filter(pixels, side(5))

    for tile, maximum in ((16, 16), ((20, 11), 9999), (10, 5)):
        found = smallest_overlap(procedure, image, tile, maximum)
        assert tiling_error(procedure, image, tile, found) == 0 < tiling_error(procedure, image, tile, found - 1)
        assert found == 5
    assert smallest_overlap(lambda pixels: pixels + 1, image, 16, 16) == 0
    assert smallest_overlap(lambda pixels: pixels, np.array(7), 16, 16) == 0
    with pytest.raises(ValueError, match="overlap 4 "):
        smallest_overlap(procedure, image, 16, maximum=4)


def test_the_search_does_not_trust_an_overlap_below_one_that_fails():
    image = np.random.default_rng(1).normal(size=64)
    errors = [tiling_error(bin_in_pairs, image, 8, overlap) for overlap in range(9)]
    assert [error == 0 for error in errors] == [overlap % 2 == 0 for overlap in range(9)]
    assert smallest_overlap(bin_in_pairs, image, 8, maximum=8) == 8


def test_one_image_may_need_less_than_all_images():
    image = np.random.default_rng(3).integers(0, 256, (90, 90), dtype=np.uint8)
    needed = overlap_needed(("top-hat", 7))
    found = smallest_overlap(lambda pixels: remove_background(pixels, 7), image, 30, maximum=needed)
    assert 0 < found < needed


def never(pixels):
    raise AssertionError("the procedure runs although an argument is wrong")


@pytest.mark.parametrize("function", [tiled, tiling_error, smallest_overlap])
@pytest.mark.parametrize(
    "procedure, image, tile, error, words",
    [
        (never, da.zeros((9, 9)), 3, TypeError, "NumPy array.*compute"),
        (never, np.ma.zeros((9, 9)), 3, TypeError, "MaskedArray, but must be a NumPy array without a mask"),
        (np.array, np.zeros((9, 9)), 0, ValueError, "tile is 0, but must be a whole number from 1"),
        (lambda pixels: pixels[1:], np.zeros((9, 9)), 3, ValueError, r"result of procedure has shape"),
        (lambda pixels: None, np.zeros((9, 9)), 3, ValueError, r"result of procedure has shape \(\)"),
        (lambda pixels: np.ma.array(pixels), np.zeros((9, 9)), 3, TypeError, "result of procedure has a mask"),
        (lambda pixels: pixels.astype(object), np.zeros((9, 9)), 3, TypeError, "object, but must hold numbers"),
        (lambda pixels: pixels.astype("M8[s]"), np.zeros((9, 9)), 3, TypeError, "datetime.*, but must hold numbers"),
    ],
)
def test_arguments_that_are_refused(function, procedure, image, tile, error, words):
    with pytest.raises(error, match=words):
        function(procedure, image, tile, 1)


@pytest.mark.parametrize("function", [tiled, tiling_error, lambda _, image, *sides: tile_cost(*sides)])
def test_overlaps_that_are_refused(function):
    with pytest.raises(ValueError, match="overlap is -1"):
        function(never, np.zeros((9, 20)), 3, -1)


def test_overlaps_may_be_larger_than_the_image():
    image = np.random.default_rng(0).normal(size=(9, 20))
    assert tiling_error(lambda pixels: pixels / pixels.max(), image, 3, 20) == 0


# Patches.


@pytest.mark.parametrize("size", [None, 1, 2, 3, 50, (1, 4, 2)])
def test_patches_give_the_same_as_one_compute(size):
    array = da.random.default_rng(0).integers(0, 9, (13, 9, 8), chunks=((3, 1, 4, 5), 2, (8,)), dtype=np.int16)
    array = array.map_overlap(lambda block: ndimage.maximum_filter(block, 3), depth=1, boundary="none")
    computed = compute_in_patches(array, size)
    assert computed.dtype == np.int16 and np.array_equal(computed, array.compute())


def test_patches_of_a_number_and_of_nothing():
    assert compute_in_patches(da.ones((3, 3), chunks=1).sum()) == 9
    assert compute_in_patches(da.ones((0, 3))).shape == (0, 3)


def test_one_patch_is_computed_and_written_at_a_time():
    running, written = [], []

    class Out:
        shape = (6, 4)

        def __setitem__(self, region, pixels):
            written.append((region, sorted(running)))
            running.clear()

    def block(block_id):
        running.append(block_id)
        return np.zeros((1, 1))

    array = da.map_blocks(block, chunks=((1,) * 6, (1,) * 4), dtype=float, meta=np.empty((0, 0)))
    out = Out()
    assert compute_in_patches(array, (2, 3), out) is out
    regions = [(slice(row, row + 2), slice(*columns)) for row in (0, 2, 4) for columns in ((0, 3), (3, 4))]
    blocks = [
        [(i, j) for i in range(rows.start, rows.stop) for j in range(columns.start, columns.stop)]
        for rows, columns in regions
    ]
    assert written == list(zip(regions, blocks))


def test_patches_are_written_to_zarr_with_any_chunks(tmp_path):
    array = da.arange(100, chunks=7)
    stored = zarr.create_array(tmp_path / "numbers.zarr", shape=100, dtype=int, chunks=(11,), shards=(22,))
    compute_in_patches(array, 2, stored)
    assert np.array_equal(stored[:], np.arange(100))


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
