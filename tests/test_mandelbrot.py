"""Mandelbrot images against slower, simpler ways to compute them: NumPy in real arithmetic, and exact integers."""

from fractions import Fraction

import numpy as np
import pytest

from course_helpers import mandelbrot
from course_helpers.mandelbrot import (
    CENTER,
    DEEPEST_LEVEL,
    SCALE0,
    SPACING_FOR_FLOAT64,
    ZOOM_PER_LEVEL,
    _render,
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


def true_count(row, column, height, width, center, scale, max_iter):
    """Count of one pixel, with integers in units of 2**-bits; centre and scale are float64, all the rest is exact."""
    bits = 128 + max(0, int(-np.log2(scale / max(height, width))))

    def coordinate(middle, length, index, size):
        offset = length * (Fraction(index, size - 1) - Fraction(1, 2)) if size > 1 else 0
        return int((Fraction(middle) + offset) * 2**bits)

    cr = coordinate(center[0], Fraction(scale) * width / height, column, width)
    ci = coordinate(center[1], Fraction(scale), row, height)
    a, b = 0, 0
    for k in range(max_iter):
        a, b = ((a * a - b * b) >> bits) + cr, ((2 * a * b) >> bits) + ci
        if a * a + b * b > 4 << 2 * bits:
            return k
    return max_iter


def wrong_pixels(center, scale, height=512, width=512, max_iter=256, samples=150):
    """How many of some random pixels differ from the truth."""
    counts = _render(height, width, center, scale, max_iter)
    rng = np.random.default_rng(0)
    pixels = zip(rng.integers(height, size=samples).tolist(), rng.integers(width, size=samples).tolist())
    return sum(int(counts[pixel]) != true_count(*pixel, height, width, center, scale, max_iter) for pixel in pixels)


# ---- float64


@pytest.mark.parametrize("level", [0, 20_000, 60_000, 100_000])
@pytest.mark.parametrize("height, width", [(64, 64), (45, 67), (1, 5), (7, 1), (3, 33)])
def test_equals_real_arithmetic_in_every_pixel(level, height, width):
    scale = scale_of(level)
    half_width = scale * width / height / 2
    x = np.linspace(CENTER[0] - half_width, CENTER[0] + half_width, width) if width > 1 else [CENTER[0]]
    y = np.linspace(CENTER[1] - scale / 2, CENTER[1] + scale / 2, height) if height > 1 else [CENTER[1]]
    for max_iter in (1, 3, 4, 256):
        counts = _render(height, width, CENTER, scale, max_iter)
        np.testing.assert_array_equal(counts, count_in_real_arithmetic(x, y, max_iter))


def test_whole_lecture_image_equals_real_arithmetic():
    x = np.linspace(CENTER[0] - 1.5, CENTER[0] + 1.5, 512)
    y = np.linspace(CENTER[1] - 1.5, CENTER[1] + 1.5, 512)
    np.testing.assert_array_equal(render_level(0), count_in_real_arithmetic(x, y, 256))


def test_equals_real_arithmetic_on_the_circle_of_radius_two_and_far_outside():
    rng = np.random.default_rng(1)
    near_two = -2 + np.arange(-40, 41) * 2.0**-52
    far = np.array([-1e308, -1e160, -1e100, 3.0, 1e155, 1e308])
    for x, y in [(near_two, np.array([0.0, 5e-324, 1e-17, -1e-9, 1e-8])), (far, far), (far, near_two)]:
        np.testing.assert_array_equal(mandelbrot._count(x, y, 50), count_in_real_arithmetic(x, y, 50))
    for angle in rng.uniform(0, 2 * np.pi, 300):
        x = np.array([2 * np.cos(angle)]) + np.arange(-4, 5) * 2.0**-52
        y = np.array([2 * np.sin(angle)])
        np.testing.assert_array_equal(mandelbrot._count(x, y, 30), count_in_real_arithmetic(x, y, 30))


def test_the_numpy_version_agrees_but_for_the_last_bits():
    # Many processors fuse multiplication and addition of complex numbers, so a few pixels may differ.
    for level in (0, 20_000, 60_000):
        plain, fast = mandelbrot_numpy(scale_of(level)), mandelbrot_array(scale_of(level))
        assert plain.dtype == fast.dtype == np.uint16
        assert (plain != fast).mean() <= 0.001


def test_a_mirrored_centre_gives_the_mirrored_image():
    for scale in (1e-3, 1e-12, 1e-30):
        image = _render(40, 50, (0.0, 1.0), scale, 256)
        np.testing.assert_array_equal(_render(40, 50, (0.0, -1.0), scale, 256), image[::-1])


# ---- deeper


@pytest.mark.parametrize("center", [CENTER, (0.0, 1.0)])
@pytest.mark.parametrize("level", [100_000, 101_000, 105_000, 120_000, 132_484, 139_844, 200_000, 400_000])
def test_right_at_every_level(center, level):
    assert wrong_pixels(center, scale_of(level)) == 0


@pytest.mark.parametrize("center", [(-2.0, 0.0), NEXT_TO_MINUS_TWO, NUCLEUS, SPIRAL, ON_THE_CIRCLE, (0.25, 0.0)])
def test_right_around_other_centres(center):
    for level in (115_000, 132_484, 139_844, 180_000):
        assert wrong_pixels(center, scale_of(level), samples=60) == 0


@pytest.mark.parametrize("height, width", [(1, 1), (1, 90), (90, 1), (2, 2), (30, 200), (200, 33)])
@pytest.mark.parametrize("scale", [1e-9, 1e-13, 1e-16, 1e-40])
def test_right_in_images_of_any_shape(height, width, scale):
    for center in (CENTER, (0.0, 1.0), NUCLEUS, (-1.5, 0.0)):
        assert wrong_pixels(center, scale, height, width, samples=25) == 0


def test_right_with_more_updates():
    assert wrong_pixels((0.0, 1.0), 1e-100, 40, 40, max_iter=2000, samples=40) == 0
    assert wrong_pixels(SPIRAL, 1e-15, 40, 40, max_iter=2000, samples=40) == 0


def test_centres_inside_the_set_stay_inside_and_those_outside_escape():
    assert (_render(9, 9, (-1.0, 0.0), 1e-50, 300) == 300).all()
    assert (_render(9, 9, (0.0, 0.0), 1e-50, 300) == 300).all()
    assert (_render(9, 9, (1e50, -1e50), 1e-50, 256) == 0).all()
    assert (_render(9, 9, (1.5, 0.0), 1e-50, 256) == 1).all()  # 1.5, 3.75
    assert (_render(9, 9, (5.0, 5.0), 1e99, 256) == 0).sum() >= 80  # coordinates whose squares are huge


def test_right_down_to_the_deepest_level():
    for center in ((0.0, 1.0), (-2.0, 0.0)):
        assert wrong_pixels(center, scale_of(DEEPEST_LEVEL), 50, 50, max_iter=1500, samples=25) == 0
    assert len(np.unique(_render(50, 50, (0.0, 1.0), scale_of(DEEPEST_LEVEL), 1500))) > 10
    assert np.ptp(render_level(DEEPEST_LEVEL)) == 0


@pytest.mark.parametrize("center", [CENTER, (0.0, 1.0)])
def test_both_methods_agree_where_one_takes_over_from_the_other(center, monkeypatch):
    scale = 512 * 1.01 * SPACING_FOR_FLOAT64 * np.spacing(max(np.abs(center)))
    in_float64 = _render(512, 512, center, scale, 256)
    monkeypatch.setattr(mandelbrot, "_count", None)  # from here on only perturbation is left
    with pytest.raises(TypeError):
        _render(512, 512, center, scale, 256)
    _render(512, 512, center, scale / 1.1, 256)
    monkeypatch.setattr(mandelbrot, "SPACING_FOR_FLOAT64", np.inf)
    assert (_render(512, 512, center, scale, 256) != in_float64).mean() <= 0.001


@pytest.mark.parametrize("height, width", [(4000, 2), (2, 4000)])
def test_the_distance_of_pixels_decides_also_in_long_images(height, width, monkeypatch):
    scale = height * SPACING_FOR_FLOAT64 * np.spacing(abs(CENTER[0]))
    with monkeypatch.context() as patch:
        patch.setattr(mandelbrot, "_count", None)
        _render(height, width, CENTER, scale / 1.1, 256)
    monkeypatch.setattr(mandelbrot, "_count_by_perturbation", None)
    _render(height, width, CENTER, scale * 1.1, 256)


def test_the_lecture_needs_no_perturbation_down_to_level_100000(monkeypatch):
    monkeypatch.setattr(mandelbrot, "_count_by_perturbation", None)
    assert render_level(100_000).min() == 231


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
def test_a_pixel_does_not_depend_on_the_pixels_computed_with_it(scale):
    offsets = np.linspace(-scale / 2, scale / 2, 100)
    center = (0.0, 1.0)
    orbit = mandelbrot._reference_orbit(center, scale / 100, 256)
    renderers = [
        lambda x, y: mandelbrot._count(center[0] + x, center[1] + y, 256),
        lambda x, y: mandelbrot._count_by_perturbation(x, y, orbit, 256),
    ]
    for render in renderers:
        image = render(offsets, offsets)
        for cut in (1, 31, 32, 50, 99):
            parts = [render(offsets, offsets[:cut]), render(offsets, offsets[cut:])]
            np.testing.assert_array_equal(np.vstack(parts), image)
            parts = [render(offsets[:cut], offsets), render(offsets[cut:], offsets)]
            np.testing.assert_array_equal(np.hstack(parts), image)


# ---- wrong arguments


@pytest.mark.parametrize(
    "level, error",
    [
        (-1, ValueError),
        (DEEPEST_LEVEL + 1, ValueError),
        (10**30, ValueError),
        (1.5, TypeError),
        (True, TypeError),
        ("3", TypeError),
    ],
)
def test_levels_that_do_not_exist_are_named(level, error):
    with pytest.raises(error, match=f"level is {level!r}, but must be a whole number from 0 to {DEEPEST_LEVEL}"):
        render_level(level)


def test_a_scale_that_float64_cannot_hold_is_refused():
    for scale in (0, -1.0, float("nan"), float("inf"), 1e-300):
        with pytest.raises(ValueError, match="scale is .*, but must be a finite number from"):
            mandelbrot_array(scale)


def test_a_level_may_be_a_numpy_number():
    np.testing.assert_array_equal(render_level(np.uint16(3)), render_level(3))
