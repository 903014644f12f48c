"""Mandelbrot images against slower, simpler ways to compute them: one pixel alone, NumPy, and exact integers."""

from fractions import Fraction

import numpy as np
import pytest
from numba import njit
from random_images import for_any_seed

from course_helpers._engine.escape_time import count_updates, escape_times, multiply_add
from course_helpers.mandelbrot import (
    CENTER,
    DEEPEST_LEVEL,
    SCALE0,
    ZOOM_PER_LEVEL,
    mandelbrot_numpy,
    render_level,
)

BORDERS = [(0.25, 0.0), (-0.125, 0.65), (-0.75, 0.05), (-1.0, 0.25), (-1.25, 0.0)]  # of the largest parts of the set
NUCLEUS = (-1.7548776662466927, 0.0)  # of a small copy of the set
ON_THE_CIRCLE = (1.2, 1.6)  # next to |c| = 2, nearer than rounding can tell
SPIRAL = (-0.10109636384562, 0.95628651080914)  # busy at every depth that float64 can name
CENTERS = [
    CENTER,
    *BORDERS,
    (-2.0, 0.0),
    (float(np.nextafter(-2, -3)), 0.0),
    NUCLEUS,
    ON_THE_CIRCLE,
    SPIRAL,
    (0.0, 1.0),
]


def scale_of(level):
    return SCALE0 / ZOOM_PER_LEVEL**level


@njit
def rounded(x, y, z):
    return multiply_add(x, y, z)


@njit
def count_one_by_one(x, y, max_iter):
    """Counts for all pairs of y and x, one pixel after the other, without complex numbers."""
    counts = np.full((y.size, x.size), max_iter)
    for row in range(y.size):
        for column in range(x.size):
            a = b = 0.0
            for k in range(max_iter):
                a, b = rounded(a, a, rounded(-b, b, x[column])), rounded(2 * a, b, y[row])
                if a * a + b * b > 4:
                    counts[row, column] = k
                    break
    return counts


def true_count(row, column, center, scale, size, max_iter):
    """Count of one pixel, with integers in units of 2**-bits; centre and scale are float64, all the rest is exact."""
    bits = 128 + max(0, int(-np.log2(scale / size)))

    def coordinate(middle, index):
        return int((Fraction(middle) + Fraction(scale) * (Fraction(index, size - 1) - Fraction(1, 2))) * 2**bits)

    cr, ci = coordinate(center[0], column), coordinate(center[1], row)
    a, b = 0, 0
    for k in range(max_iter):
        a, b = ((a * a - b * b) >> bits) + cr, ((2 * a * b) >> bits) + ci
        if a * a + b * b > 4 << 2 * bits:
            return k
    return max_iter


@pytest.mark.parametrize("center", CENTERS)
@for_any_seed(20)
def test_in_float64_every_pixel_is_as_if_it_were_alone(seed, center):
    rng = np.random.default_rng(seed)
    scale, max_iter = 10 ** -rng.uniform(-0.5, rng.choice([1, 14])), int(rng.choice([1, 3, 256, 600]))
    x, y = (np.linspace(middle - scale / 2, middle + scale / 2, rng.choice([2, 33, 64])) for middle in center)
    np.testing.assert_array_equal(count_updates(x, y, None, max_iter), count_one_by_one(x, y, max_iter))


@for_any_seed(100)
def test_product_and_sum_are_rounded_once_or_twice(seed):
    x, y, z = np.random.default_rng(seed).normal(size=3).tolist()
    assert rounded(x, y, z) in (x * y + z, float(Fraction(x) * Fraction(y) + Fraction(z)))


@pytest.mark.parametrize("center", CENTERS)
@for_any_seed(15)
def test_deeper_every_pixel_equals_exact_integers(seed, center):
    rng = np.random.default_rng(seed)
    size, max_iter = int(rng.choice([2, 31, 90, 512])), int(rng.choice([256, 256, 1500]))
    scale = size * 10 ** -rng.uniform(13.7, rng.choice([16, 17, 30, 290]))
    counts = escape_times(center, scale, size, max_iter)
    for row, column in rng.integers(size, size=(15, 2)).tolist():
        assert counts[row, column] == true_count(row, column, center, scale, size, max_iter)


def test_the_numpy_version_agrees_but_for_the_last_bits():
    # Many processors fuse multiplication and addition of complex numbers, so a few pixels may differ.
    for level in (0, 20_000, 60_000):
        plain, fast = mandelbrot_numpy(scale_of(level)), render_level(level)
        assert plain.dtype == fast.dtype == np.uint16
        assert (plain != fast).mean() <= 0.001


def test_the_first_levels_with_equal_intensities():
    spread = {level: int(np.ptp(render_level(level))) for level in (132_483, 132_484, 133_369, 133_370)}
    assert spread == {132_483: 3, 132_484: 2, 133_369: 2, 133_370: 1}
    assert np.unique(render_level(139_844)).tolist() == [250, 251]
    for level in (139_845, 139_968, DEEPEST_LEVEL):
        assert np.unique(render_level(level)).tolist() == [250]
