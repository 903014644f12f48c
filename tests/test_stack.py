"""The virtual stack of nuclei and its truth."""

import zlib
from functools import partial

import dask.array as da
import numpy as np
import pytest
from random_images import for_any_seed, peak_of, random_chunks
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from course_helpers.stack import VOXEL_SIZE, nuclei_stack, true_stack_nuclei

SIZE = list(VOXEL_SIZE.values())
SHAPE = (2, 2, 20, 90, 130)
WHOLE = nuclei_stack(SHAPE).compute()


@for_any_seed(20)
def test_voxels_do_not_depend_on_shape_or_chunks(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, SHAPE, endpoint=True).tolist())
    stack = nuclei_stack(shape, random_chunks(rng, shape, most=3))
    assert isinstance(stack, da.Array) and len(stack.dask.layers) == 1
    assert np.array_equal(stack.compute(), WHOLE[tuple(map(slice, shape))])


def test_the_stack_is_the_same_on_every_machine():
    # Results stored in lesson 8 depend on it. After a change of the stack on purpose, put the new sum here.
    assert zlib.crc32(WHOLE.tobytes()) == 2726925819


@pytest.mark.parametrize("time", [0, 1, 40])
def test_light_is_where_the_truth_says(time):
    """Nuclei are bright inside, the rest is background with the noise of the camera; the marker is where the truth has it."""
    far = (41, 2, 10**6, 10**6, 10**6)
    picture = nuclei_stack(far, chunks=(1, 1, 20, 120, 200))[time, :, 10:40, 840:960, 920:1120].compute()
    found = true_stack_nuclei((41, 2, 50, 1000, 1200), time)
    places = np.stack(np.indices(picture.shape[1:]), -1) + (10, 840, 920)
    distance, nearest = cKDTree(found["centre"] * SIZE).query(places * SIZE)
    radius = found["diameter"][nearest] / 2
    inside, outside = distance < radius - 1, distance > 6
    assert inside.sum() > 1000 and outside.sum() > 1000
    for channel, level in enumerate(("brightness", "marker")):
        assert abs(picture[channel][outside].mean() - 100) < 0.1 and abs(picture[channel][outside].std() - 6) < 0.1
        one = np.bincount(nearest[inside], picture[channel][inside]) / np.maximum(np.bincount(nearest[inside]), 1)
        many = np.bincount(nearest[inside]) > 100
        levels = found[level][: len(many)][many]
        close = abs(one[many] - 100 - levels) < 0.1 * levels + 3
        assert many.sum() > 10 and levels.any() and close.mean() > 0.9  # a neighbour may shine into one


def test_nuclei_drift_grow_no_closer_and_get_marked():
    first, later = (true_stack_nuclei((9, 1, 100, 400, 400), time) for time in (0, 8))
    moved = first["centre"] + 8 * np.array([0, 0.75, 1.25])
    distance, nearest = cKDTree(later["centre"]).query(moved[(moved < (99, 399, 399)).all(axis=1)])
    assert len(distance) > 300 and distance.max() < 1e-9
    assert (first["marker"] > 0).sum() < (later["marker"] > 0).sum() < len(later) / 2
    assert first["diameter"].min() >= 7 and first["diameter"].max() <= 10
    closest = 0.85 * pdist(first["diameter"][:, None], lambda a, b: (a[0] + b[0]) / 2)
    assert np.all(pdist(first["centre"] * SIZE) >= closest)


def test_memory_is_a_few_chunks():
    stack = nuclei_stack((4, 2, 64, 512, 512), chunks=(1, 1, 32, 256, 256))
    peak = peak_of(partial(stack.max().compute, scheduler="synchronous"))
    assert peak < 12 * 2**21 < stack.nbytes / 10  # a chunk has 4 MiB


def test_there_are_two_channels():
    with pytest.raises(ValueError, match="channels is 3, but must be a whole number from 1 to 2"):
        nuclei_stack((1, 3, 4, 4, 4))
