"""Mandelbrot images against slower, simpler ways to compute them: NumPy in real arithmetic, and exact integers."""

from fractions import Fraction

import numpy as np
import pytest

from course_helpers._engine import escape_time
from course_helpers._engine.escape_time import SPACING_FOR_FLOAT64, count_updates, escape_times, reference_orbit
from course_helpers.mandelbrot import (
    CENTER,
    DEEPEST_LEVEL,
    SCALE0,
    ZOOM_PER_LEVEL,
    mandelbrot_array,
    mandelbrot_numpy,
    render_level,
)

NEXT_TO_MINUS_TWO = (float(np.nextafter(-2, -3)), 0.0)
NUCLEUS = (-1.7548776662466927, 0.0)  # of a small copy of the set
ON_THE_CIRCLE = (1.2, 1.6)  # next to |c| = 2, nearer than rounding can tell
SPIRAL = (-0.10109636384562, 0.95628651080914)  # busy at every depth that float64 can name


def scale_of(level):
    return SCALE0 / ZOOM_PER_LEVEL**level


def count_in_real_arithmetic(x, y, max_iter):
    """Counts for all pairs of y and x, one update after the other, without complex numbers."""
    cr, ci = np.meshgrid(x, y)
    a, b = np.zeros_like(cr), np.zeros_like(cr)
    counts = np.full(cr.shape, max_iter)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(max_iter):
            a, b = a * a - b * b + cr, 2 * (a * b) + ci
            counts[(counts == max_iter) & (a * a + b * b > 4)] = k
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


def wrong_pixels(center, scale, size=512, max_iter=256, samples=150):
    """How many of some random pixels differ from the truth."""
    counts = escape_times(center, scale, size, max_iter)
    pixels = np.random.default_rng(0).integers(size, size=(samples, 2)).tolist()
    return sum(int(counts[tuple(pixel)]) != true_count(*pixel, center, scale, size, max_iter) for pixel in pixels)


# ---- float64


@pytest.mark.parametrize("level", [0, 20_000, 60_000, 100_000])
@pytest.mark.parametrize("size", [2, 33, 64])
def test_equals_real_arithmetic_in_every_pixel(level, size):
    half = scale_of(level) / 2
    x, y = (np.linspace(middle - half, middle + half, size) for middle in CENTER)
    for max_iter in (1, 3, 4, 256):
        counts = escape_times(CENTER, scale_of(level), size, max_iter)
        np.testing.assert_array_equal(counts, count_in_real_arithmetic(x, y, max_iter))


def test_equals_real_arithmetic_on_the_circle_of_radius_two_and_far_outside():
    near_two = -2 + np.arange(-40, 41) * 2.0**-52
    far = np.array([-1e308, -1e160, -1e100, 3.0, 1e155, 1e308])
    cases = [(near_two, np.array([0.0, 5e-324, 1e-17, -1e-9, 1e-8])), (far, far), (far, near_two)]
    cases += [(far[i : i + 1], far[j : j + 1]) for i in range(6) for j in range(6)]
    for angle in np.random.default_rng(1).uniform(0, 2 * np.pi, 300):
        cases.append((2 * np.cos(angle) + np.arange(-4, 5) * 2.0**-52, np.array([2 * np.sin(angle)])))
    for x, y in cases:
        np.testing.assert_array_equal(count_updates(x, y, None, 50), count_in_real_arithmetic(x, y, 50))


@pytest.mark.parametrize("center", [(0.25, 0.0), (-0.125, 0.65), (-0.75, 0.05), (-1.0, 0.25), (-1.25, 0.0)])
def test_equals_real_arithmetic_at_the_borders_of_the_largest_parts_of_the_set(center):
    x, y = (np.linspace(middle - 0.2, middle + 0.2, 64) for middle in center)
    np.testing.assert_array_equal(count_updates(x, y, None, 600), count_in_real_arithmetic(x, y, 600))


def test_the_numpy_version_agrees_but_for_the_last_bits():
    # Many processors fuse multiplication and addition of complex numbers, so a few pixels may differ.
    for level in (0, 20_000, 60_000):
        plain, fast = mandelbrot_numpy(scale_of(level)), mandelbrot_array(scale_of(level))
        assert plain.dtype == fast.dtype == np.uint16
        assert (plain != fast).mean() <= 0.001


# ---- deeper


@pytest.mark.parametrize("center", [CENTER, (0.0, 1.0)])
@pytest.mark.parametrize("level", [100_000, 101_000, 105_000, 120_000, 132_484, 139_844, 200_000, 400_000])
def test_right_at_every_level(center, level):
    assert wrong_pixels(center, scale_of(level)) == 0


@pytest.mark.parametrize("center", [(-2.0, 0.0), NEXT_TO_MINUS_TWO, NUCLEUS, SPIRAL, ON_THE_CIRCLE, (0.25, 0.0)])
def test_right_around_other_centres(center):
    for level in (115_000, 132_484, 139_844, 180_000):
        assert wrong_pixels(center, scale_of(level), samples=60) == 0
    for size in (2, 31, 90):
        assert wrong_pixels(center, 1e-16, size, samples=25) == 0


@pytest.mark.parametrize(("center", "scale"), [((0.0, 1.0), 1e-100), (SPIRAL, 1e-15)])
def test_right_with_more_updates(center, scale):
    assert wrong_pixels(center, scale, 40, max_iter=2000, samples=40) == 0


@pytest.mark.parametrize(
    ("center", "count"), [((-1.0, 0.0), 300), ((0.0, 0.0), 300), ((1e50, -1e50), 0), ((1.5, 0.0), 1)]
)
def test_centres_inside_the_set_stay_inside_and_those_outside_escape(center, count):
    assert (escape_times(center, 1e-50, 9, 300) == count).all()


def test_right_down_to_the_deepest_level():
    for center in ((0.0, 1.0), (-2.0, 0.0)):
        assert wrong_pixels(center, scale_of(DEEPEST_LEVEL), 50, max_iter=1500, samples=25) == 0
    assert len(np.unique(escape_times((0.0, 1.0), scale_of(DEEPEST_LEVEL), 50, 1500))) > 10
    assert np.ptp(render_level(DEEPEST_LEVEL)) == 0


@pytest.mark.parametrize("center", [CENTER, (0.0, 1.0)])
def test_both_methods_agree_where_one_takes_over_from_the_other(center, monkeypatch):
    scale = 512 * 1.01 * SPACING_FOR_FLOAT64 * np.spacing(max(np.abs(center)))
    in_float64 = escape_times(center, scale, 512, 256)
    with monkeypatch.context() as patch:
        patch.setattr(escape_time, "reference_orbit", None)  # only float64 is left
        assert np.array_equal(escape_times(center, scale, 512, 256), in_float64)
        with pytest.raises(TypeError):
            escape_times(center, scale / 1.1, 512, 256)
    monkeypatch.setattr(escape_time, "SPACING_FOR_FLOAT64", np.inf)
    assert (escape_times(center, scale, 512, 256) != in_float64).mean() <= 0.001


def test_the_first_levels_with_equal_intensities():
    spread = {level: int(np.ptp(render_level(level))) for level in (132_483, 132_484, 133_369, 133_370)}
    assert spread == {132_483: 3, 132_484: 2, 133_369: 2, 133_370: 1}
    assert np.unique(render_level(139_844)).tolist() == [250, 251]
    for level in (139_845, 139_968, 199_999):
        assert np.unique(render_level(level)).tolist() == [250]


def test_plain_numpy_finds_the_uniform_level_too_late():
    assert np.ptp(mandelbrot_numpy(scale_of(139_967))) == 1
    assert np.ptp(mandelbrot_numpy(scale_of(139_968))) == 0


@pytest.mark.parametrize("scale", [1e-3, 1e-20])
@pytest.mark.parametrize("deep", [False, True])
def test_a_pixel_does_not_depend_on_the_pixels_computed_with_it(scale, deep):
    offsets, center = np.linspace(-scale / 2, scale / 2, 100), (0.0, 1.0)
    orbit = reference_orbit(center, scale / 100, 256) if deep else None
    x, y = (offsets, offsets) if deep else (center[0] + offsets, center[1] + offsets)
    image = count_updates(x, y, orbit, 256)
    for cut in (1, 31, 32, 50, 99):
        rows = [count_updates(x, part, orbit, 256) for part in (y[:cut], y[cut:])]
        columns = [count_updates(part, y, orbit, 256) for part in (x[:cut], x[cut:])]
        np.testing.assert_array_equal(np.vstack(rows), image)
        np.testing.assert_array_equal(np.hstack(columns), image)


# ---- arguments


@pytest.mark.parametrize("level", [-1, DEEPEST_LEVEL + 1, 1.5])
def test_levels_that_do_not_exist_are_named(level):
    with pytest.raises((TypeError, ValueError), match=f"level is {level!r}, but must be .* 0 to {DEEPEST_LEVEL}"):
        render_level(level)
