"""Images of the Mandelbrot set, one for every level of a zoom.

A point c of the complex plane belongs to the set when z = z*z + c, started at z = 0, never leaves the disk |z| <= 2.
An image shows for every pixel the index of the update after which z has left it.

The zoom goes further than float64 numbers reach: around level 130,000 neighbouring pixels get the same coordinates.
Well before that, `mandelbrot_array` changes its method: it follows one point, the centre, with integers of any length,
and for every pixel only its small distance from that point. This is called perturbation.
"""

import math

import numpy as np
from numba import njit

from course_helpers._arguments import real_number, whole_number

SIZE = 512  # rows and columns of an image
CENTER = (-0.743645857047151, 0.13182592380533)
SCALE0 = 3.0
ZOOM_PER_LEVEL = 1.00025
MAX_ITER = 256

DEEPEST_LEVEL = 2_700_000  # a side of about 1e-293; much further down float64 cannot hold a distance between pixels
SMALLEST_SCALE = 1e-297  # pixels are so far apart that float64 holds their distance with all its digits
SPACING_FOR_FLOAT64 = 512  # pixels closer together than this many neighbouring float64 numbers need perturbation
LANES = 32  # pixels that advance together: they fill several vector registers of the processor
STEPS = 4  # updates between two looks at whether any of these pixels is still inside


def render_level(level):
    """Render one level of the zoom into CENTER: level 0 shows the whole set, each further one is 1.00025 times closer.

    Parameters
    ----------
    level : int
        From 0 to DEEPEST_LEVEL. The side length is SCALE0 / ZOOM_PER_LEVEL**level.

    Returns
    -------
    counts : uint16 array of shape (512, 512)
        Index k, from 0, of the update z = z*z + c after which |z| > 2; 256 where that does not happen.

    Raises
    ------
    TypeError, ValueError
        If level is not a whole number, or negative, or too deep.

    Examples
    --------
    >>> render_level(200).max()
    np.uint16(256)
    """
    return mandelbrot_array(SCALE0 / ZOOM_PER_LEVEL ** whole_number(level, "level", 0, DEEPEST_LEVEL))


def mandelbrot_numpy(scale):
    """Render the Mandelbrot set around CENTER with plain NumPy; scale is the distance from the first to the last row.

    Every coordinate is rounded to float64, so deep images are wrong: the pixels merge into blocks.
    """
    x = np.linspace(CENTER[0] - scale / 2, CENTER[0] + scale / 2, 512)
    y = np.linspace(CENTER[1] - scale / 2, CENTER[1] + scale / 2, 512)
    c = x + 1j * y[:, np.newaxis]
    z = np.zeros_like(c)
    counts = np.full(c.shape, 256, dtype=np.uint16)
    for k in range(256):
        inside = counts == 256
        z[inside] = z[inside] ** 2 + c[inside]
        counts[inside & (np.abs(z) > 2)] = k
    return counts


def mandelbrot_array(scale):
    """Render what `mandelbrot_numpy` renders: many times faster, and right at any depth.

    While pixels are more than SPACING_FOR_FLOAT64 float64 numbers apart, everything is float64, and rounding changes
    a pixel here and there.
    """
    scale = real_number(scale, "scale", SMALLEST_SCALE)
    return _render(SIZE, SIZE, CENTER, scale, MAX_ITER).astype(np.uint16)


def _render(height, width, center, scale, max_iter):
    """Count the updates of every pixel, shape (height, width); a single row or column lies at the centre."""
    length = scale * width / height
    spacing = scale / height
    farthest = max(abs(center[0]) + length / 2, abs(center[1]) + scale / 2)
    if spacing > SPACING_FOR_FLOAT64 * np.spacing(farthest):
        return _count(_axis(center[0], length, width), _axis(center[1], scale, height), max_iter)
    offset_x, offset_y = _axis(0.0, length, width), _axis(0.0, scale, height)
    return _count_by_perturbation(offset_x, offset_y, _reference_orbit(center, spacing, max_iter), max_iter)


def _axis(middle, length, size):
    """Coordinates of the pixels along one axis, both ends included; a single pixel lies in the middle."""
    if size == 1:
        return np.array([middle])
    return np.linspace(middle - length / 2, middle + length / 2, size)


@njit(nogil=True, cache=True)
def _count(x, y, max_iter):
    """Count the updates of every pixel in float64.

    A row is cut into groups of LANES pixels. A group advances together, STEPS updates at a time, and nothing branches
    in between, so that the compiler turns the loop over lanes into vector instructions. Once |z| > 2 it stays so
    (or becomes inf and then nan, which is not <= 4): therefore one look after STEPS updates suffices. A pixel that
    is outside by then keeps its z from before, and goes through these last updates once more, counting.
    """
    counts = np.empty((y.size, x.size), np.int64)
    cr = np.empty(LANES)
    a, b, inside = np.empty(LANES), np.empty(LANES), np.empty(LANES, np.int64)
    for row in range(y.size):
        ci = y[row]
        for left in range(0, x.size, LANES):
            for lane in range(LANES):
                cr[lane] = x[min(left + lane, x.size - 1)]
                a[lane] = b[lane] = 0.0
                inside[lane] = 0
            done = most = 0
            while most == done and done < max_iter:
                done += STEPS
                for lane in range(LANES):
                    re, im = a[lane], b[lane]
                    for _ in range(STEPS):
                        re, im = re * re - im * im + cr[lane], 2 * (re * im) + ci
                    stays = re * re + im * im <= 4
                    a[lane] = re if stays else a[lane]
                    b[lane] = im if stays else b[lane]
                    inside[lane] = done if stays else inside[lane]
                    most = max(most, inside[lane])
            for lane in range(min(LANES, x.size - left)):
                re, im, count = a[lane], b[lane], inside[lane]
                for _ in range(STEPS):
                    re, im = re * re - im * im + cr[lane], 2 * (re * im) + ci
                    count += re * re + im * im <= 4
                counts[row, left + lane] = min(count, max_iter)
    return counts


def _reference_orbit(center, spacing, max_iter):
    """Follow the centre with integers that count units of 2**-bits; 2**63 units or more fit between two pixels.

    Returns
    -------
    orbit : float64 array of shape (3, length), 2 <= length <= max_iter + 1
        Real part, imaginary part and |z|**2 - 4 of 0, c, c*c + c, ... The orbit ends early once |z| > 5: a pixel that
        is still inside then differs from it by |d| > 3 > |z| and starts over, see `_count_by_perturbation`.
    """
    bits = 64 - min(0, math.frexp(spacing)[1])
    unit = 1 << bits
    cr, ci = (numerator * unit // denominator for numerator, denominator in map(float.as_integer_ratio, center))
    re, im, square = 0, 0, 0
    orbit = [(0.0, 0.0, -4.0)]
    while len(orbit) <= max_iter and square <= 25 * unit**2:
        re, im = (re * re - im * im) // unit + cr, 2 * re * im // unit + ci
        square = re * re + im * im
        orbit.append((re / unit, im / unit, (square - 4 * unit**2) / unit**2))
    return np.array(orbit).T.copy()


@njit(nogil=True, cache=True)
def _count_by_perturbation(offset_x, offset_y, orbit, max_iter):
    """Count the updates of every pixel from its difference d to the orbit Z of the centre.

    With z = Z[m] + d and c = Z[1] + offset, z*z + c is Z[m+1] + (2*Z[m] + d)*d + offset: the last two terms are the
    new d. It is small and keeps all its digits, as |z|**2 - 4 does when it is written with d. Where |z| < |d|, the
    pixels of a group start over along the orbit, from Z[0] = 0 with d = z. Perturbation comes from K. I. Martin
    ("Superfractalthing maths", 2013), starting over ("rebasing") from Z. Zhuoran (fractalforums.org, 2021).
    """
    counts = np.empty((offset_y.size, offset_x.size), np.int64)
    cr = np.empty(LANES)
    a, b, inside = np.empty(LANES), np.empty(LANES), np.empty(LANES, np.int64)
    for row in range(offset_y.size):
        ci = offset_y[row]
        for left in range(0, offset_x.size, LANES):
            for lane in range(LANES):
                cr[lane] = offset_x[min(left + lane, offset_x.size - 1)]
                a[lane] = b[lane] = 0.0
                inside[lane] = 0
            m = done = most = 0
            while most == done and done < max_iter:
                old_re, old_im = 2 * orbit[0, m], 2 * orbit[1, m]
                m, done = m + 1, done + 1
                new_re, new_im, beyond = orbit[0, m], orbit[1, m], orbit[2, m]
                square = new_re * new_re + new_im * new_im
                start_over = 0
                for lane in range(LANES):
                    p, q = old_re + a[lane], old_im + b[lane]
                    re, im = p * a[lane] - q * b[lane] + cr[lane], p * b[lane] + q * a[lane] + ci
                    mixed = 2 * (new_re * re + new_im * im)  # |z|**2 = square + mixed + |d|**2
                    stays = beyond + (mixed + re * re + im * im) <= 0
                    inside[lane] += stays
                    start_over += stays & (square + mixed < 0)
                    a[lane], b[lane] = re, im
                    most = max(most, inside[lane])
                if start_over > 0:
                    for lane in range(LANES):
                        a[lane], b[lane] = new_re + a[lane], new_im + b[lane]
                    m = 0
            for lane in range(min(LANES, offset_x.size - left)):
                counts[row, left + lane] = inside[lane]
    return counts
