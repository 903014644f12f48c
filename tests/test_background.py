import numpy as np
import pytest
from skimage.morphology import disk, white_tophat

from course_helpers.background import remove_background

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


@pytest.fixture(autouse=True)
def no_floating_point_warnings():
    with np.errstate(all="raise"):
        yield


def random_image(shape, dtype="u1", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def by_definition(image, radius):
    """Top-hat, one neighbourhood after the other."""
    rows, cols = np.indices(image.shape)

    def filtered(values, extreme):
        result = values.copy()
        for y, x in np.ndindex(image.shape):
            result[y, x] = extreme(values[(rows - y) ** 2 + (cols - x) ** 2 <= radius**2])
        return result

    return image - filtered(filtered(image, np.min), np.max)


@pytest.mark.parametrize(
    "dtype, radius",
    [*((dtype, radius) for dtype in [*INTEGERS, "f4", "f8"] for radius in (1, 2, 3, 6, 13)), ("u1", 15), ("u2", 30)],
)
def test_it_equals_scikit_image_in_every_pixel(dtype, radius):
    image = random_image((61, 70), dtype)
    if image.dtype.itemsize == 8 and image.dtype.kind != "f":
        image >>= 12  # scikit-image computes with float64 numbers: these hold 53 bits
    result = remove_background(image, radius)
    assert result.dtype == image.dtype
    np.testing.assert_array_equal(result, white_tophat(image, disk(radius)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 30), (12, 5)])
@pytest.mark.parametrize("radius", [1, 4, 14, 1000])
def test_images_smaller_than_the_disk(shape, radius):
    image = random_image(shape)
    np.testing.assert_array_equal(remove_background(image, radius), by_definition(image, radius))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_images_without_pixels(shape):
    result = remove_background(np.zeros(shape, np.uint16))
    assert result.shape == shape and result.dtype == np.uint16


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_signed_differences_stop_at_the_largest_value(dtype):
    limits = np.iinfo(dtype)
    image = np.array([[limits.min, limits.max, limits.min, limits.min, -1, limits.min]], dtype)
    expected = np.array([[0, limits.max, 0, 0, limits.max, 0]], dtype)
    np.testing.assert_array_equal(remove_background(image, 1), expected)


def test_the_image_stays_as_it_is():
    for image in (random_image((30, 30)), np.array([[7.0, 1.0, 5.0]])):
        before = image.copy()
        result = remove_background(image, 2)
        assert not np.shares_memory(result, image)
        np.testing.assert_array_equal(image, before)


def test_any_memory_layout_and_byte_order():
    image = random_image((80, 90), "u2")
    expected = remove_background(image, 4)
    for layout in (np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2], image.astype(">u2")):
        result = remove_background(layout, 4)
        assert result.dtype == layout.dtype
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(remove_background(image[::-1, ::-1], 4), expected[::-1, ::-1])
