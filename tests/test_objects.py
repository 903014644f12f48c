"""Counting, labelling and measuring across tiles: always compared with the whole image."""

import pickle
from functools import partial

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from random_images import for_any_seed, peak_of, random_chunks
from scipy import ndimage as ndi
from skimage import measure
from skimage.measure import _regionprops as regionprops_names

from course_helpers.examples import same_objects
from course_helpers.nuclei import segment_nuclei
from course_helpers.objects import (
    OverlapError,
    changed_in_tiles,
    count_in_tiles,
    cut_in_tiles,
    label_in_tiles,
    measure_in_tiles,
    stitch_labels,
)
from course_helpers.slide import render_nuclei
from course_helpers.tiling import compute_in_patches

PROPERTIES = "label area bbox centroid centroid_weighted intensity_mean intensity_max inertia_tensor moments_central "
PROPERTIES = (PROPERTIES + "euler_number axis_major_length equivalent_diameter_area").split()
DTYPES = ["?", "u1", ">u2", "u8", ">i4", "f4", ">f8"]


def threshold_blur(radius, window):
    """A segmentation whose result depends on `radius` pixels around each pixel."""
    return measure.label(ndi.uniform_filter(window.astype(float), 2 * radius + 1, mode="nearest") > 0.5)


def label_mask(window):
    return measure.label(window > 0)


def random_case(seed, ndim=None, densities=(0.05, 0.55)):
    """A random mask of values 0 to 200, of any dtype, and a dask array of it, with random chunks."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40 if (ndim or 2) == 2 else 14, size=ndim or rng.integers(1, 4)))
    mask = rng.random(shape) < rng.uniform(*densities)
    image = np.where(mask, rng.integers(1, 200, shape), 0).astype(rng.choice(DTYPES))
    return rng, image, da.from_array(image, chunks=random_chunks(rng, shape, 7 - len(shape)))


def largest(labels):
    """Size of the longest object along any axis."""
    return max([part.stop - part.start for box in ndi.find_objects(labels) for part in box], default=0)


def names_of(labels):
    """The labels that label_in_tiles promises: 1 plus the flat index of the first pixel."""
    found, first = np.unique(labels, return_index=True)
    names = np.zeros(labels.max() + 1, np.int64)
    names[found[found > 0]] = first[found > 0] + 1
    return names[labels]


def compute(array):
    return array.compute(scheduler="synchronous")


# --- count ------------------------------------------------------------------------------------------------------------


@for_any_seed(60)
def test_results_are_right_or_refused_with_any_overlap(seed):
    rng, image, tiles = random_case(seed, densities=(0.2, 0.7))
    overlap = int(rng.integers(13))
    whole = label_mask(image)
    if compute(cut_in_tiles(label_mask, tiles, overlap)).any():
        with pytest.raises(OverlapError, match="too small to be sure of"):
            compute(count_in_tiles(label_mask, tiles, overlap))
    else:
        assert compute(count_in_tiles(label_mask, tiles, overlap)).sum() == whole.max()
    try:
        labels = compute(label_in_tiles(label_mask, tiles, overlap))
    except OverlapError:
        assert overlap < largest(whole)
    else:
        assert np.array_equal(labels, names_of(whole))
    changed = changed_in_tiles(label_mask, tiles, overlap)
    assert changed.chunks == tuple((1,) * n for n in tiles.numblocks)
    if overlap >= largest(whole):
        assert compute(changed).dtype == np.int64 and not compute(changed).any()


@for_any_seed(50)
def test_with_the_reach_of_a_filter_counts_are_exact_or_refused(seed):
    rng = np.random.default_rng(seed)
    radius, more = int(rng.integers(1, 5)), int(rng.integers(13))
    image = ndi.zoom(rng.random((8, 9)), 5, order=1) > rng.uniform(0.4, 0.6)
    tiles, segment = da.from_array(image, chunks=random_chunks(rng, image.shape)), partial(threshold_blur, radius)
    whole = segment(image)
    enough = largest(whole) + radius
    assert compute(count_in_tiles(segment, tiles, enough, radius)).sum() == whole.max()
    try:
        count = compute(count_in_tiles(segment, tiles, radius + more, radius)).sum()
    except OverlapError:
        assert radius + more < enough
    else:
        assert count == whole.max()


def test_overlap_error_says_how_many_and_where():
    image = np.zeros((20, 30), int)
    image[3:6, 8:22] = image[8, 8:22] = image[12, 8:9] = 1
    tiles = da.from_array(image, chunks=10)
    with pytest.raises(
        OverlapError, match=r"tile \(0, 0\) .* 2 object.* \[3, 7\] pixels.*\(3, 8\), \(8, 8\)\. Choose"
    ) as caught:
        count_in_tiles(label_mask, tiles, 5).compute()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert cut_in_tiles(label_mask, tiles, 5).compute().tolist() == [[2, 0, 0], [0, 0, 0]]
    assert cut_in_tiles(label_mask, tiles, 14).compute().sum() == 0
    assert count_in_tiles(label_mask, tiles, 14).compute().tolist() == [[2, 0, 0], [1, 0, 0]]


def test_overlap_and_reach_may_differ_between_axes():
    image = np.zeros((20, 30), int)
    image[4, 3:18] = image[5:15, 25] = 1
    tiles = da.from_array(image, chunks=7)
    assert count_in_tiles(label_mask, tiles, (9, 12)).compute().sum() == 2
    assert count_in_tiles(label_mask, tiles, (11, 13), reach=(2, 1)).compute().sum() == 2
    for overlap, reach in (((8, 12), 0), ((9, 11), 0), ((11, 13), (3, 1)), ((11, 13), (2, 2))):
        with pytest.raises(OverlapError):
            count_in_tiles(label_mask, tiles, overlap, reach).compute()


# --- label ------------------------------------------------------------------------------------------------------------


@for_any_seed(40)
def test_counts_and_labels_are_those_of_the_whole_image_for_any_chunks(seed):
    _, image, tiles = random_case(seed)
    whole = label_mask(image)
    overlap, names = largest(whole), np.unique(names_of(whole))[1 - whole.min() :]
    counts = count_in_tiles(label_mask, tiles, overlap)
    assert counts.chunks == tuple((1,) * n for n in tiles.numblocks) and counts.dtype == np.int64
    first = np.transpose(np.unravel_index(names - 1, image.shape))
    edges = [np.cumsum((0, *sizes)) for sizes in tiles.chunks]
    assert np.array_equal(compute(counts), np.histogramdd(first, edges)[0])
    named = label_in_tiles(label_mask, tiles, overlap)
    assert named.chunks == tiles.chunks and named.dtype == np.int64
    assert np.array_equal(compute(named), names_of(whole))
    for renumber in (True, names):
        numbered = label_in_tiles(label_mask, tiles, overlap, renumber=renumber, dtype=np.uint16)
        assert numbered.dtype == compute(numbered).dtype == np.uint16
        assert np.array_equal(compute(numbered), whole)  # skimage numbers in raster order, too


def test_labels_that_do_not_fit():
    image = da.from_array(np.tile([[1, 0], [0, 0]], (15, 15)), chunks=10)
    with pytest.raises(ValueError, match="dtype is uint8, but must hold labels up to 900"):
        label_in_tiles(label_mask, image, 2, dtype=np.uint8)
    assert label_in_tiles(label_mask, image, 2, renumber=True, dtype=np.uint8).max().compute() == 225
    with pytest.raises(ValueError, match="dtype is int8, but must hold numbers up to 225"):
        label_in_tiles(label_mask, image, 2, renumber=True, dtype=np.int8).compute()


def test_a_segmentation_that_depends_on_more_than_the_surroundings_is_noticed():
    rng = np.random.default_rng(0)
    image = np.zeros((40, 1))
    image[2], image[17:23] = 10, 3  # only the upper window sees the bright pixel
    for threshold in (lambda window: window.max() / 2, lambda window: 20 * rng.random(window.shape)):
        tiles = da.from_array(image, chunks=(20, 1))
        numbers = label_in_tiles(lambda window: measure.label(window > threshold(window)), tiles, 5, renumber=True)
        with pytest.raises(ValueError, match="Choose a larger overlap and reach; and segment must not be random"):
            for _ in range(20):
                compute(numbers)


def test_numbers_are_the_rows_of_the_table():
    _, _, tiles = random_case(7, 2, densities=(0.1, 0.1))
    table = measure_in_tiles(label_mask, tiles, 40, ("label", "area"))
    numbered = label_in_tiles(label_mask, tiles, 40, renumber=table["label"])
    assert np.bincount(compute(numbered).ravel())[1:].tolist() == table["area"].tolist()
    assert not compute(label_in_tiles(label_mask, tiles * 0, 40, renumber=[])).any()
    with pytest.raises(ValueError, match="not in the list"):
        label_in_tiles(label_mask, tiles, 40, renumber=table["label"][1:]).compute()


def test_labels_may_be_any_whole_numbers():
    image = np.zeros((9, 9), np.uint64)
    image[1, 1], image[4:6, 2], image[4, 4], image[8, 8] = 2**63 + 5, 7, 2**60, 2
    tiles = da.from_array(image, chunks=3)
    assert compute(count_in_tiles(np.copy, tiles, 2)).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert np.array_equal(compute(label_in_tiles(np.copy, tiles, 2, renumber=True)), measure.label(image > 0))
    assert measure_in_tiles(np.copy, tiles, 2)["label"].tolist() == [11, 39, 41, 81]


# --- measure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1, 1), (0.5, 0.5), 2, (3, 0.5, 0.25)])
@for_any_seed(6)
def test_tables_have_the_same_rows(seed, spacing):
    ndim = len(spacing) if isinstance(spacing, tuple) else 3
    _, image, tiles = random_case(seed, ndim, densities=(0, 0.2))
    whole = label_mask(image)
    with dask.config.set(scheduler="synchronous"):
        table = measure_in_tiles(label_mask, tiles, largest(whole), PROPERTIES, spacing=spacing)
    if whole.max() == 0:
        columns = measure.regionprops_table(whole + 1, np.ones(image.shape), properties=PROPERTIES, spacing=spacing)
        assert len(table) == 0 and table.dtypes.to_dict() == {name: column.dtype for name, column in columns.items()}
        return
    expected = pd.DataFrame(measure.regionprops_table(whole, image, properties=PROPERTIES, spacing=spacing))
    assert list(table) == list(expected) and table.index.equals(expected.index)
    assert table["label"].tolist() == np.unique(names_of(whole)[whole > 0]).tolist()
    for column in expected.columns.drop("label"):
        assert table[column].dtype == expected[column].dtype, column
        if expected[column].dtype.kind in "iu":
            assert np.array_equal(table[column], expected[column]), column
        else:
            np.testing.assert_allclose(table[column], expected[column], rtol=1e-9, atol=1e-9, err_msg=column)


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


# --- stitch -----------------------------------------------------------------------------------------------------------


@for_any_seed(40)
def test_stitched_labels_are_those_of_the_whole_image(seed):
    rng, image, tiles = random_case(seed, densities=(0.1, 0.8))
    connectivity = int(rng.integers(1, image.ndim, endpoint=True))
    tile_labels = tiles.map_blocks(lambda tile: measure.label(tile > 0, connectivity=connectivity), dtype=int)
    gaps = rng.choice([1, 3, 2**50 + 1])  # labels may have gaps
    stitched = stitch_labels(tile_labels * gaps, None if connectivity == image.ndim else connectivity)
    whole = measure.label(image > 0, connectivity=connectivity)
    assert stitched.chunks == tiles.chunks and stitched.dtype == np.int64
    with pytest.MonkeyPatch.context() as patch:  # small images, so that several tasks look at some chunks each
        patch.setattr("course_helpers._engine.windows.GROUP", rng.choice([1, 30, 2**18]))
        result = compute(stitch_labels(tile_labels * gaps, connectivity))
    assert np.array_equal(result, compute(stitched))
    assert same_objects(result, whole)
    assert np.array_equal(np.unique(result[result > 0]), np.arange(whole.max()) + 1)


def test_touching_labels_within_a_tile_stay_apart():
    labels = da.from_array(np.array([[1, 2, 0, 5], [1, 2, 4, 4]]), chunks=(2, 2))
    assert stitch_labels(labels).compute().tolist() == [[1, 2, 0, 3], [1, 2, 2, 2]]
    columns = np.tile(np.arange(1, 601), (2, 1))
    assert np.array_equal(stitch_labels(da.from_array(columns, chunks=(1, 600)), connectivity=1).compute(), columns)


# --- what is checked on the way ---------------------------------------------------------------------------------------


def test_doubled_overlaps_tell_what_depends_on_the_window():
    image = np.zeros((40, 60))
    image[::10, ::10], image[5, 5] = 3, 10  # near the bright pixel, half of the brightest is more than 3
    tiles = da.from_array(image, chunks=10)

    def segment(window):
        return measure.label(window > window.max() / 2)

    assert compute(count_in_tiles(segment, tiles, 3)).sum() > segment(image).max() == 1
    changed = compute(changed_in_tiles(segment, tiles, 3))
    assert changed[0, 1] == 1 and changed[3, 5] == 0
    tiles = da.ones((20, 20), np.uint8, chunks=10)  # an overlap of 0 is compared with a wider one, too
    assert compute(changed_in_tiles(label_mask, tiles, 0)).tolist() == [[0, 100], [100, 100]]


def broken(change):
    """Tiles of whole numbers, declared as uint8, of which one is something else when it is computed."""

    def block(block_id):
        pixels = np.zeros((10, 10), np.uint8)
        pixels[4, 4] = 7
        return change(pixels) if block_id == (1, 0) else pixels

    return da.map_blocks(block, chunks=((10, 10), (10, 10)), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))


TOOLS = [
    lambda tiles: compute(count_in_tiles(label_mask, tiles, 3)),
    lambda tiles: compute(changed_in_tiles(label_mask, tiles, 3)),
    lambda tiles: compute(label_in_tiles(label_mask, tiles, 3, renumber=True)),
    lambda tiles: measure_in_tiles(label_mask, tiles, 3),
    lambda tiles: compute(stitch_labels(tiles)),
    compute_in_patches,
]


@pytest.mark.parametrize("tool", TOOLS)
def test_blocks_are_what_is_declared_or_refused(tool):
    right = np.asarray(tool(broken(lambda pixels: pixels)))
    for dtype in (">i4", "f4", "u8"):
        assert np.array_equal(tool(broken(lambda pixels: pixels.astype(dtype))), right)
    for change in (
        lambda pixels: pixels[:1, :1],
        lambda pixels: np.tile(pixels, 2),
        lambda pixels: pixels[0],
        lambda pixels: pixels + 0.5,
        lambda pixels: pixels.astype(int) + 256,
        lambda pixels: pixels.astype(int) - 1,
        lambda pixels: pixels + np.nan,
        lambda pixels: np.ma.masked_equal(pixels, 7),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^block \(1, 0\) of \w+ (has|holds)"):
            tool(broken(change))
    with pytest.raises(TypeError, match="has a mask"):  # at once
        tool(da.ma.masked_equal(broken(forbidden), 7))


def test_chunks_without_pixels():
    image = np.zeros((20, 20), np.uint8)
    image[8:12, 8:12] = 1
    tiles = da.from_array(image, chunks=((10, 0, 10), (0, 20)))
    assert compute(count_in_tiles(label_mask, tiles, 4)).tolist() == [[0, 1], [0, 0], [0, 0]]
    assert np.array_equal(compute(label_in_tiles(label_mask, tiles, 4, renumber=True)), image)
    with pytest.raises(ValueError, match="must have a pixel in each"):
        stitch_labels(tiles)


# --- laziness, memory, other schedulers -------------------------------------------------------------------------------


def forbidden(*_, **__):
    raise AssertionError("computed too early")


def test_nothing_is_computed_before_it_is_asked_for():
    image = da.map_blocks(forbidden, chunks=((30,) * 30, (30,) * 30), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    arrays = [
        count_in_tiles(forbidden, image, 5),
        label_in_tiles(forbidden, image, 5, renumber=True),
        stitch_labels(image),
    ]
    assert [array.shape for array in arrays] == [(30, 30), (900, 900), (900, 900)]
    assert all(len(array.dask.layers) < 12 for array in arrays)
    names = [count_in_tiles(label_mask, da.zeros(9, chunks=3), overlap).name for overlap in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_only_the_window_of_a_tile_is_read():
    read = []

    def block(block_id):
        read.append(block_id)
        return np.zeros((10, 10))

    image = da.map_blocks(block, chunks=((10,) * 9, (10,) * 9), dtype=float, meta=np.empty((0, 0)))
    compute(count_in_tiles(label_mask, image, 3)[4, 0])
    assert sorted(read) == [(row, col) for row in (3, 4, 5) for col in (0, 1)]


class Sink:
    """An array that forgets what is written to it."""

    def __init__(self, shape):
        self.shape = shape

    def __setitem__(self, region, pixels):
        assert pixels.shape == tuple(part.stop - part.start for part in region)


def label_grid(window, step=100):
    """Objects of one pixel, which need no overlap."""
    labels = np.zeros(window.shape, int)
    places = np.s_[step // 2 :: step, step // 2 :: step]
    labels[places].flat = np.arange(1, labels[places].size + 1)
    return labels


@pytest.mark.parametrize(
    "build",
    [
        lambda image: stitch_labels(image.map_blocks(label_mask, dtype=np.int64)),
        lambda image: label_in_tiles(partial(label_grid, step=10), image, 10),
        lambda image: count_in_tiles(partial(label_grid, step=10), image, 10),
    ],
    ids=["stitch_labels", "label_in_tiles", "count_in_tiles"],
)
def test_memory_does_not_grow_with_the_pixels(build):
    def speckle(block_id):
        return (np.random.default_rng(block_id).random((200, 200)) > 0.7).astype(float)

    image = da.map_blocks(speckle, chunks=((200,) * 30, (200,) * 4), dtype=float, meta=np.empty((0, 0)))
    total = build(image).max()
    assert peak_of(lambda: compute(total)) < 0.4 * image.nbytes  # a label image has as many bytes


@pytest.mark.parametrize(
    "work",
    [
        lambda image: compute_in_patches(count_in_tiles(label_grid, image, 20)),
        lambda image: compute_in_patches(label_in_tiles(label_grid, image, 20), out=Sink(image.shape)),
        lambda image: measure_in_tiles(label_grid, image, 20, ()),
    ],
    ids=["count_in_tiles", "label_in_tiles", "measure_in_tiles"],
)
def test_memory_does_not_grow_with_the_image(work):
    """Neither with its width nor with its height, patch by patch; with a single compute it does."""
    images = [da.zeros((200 * side,) * 2, chunks=200).map_blocks(np.copy, meta=np.empty((0, 0))) for side in (8, 12)]
    small, large = [peak_of(partial(work, image)) for image in images]
    assert large < 1.5 * small


def test_on_zarr_and_on_a_cluster_of_processes(tmp_path):
    from distributed import Client

    image = render_nuclei(window=np.s_[1200:1560, 3600:4000])
    segment = partial(segment_nuclei, threshold=30, sigma=1)
    whole = segment(image)
    da.from_array(image, chunks=(100, 90)).to_zarr(tmp_path / "image.zarr")
    stored = da.from_zarr(tmp_path / "image.zarr")
    with Client(n_workers=2, threads_per_worker=1, processes=True, security=True, dashboard_address=None):
        assert count_in_tiles(segment, stored, 50).compute().sum() == whole.max()
        label_in_tiles(segment, stored, 50, renumber=True, dtype=np.int32).to_zarr(tmp_path / "labels.zarr")
        assert same_objects(da.from_zarr(tmp_path / "labels.zarr").compute(), whole)
        assert len(measure_in_tiles(segment, stored, 50)) == whole.max()
        stitched = stitch_labels((stored > 30).map_blocks(measure.label, dtype=int)).compute()
        assert same_objects(stitched, measure.label(image > 30))
        with pytest.raises(OverlapError, match="object"):
            count_in_tiles(segment, stored, 3).compute()


# --- wrong arguments --------------------------------------------------------------------------------------------------

TILES = da.zeros((20, 20), chunks=10)
count, label = partial(count_in_tiles, label_mask, TILES, 3), partial(label_in_tiles, label_mask, TILES, 3)
no_table = "once, from 1 and sorted"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: count(reach=4), ValueError, r"\(3, 3\), but must be at least reach, \(4, 4\)"),
        (lambda: label(dtype=float), ValueError, "data type"),
        (lambda: measure_in_tiles(label_mask, TILES, 3, ["size"]), ValueError, "size"),
        (lambda: measure_in_tiles(label_mask, TILES[0], 3), TypeError, "1-D float64, but must be 2-D or 3-D"),
        (lambda: measure_in_tiles(label_mask, TILES.astype("M8[s]"), 3), TypeError, "must be .* of numbers"),
        (lambda: measure_in_tiles(label_mask, TILES, 3, ["slice"]), ValueError, "bbox"),
        (lambda: measure_in_tiles(label_mask, TILES, 3, ["Label"]), ValueError, "names of regionprops today"),
        (lambda: measure_in_tiles(label_mask, TILES, 3, spacing=(1, 0)), ValueError, "a finite number above 0"),
        (lambda: label(renumber=[1.0, 2.5]), ValueError, no_table),
        (lambda: label(renumber=[2, 1]), ValueError, no_table),
        (lambda: label(renumber=[[1, 2]]), ValueError, no_table),
        (lambda: label(renumber=[0, 1]), ValueError, no_table),
        (lambda: label(renumber=[1, 1]), ValueError, no_table),
        (lambda: label(renumber="yes"), ValueError, "renumber is yes.*measure_in_tiles"),
        (lambda: label(renumber=range(1, 301), dtype="uint8"), ValueError, "up to 300"),
        (lambda: stitch_labels(np.ones((3, 3), int)), TypeError, "labels is of type ndarray, but must be a dask array"),
        (lambda: stitch_labels(TILES.astype(int), 3), ValueError, "connectivity is 3, but must be"),
        (lambda: stitch_labels(TILES > 0), TypeError, "bool, but must be whole numbers. Label a mask"),
        (lambda: stitch_labels(TILES.astype(int) - 1).compute(), ValueError, "labels hold -1, but must be 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("segment", "image", "error", "message"),
    [
        (label_mask, TILES + np.nan, ValueError, r"in or near tile \(., .\), holds NaN or infinity"),
        (label_mask, TILES - np.inf, ValueError, "holds NaN or infinity"),
        (lambda window: np.ma.array(label_mask(window)), TILES, TypeError, "result of segment has a mask"),
        (lambda window: window > 0, TILES, TypeError, "labels are bool, but must be whole numbers"),
        (lambda window: label_mask(window)[1:], TILES, ValueError, r"shape \(12, 13\), but must have \(13, 13\)"),
        (lambda window: label_mask(window) - 1, TILES, ValueError, "labels hold -1, but must be 0 or more"),
        (lambda window: None, TILES, ValueError, "must have"),
    ],
)
def test_wrong_segmentations_are_refused(segment, image, error, message):
    with pytest.raises(error, match=message):
        count_in_tiles(segment, image, 3).compute()
