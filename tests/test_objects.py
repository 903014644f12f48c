"""Counting, labelling and measuring across tiles: always compared with the whole image."""

import pickle
from functools import partial

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from random_images import for_any_seed, peak_of, random_chunks
from scipy import ndimage as ndi
from skimage import measure
from skimage.measure import _regionprops as regionprops_names

from course_helpers import objects
from course_helpers.examples import same_objects
from course_helpers.objects import OverlapError, count_in_tiles, label_in_tiles, measure_in_tiles, stitch_labels
from course_helpers.tiling import compute_in_patches

PROPERTIES = "label area bbox centroid centroid_weighted intensity_mean intensity_max inertia_tensor moments_central "
PROPERTIES = (PROPERTIES + "euler_number axis_major_length equivalent_diameter_area").split()
DTYPES = ["?", "u1", ">u2", "u8", ">i4", "f4", ">f8"]


def label_mask(window):
    return measure.label(window > 0)


def random_case(seed, ndim=None, densities=(0.2, 0.7)):
    """A random mask of values 0 to 200, of any dtype, and a dask array of it, with random chunks."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40 if (ndim or 2) == 2 else 14, size=ndim or rng.integers(1, 4)))
    mask = rng.random(shape) < rng.uniform(*densities)
    image = np.where(mask, rng.integers(1, 200, shape), 0).astype(rng.choice(DTYPES))
    return rng, image, da.from_array(image, chunks=random_chunks(rng, shape, 7 - len(shape)))


def largest(labels):
    """The largest side of an object along each axis."""
    boxes = [[part.stop - part.start for part in box] for box in ndi.find_objects(labels)]
    return tuple(np.max([[0] * labels.ndim, *boxes], axis=0).tolist())


def names_of(labels):
    """The labels that label_in_tiles promises: 1 plus the flat index of the first pixel."""
    found, first = np.unique(labels, return_index=True)
    names = np.zeros(labels.max() + 1, np.int64)
    names[found[found > 0]] = first[found > 0] + 1
    return names[labels]


def compute(array):
    return array.compute(scheduler="synchronous")


def computed_or_refused(array):
    try:
        return compute(array)
    except OverlapError:
        return None


@for_any_seed(50)
def test_results_are_those_of_the_whole_image_or_refused(seed):
    rng, image, tiles = random_case(seed)
    reach = rng.integers(3, size=image.ndim)
    factor = rng.choice(np.array([1, 3, 0x9E3779B97F4A7C15], "u8"))  # labels with gaps, and any numbers in any order

    def segment(window):  # depends on `reach` pixels around each pixel
        blurred = ndi.uniform_filter((window > 0).astype(float), 2 * reach + 1, mode="nearest")
        return measure.label(blurred > 0.5).astype("u8") * factor

    whole = measure.label(segment(image) > 0)
    enough, names = np.add(largest(whole), reach), np.unique(names_of(whole))[1 - whole.min() :]
    overlap = rng.choice([enough, reach + rng.integers(13, size=image.ndim)])
    arguments = segment, tiles, tuple(overlap.tolist()), tuple(reach.tolist())
    first, edges = np.transpose(np.unravel_index(names - 1, image.shape)), [np.cumsum((0, *n)) for n in tiles.chunks]
    per_tile = tuple((1,) * number for number in tiles.numblocks)
    number = partial(label_in_tiles, *arguments, dtype=np.uint16)
    for array, expected, chunks, dtype in (  # skimage numbers in raster order, too
        (counts := count_in_tiles(*arguments), np.histogramdd(first, edges)[0], per_tile, np.int64),
        (label_in_tiles(*arguments), names_of(whole), tiles.chunks, np.int64),
        (number(renumber=names), whole, tiles.chunks, np.uint16),
    ):
        assert array.chunks == chunks and array.dtype == dtype
        if (found := computed_or_refused(array)) is None:
            assert (overlap < enough).any()
        else:
            assert found.dtype == dtype and np.array_equal(found, expected)
    assert compute(objects.cut_in_tiles(*arguments)).any() == (computed_or_refused(counts) is None)
    changed = objects.changed_in_tiles(*arguments[:3])
    assert changed.chunks == per_tile and ((overlap < enough).any() or not compute(changed).any())


def test_overlap_error_says_how_many_and_where():
    image = np.zeros((20, 30), int)
    image[3:6, 8:22] = image[8, 8:22] = image[12, 8:9] = 1
    tiles = da.from_array(image, chunks=10)
    says = r"tile \(0, 0\) .* 2 object.* \[3, 7\] pixels.*\(3, 8\), \(8, 8\)\. Choose"
    with pytest.raises(OverlapError, match=says) as caught:
        compute(count_in_tiles(label_mask, tiles, 5))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert compute(objects.cut_in_tiles(label_mask, tiles, 5)).tolist() == [[2, 0, 0], [0, 0, 0]]


def test_numbers_are_listed_and_fit_or_are_refused():
    many = da.from_array(np.tile([[1, 0], [0, 0]], (15, 15)), chunks=10)
    with pytest.raises(ValueError, match="not in the list.*segment must not be random"):
        compute(label_in_tiles(label_mask, many, 2, renumber=[1, 3, 7]))
    with pytest.raises(ValueError, match="dtype is int8, but must hold numbers up to 225"):
        compute(label_in_tiles(label_mask, many, 2, renumber=range(1, 226), dtype=np.int8))
    assert not compute(label_in_tiles(label_mask, many * 0, 2, renumber=[])).any()


def test_doubled_overlaps_tell_what_depends_on_the_window():
    image = np.zeros((40, 60))
    image[::10, ::10], image[5, 5] = 3, 10  # near the bright pixel, half of the brightest is more than 3
    tiles = da.from_array(image, chunks=10)
    changed = compute(objects.changed_in_tiles(lambda window: measure.label(window > window.max() / 2), tiles, 3))
    assert changed[0, 1] == 1 and changed[3, 5] == 0
    tiles = da.ones((20, 20), np.uint8, chunks=10)  # an overlap of 0 is compared with a wider one, too
    assert compute(objects.changed_in_tiles(label_mask, tiles, 0)).tolist() == [[0, 100], [100, 100]]


@pytest.mark.parametrize("spacing", [(1, 1), (0.5, 0.5), 2, (3, 0.5, 0.25)])
@for_any_seed(6)
def test_tables_have_the_same_rows(seed, spacing):
    ndim = len(spacing) if isinstance(spacing, tuple) else 3
    _, image, tiles = random_case(seed, ndim, densities=(0, 0.2))
    whole = label_mask(image)
    with dask.config.set(scheduler="synchronous"):
        table = measure_in_tiles(label_mask, tiles, largest(whole), PROPERTIES, spacing=spacing)
    assert table.pop("label").tolist() == np.unique(names_of(whole)[whole > 0]).tolist()
    measured = (whole, image) if whole.any() else (whole + 1, np.ones_like(image))  # of no object, the dtypes
    expected = pd.DataFrame(measure.regionprops_table(*measured, properties=PROPERTIES[1:], spacing=spacing))
    pd.testing.assert_frame_equal(table, expected[: whole.max()], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted({*regionprops_names.PROPS, *regionprops_names.COL_DTYPES} - {"label"}))
def test_every_property_is_that_of_the_whole_image_or_refused(name):
    def segment(window):  # it may write into its window
        labels = label_mask(window)
        window[:] = 0
        return labels

    image = np.zeros((30, 40), np.uint8)
    image[3:8, 4:9], image[21:29, 13:20], image[22:24, 14:16], image[10:14, 30:36] = 9, 5, 0, 7
    try:
        table = measure_in_tiles(segment, da.from_array(image, chunks=(11, 13)), 10, name, spacing=0.5)
    except (ValueError, NotImplementedError):
        assert name not in [*PROPERTIES, "coords", "coords_scaled", "num_pixels", "intensity_median"]
        return
    expected = measure.regionprops_table(label_mask(image), image, properties=[name], spacing=0.5)
    assert len(table) == 3 and len(expected) == len(table.columns) - 1
    for column in expected:
        for found, right in zip(table[column], expected[column], strict=True):
            np.testing.assert_allclose(np.asarray(found, float), np.asarray(right, float), err_msg=column)


@for_any_seed(40)
def test_stitched_labels_are_those_of_the_whole_image(seed):
    rng, image, tiles = random_case(seed, densities=(0.1, 0.8))
    connectivity = int(rng.integers(1, image.ndim, endpoint=True))
    tile_labels = tiles.map_blocks(lambda tile: measure.label(tile > 0, connectivity=connectivity), dtype=int)
    gaps = rng.choice([1, 3, 2**50 + 1])  # labels may have gaps
    whole = measure.label(image > 0, connectivity=connectivity)
    stitched = stitch_labels(tile_labels * gaps, None if connectivity == image.ndim else connectivity)
    result = compute(pickle.loads(cloudpickle.dumps(stitched)))  # as a cluster gets it
    assert stitched.chunks == tiles.chunks and stitched.dtype == result.dtype == np.int64
    assert same_objects(result, whole)
    assert np.array_equal(np.unique(result[result > 0]), np.arange(whole.max()) + 1)


def test_touching_labels_within_a_tile_stay_apart():
    columns = np.tile(np.arange(1, 601), (2, 1))
    assert np.array_equal(compute(stitch_labels(da.from_array(columns, chunks=(1, 600)), connectivity=1)), columns)


def broken(change):
    """Tiles of whole numbers, declared as uint8, of which one is something else when it is computed."""

    def block(block_id):
        pixels = np.zeros((10, 10), np.uint8)
        pixels[4, 4] = 7
        return change(pixels) if block_id == (1, 0) else pixels

    return da.map_blocks(block, chunks=((10, 10), (10, 10)), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))


@pytest.mark.parametrize("tool", [partial(measure_in_tiles, label_mask, overlap=3), stitch_labels, compute_in_patches])
def test_blocks_are_what_is_declared_or_refused(tool):
    right, cast = [np.asarray(tool(broken(change))) for change in (np.copy, lambda pixels: pixels.astype(">f4"))]
    assert np.array_equal(right, cast)
    for change in (
        lambda pixels: pixels[:1],
        lambda pixels: pixels + 0.5,
        lambda pixels: np.ma.masked_equal(pixels, 7),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^block \(1, 0\) of \w+ (has|holds)"):
            np.asarray(tool(broken(change)))


def test_nothing_is_read_but_the_window_of_a_tile():
    read = []

    def block(block_id):
        read.append(block_id)
        return np.zeros((10, 10), int)

    image = da.map_blocks(block, chunks=((10,) * 9,) * 2, dtype=int, meta=np.empty((0, 0), int))
    counts = count_in_tiles(label_mask, image, 3)
    label_in_tiles(label_mask, image, 3, renumber=[])
    assert not read
    compute(counts[4, 0])
    assert sorted(read) == [(row, col) for row in (3, 4, 5) for col in (0, 1)]
    assert count_in_tiles(label_mask, image, 4).name != counts.name == count_in_tiles(label_mask, image, 3).name


def dots(rows, columns):
    """Chunks of 200 x 200 pixels with four objects each."""

    def block():
        pixels = np.zeros((200, 200))
        pixels[50::100, 50::100] = 1
        return pixels

    return da.map_blocks(block, chunks=((200,) * rows, (200,) * columns), dtype=float, meta=np.empty((0, 0)))


def test_memory_does_not_grow_with_the_image():
    """Neither with its width nor with its height, patch by patch; with a single compute it does."""
    small, large = [peak_of(partial(measure_in_tiles, label_mask, dots(side, side), 20, ())) for side in (8, 12)]
    assert large < 1.5 * small
    mask = dots(30, 4)
    stitched = stitch_labels(mask.map_blocks(label_mask, dtype=int)).max()
    assert peak_of(partial(compute, stitched)) < 0.4 * mask.nbytes  # a label image has as many bytes


def test_on_zarr_and_on_a_cluster_of_processes(tmp_path):
    from distributed import Client

    _, image, tiles = random_case(0, 2, densities=(0.2, 0.2))
    whole = label_mask(image)
    tiles.rechunk(13).to_zarr(tmp_path / "image.zarr")
    stored, overlap = da.from_zarr(tmp_path / "image.zarr"), largest(whole)
    with Client(n_workers=2, threads_per_worker=1, processes=True, security=True, dashboard_address=None):
        assert len(measure_in_tiles(label_mask, stored, overlap)) == whole.max()
        assert same_objects(stitch_labels(stored.map_blocks(label_mask, dtype=int)).compute(), whole)


@pytest.mark.parametrize(
    ("segment", "value", "error", "message"),
    [
        (label_mask, np.nan, ValueError, r"in or near tile \(., .\), holds NaN or infinity"),
        (lambda window: window > 0, 0, TypeError, "labels are bool, but must be whole numbers. Label a mask"),
        (lambda window: label_mask(window)[1:], 0, ValueError, r"shape \(12, 13\), but must have \(13, 13\)"),
        (lambda window: label_mask(window) - 1, 0, ValueError, "labels hold -1, but must be 0 or more"),
    ],
)
def test_wrong_segmentations_are_refused(segment, value, error, message):
    with pytest.raises(error, match=message):
        compute(count_in_tiles(segment, da.full((20, 20), value, chunks=10), 3))
