"""The one wording in which arguments are refused: what a value is, what it must be."""

import dask.array as da
import numpy as np
import pytest

from course_helpers._arguments import bounds_of, dask_array, per_axis, real_number, whole_number


@pytest.mark.parametrize("value", [0, 7, np.uint8(7), 10**30])
def test_whole_numbers(value):
    number = whole_number(value, "size", 0)
    assert number == value and type(number) is int


@pytest.mark.parametrize("value", [True, np.True_, 2.0, "3", None, np.nan, [1]])
def test_no_whole_numbers(value):
    with pytest.raises(TypeError, match="^size is .*, but must be a whole number from 1 to 9.$"):
        whole_number(value, "size", 1, 9)


def test_whole_numbers_out_of_range():
    for value in (0, 10):
        with pytest.raises(ValueError, match=f"^size is {value}, but must be a whole number from 1 to 9.$"):
            whole_number(value, "size", 1, 9)


def test_real_numbers():
    assert real_number(np.float32(2.5), "sigma") == 2.5 and real_number(-3, "sigma") == -3
    for value in (np.nan, np.inf, -0.1):
        with pytest.raises(ValueError, match="sigma is .*, but must be a finite number from 0"):
            real_number(value, "sigma", 0)
    for value in (True, None, "2", 1j, (1, 2)):
        with pytest.raises(TypeError, match="sigma is .*, but must be a finite number"):
            real_number(value, "sigma")


def test_one_number_stands_for_all_axes():
    assert per_axis(3, "tile", 2, 1) == (3, 3) and per_axis([3, 4], "tile", 2, 1) == (3, 4)
    for wrong in ((3,), (1, 2, 3), ()):
        with pytest.raises(ValueError, match="tile is .*, but must be one whole number, or 2: one for every axis"):
            per_axis(wrong, "tile", 2, 1)
    with pytest.raises(ValueError, match="tile is 0, but"):
        per_axis((3, 0), "tile", 2, 1)


def test_windows_mean_what_they_mean_in_numpy():
    image = np.zeros((20, 30))
    for window in (np.s_[2:5, :], np.s_[-4:, 10:99], np.s_[7:7, 9:3], np.s_[40:50, ::1]):
        assert tuple(stop - start for start, stop in bounds_of(window, image.shape)) == image[window].shape
    for wrong in (np.s_[0:9:2, :], np.s_[5, :], np.s_[0:9], (0, 9, 0, 9), np.s_[:, :, :]):
        with pytest.raises(ValueError, match="window is .*, but must be 2 slices with step 1, such as np.s_"):
            bounds_of(wrong, image.shape)


def test_dask_arrays():
    array = da.ones((4, 4), chunks=2)
    assert dask_array(array, "image") is array
    with pytest.raises(TypeError, match="image is of type ndarray, but must be a dask array.*from_array"):
        dask_array(np.ones((4, 4)), "image")
    with pytest.raises(ValueError, match="known chunks. Call compute_chunk_sizes"):
        dask_array(array[array[:, 0] > 0], "image")
