"""Tiles with overlap and patches: how much overlap is enough, what it costs; the same result as on the whole image."""

from itertools import product

import dask.array as da
import numpy as np
import pytest
from random_images import DTYPES, for_any_seed, random_chunks, random_pixels, values_of
from scipy import ndimage
from skimage.filters import difference_of_gaussians
from skimage.morphology import dilation, disk

from course_helpers._engine.tiled import tiled
from course_helpers.background import remove_background
from course_helpers.tiling import compute_in_patches, overlap_needed, smallest_overlap, tile_cost, tiling_error

TILE = 32


def side(radius):
    return 2 * radius + 1


def maximum(pixels, radius):
    return ndimage.maximum_filter(pixels, side(radius))


def blurred(pixels, sigma, mode="reflect"):
    return ndimage.gaussian_filter(pixels, sigma, mode=mode, output=float)


PIPELINES = [
    ([("gaussian", 1.63)], lambda pixels: blurred(pixels, 1.63, mode="constant")),
    ([("gaussian", 3)], lambda pixels: difference_of_gaussians(pixels, 1, 3)),
    ([("maximum", 4)], lambda pixels: dilation(pixels, disk(4))),
    ([("minimum", 3)], lambda pixels: ndimage.minimum_filter(pixels, side(3), mode="nearest")),
    ([("top-hat", 6)], lambda pixels: remove_background(pixels, 6)),
    ([("neighbourhood", 3)], lambda pixels: ndimage.percentile_filter(pixels, 80, side(3), mode="mirror")),
    ([("gaussian", 1), ("maximum", 3)], lambda pixels: maximum(blurred(pixels, 1), 3)),
]


@pytest.mark.parametrize(("steps", "procedure"), PIPELINES, ids=lambda value: str(value) * isinstance(value, list))
def test_the_overlap_is_enough_and_one_pixel_less_is_not(steps, procedure):
    random = np.random.default_rng(5).integers(0, 256, (75, 101), dtype=np.uint8)
    disks, (rows, columns) = np.full((96, 96), 10, np.uint8), np.indices((96, 96))
    for center in (TILE - 1 + 6, TILE - 6):
        disks[(rows - center) ** 2 + (columns - center - 20) ** 2 <= 6**2] = 200
    disks[TILE - 1 + 2 * 6, TILE + 19 + 6] = 10  # the last pixel of a disk that a tile needs: an opening misses it
    overlap = overlap_needed(*steps)
    for image in (random, disks):
        for tile in (TILE, (27, 40)):
            assert tiling_error(procedure, image, tile, overlap) == 0
    assert max(tiling_error(procedure, image, TILE, overlap - 1) for image in (random, disks)) > 0


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

    def procedure(pixels):  # it may write into its input
        pixels[:] = ndimage.maximum_filter(pixels, [side(far) for far in overlap])
        return pixels

    numbers = rng.integers(0, 99, shape).astype(rng.choice(["u1", ">i4", "f8"]))
    before = numbers.copy()
    assert tiling_error(procedure, numbers, tile, overlap) == 0 and np.array_equal(numbers, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_difference_is_exact(dtype):
    for whole, tiles in product(values_of(np.random.default_rng(0), dtype), repeat=2):
        a, b = whole.item(), tiles.item()  # of Python, which are exact
        with np.errstate(all="raise"):
            found = tiling_error(lambda p: np.full_like(p, whole if p.size == 4 else tiles), np.zeros(4, dtype), 2, 0)
        expected = 0 if a == b or a != a and b != b else np.inf if a - b != a - b else abs(a - b)
        assert found == pytest.approx(float(expected), rel=1e-15 * (dtype == "c8"), abs=0) and type(found) is float


@pytest.mark.parametrize(
    "procedure, words",
    [
        (lambda pixels: pixels[1:], "result of procedure has shape"),
        (lambda pixels: pixels.astype(object), "result of procedure is object, but must hold numbers"),
        (lambda pixels: pixels / 2 if pixels[0] else pixels, "float64 values that do not fit into int64"),
        (lambda pixels: pixels * (1 if pixels.size == 8 else 1.5), "float64 for tiles, but must return int64"),
    ],
)
def test_results_that_do_not_fit_are_refused(procedure, words):
    with pytest.raises((TypeError, ValueError), match=words):
        tiling_error(procedure, np.arange(8), 4, 0)


def running_mean(pixels):
    """The mean of three neighbours along rows, as the difference of two sums in the precision of the pixels."""
    sums = np.pad(np.cumsum(pixels, axis=1, dtype=pixels.dtype), ((0, 0), (2, 1)), mode="edge")
    return (sums[:, 3:] - sums[:, :-3]) / 3


NOT_LOCAL, ROUNDING = "the procedure needs the whole image", "it may be rounding"


@pytest.mark.parametrize(
    "procedure, dtype, reason",
    [
        (lambda pixels: blurred(pixels, 1, mode="wrap"), "f8", NOT_LOCAL),
        (lambda pixels: pixels > np.median(pixels), "f8", f"{NOT_LOCAL}, or {ROUNDING}"),
        (running_mean, "f4", ROUNDING),
        (lambda pixels: pixels + running_mean(pixels.astype("f4")) / 30, "f8", ROUNDING),
        (lambda pixels: np.clip(pixels - running_mean(pixels), -30, 30), "f4", ROUNDING),  # small, of large numbers
        (lambda pixels: np.floor(running_mean(np.rint(pixels) / 3)).astype(int), "f8", ROUNDING),
    ],
)
def test_where_no_overlap_is_enough_the_reason_is_told(procedure, dtype, reason):
    image = np.random.default_rng(0).normal(10_000, 9, (60, 90)).astype(dtype)
    with pytest.raises(ValueError, match=f"overlap 4 the tiles differ .* Raise maximum.* does not help, {reason}"):
        smallest_overlap(procedure, image, 16, maximum=4)


def bin_in_pairs(pixels):
    """Every second pixel, twice: depends on whether a tile starts at an even or an odd pixel."""
    return np.repeat(pixels[::2], 2, axis=0)[: len(pixels)]


@pytest.mark.parametrize(
    "procedure, tile, most, expected",
    [
        (lambda pixels: maximum(pixels, 5), 16, 16, 5),
        (lambda pixels: maximum(pixels, 5), (20, 11), 9999, 5),
        (lambda pixels: pixels + 1, 16, 16, 0),
        (bin_in_pairs, 8, 8, 8),  # it passes with even overlaps and fails with odd ones
    ],
)
def test_the_search_steps_down_until_an_overlap_fails(procedure, tile, most, expected):
    image = np.random.default_rng(1).integers(0, 256, (60, 60), dtype=np.uint8)
    assert smallest_overlap(procedure, image, tile, most) == expected


@for_any_seed(60)
def test_any_patches_give_the_same_as_one_compute(seed):
    rng = np.random.default_rng(seed)
    shape, size = tuple(rng.integers(0, 9, size=rng.integers(4))), rng.choice([None, 1, 2, 9, 10**9])
    image = random_pixels(rng, shape, rng.choice(DTYPES))
    bits = rng.integers(2, size=shape).astype(rng.choice(DTYPES[:-1]))  # numbers that all dtypes hold
    array, other = (da.from_array(pixels, random_chunks(rng, shape) or -1) for pixels in (image, bits))
    computed = compute_in_patches(array, size)
    assert computed.dtype == image.dtype and np.asarray(computed).tobytes() == image.tobytes()
    out = np.empty(shape, rng.choice(DTYPES[:-1]))
    assert compute_in_patches(other, size, out) is out and np.array_equal(out, bits)


@pytest.mark.parametrize(
    ("shape", "size", "sides"),
    [((6, 4), (2, 3), (2, 3)), ((128,), None, (64,)), ((8, 16), None, (8, 8)), ((4, 4, 8), None, (4, 4, 4))],
)
def test_one_patch_is_computed_and_written_at_a_time(shape, size, sides):
    running, seen = [], []

    class Out(np.ndarray):
        def __setitem__(self, region, pixels):
            seen.append((region, sorted(running)))
            running.clear()

    array = da.ones(shape, chunks=1)
    array = array.map_blocks(lambda block, block_id: running.append(block_id) or block, meta=array._meta)
    compute_in_patches(array, size, Out(shape))
    starts = product(*[range(0, length, side) for length, side in zip(shape, sides)])
    regions = [tuple(slice(a, min(a + b, end)) for a, b, end in zip(start, sides, shape)) for start in starts]
    assert seen == [(region, [*product(*[range(part.start, part.stop) for part in region])]) for region in regions]


def test_numbers_that_do_not_fit_are_not_written():
    with pytest.raises(ValueError, match="int64 values that do not fit into uint16"):
        compute_in_patches(da.full(4, 70_000), 1, np.zeros(4, np.uint16))
