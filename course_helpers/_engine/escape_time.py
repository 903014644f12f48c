"""The escape time of pixels of the Mandelbrot set, in float64 or, where its numbers lie too far apart, by perturbation."""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

SPACING_FOR_FLOAT64 = 512  # pixels closer together than this many neighbouring float64 numbers need perturbation
SIDE = 8  # of a block of pixels that advance together: neighbours leave at similar times
LANES = SIDE * SIDE  # pixels of a block: they fill several vector registers of the processor
STEPS = 8  # updates between two looks at whether any of these pixels is still inside


def escape_times(center, scale, size, max_iter):
    """Count the updates, up to 65,535, of every pixel of a square around a centre: uint16 of shape (size, size)."""
    offsets, spacing = np.linspace(-scale / 2, scale / 2, size), scale / size
    if spacing > SPACING_FOR_FLOAT64 * np.spacing(max(map(abs, center)) + scale / 2):
        x, y = (np.linspace(middle - scale / 2, middle + scale / 2, size) for middle in center)
        return count_updates(x, y, None, max_iter)
    return count_updates(offsets, offsets, reference_orbit(center, spacing, max_iter), max_iter)


@njit(nogil=True, cache=True)
def count_updates(x, y, orbit, max_iter):
    """Count the updates of all pairs of y and x; with an orbit, these are distances from its second point, the centre.

    The image is cut into blocks of LANES pixels, which advance together: nothing branches inside a loop over them, so
    that the compiler turns it into vector instructions. (It drops one of the two ways to advance, as it knows whether
    there is an orbit.)
    """
    counts = np.empty((y.size, x.size), np.uint16)
    cr, ci, a, b = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    inside = np.empty(LANES, np.int64)
    for top in range(0, y.size, SIDE):
        for left in range(0, x.size, SIDE):
            for lane in range(LANES):
                cr[lane] = x[min(left + lane % SIDE, x.size - 1)]
                ci[lane] = y[min(top + lane // SIDE, y.size - 1)]
                a[lane] = b[lane] = 0.0
                inside[lane] = 0
            if orbit is None:
                _advance(cr, ci, a, b, inside, max_iter)
            else:
                _advance_along(orbit, cr, ci, a, b, inside, max_iter)
            for lane in range(LANES):
                row, column = min(top + lane // SIDE, y.size - 1), min(left + lane % SIDE, x.size - 1)
                counts[row, column] = min(inside[lane], max_iter)
    return counts


@intrinsic
def multiply_add(typing_context, x, y, z):
    """x * y + z for float64, rounded once by processors that have an instruction for it, else twice."""

    def code(context, builder, signature, numbers):
        double = numbers[0].type
        function = builder.module.declare_intrinsic("llvm.fmuladd", [double], ir.FunctionType(double, [double] * 3))
        return builder.call(function, numbers)

    return types.float64(x, y, z), code


@njit(nogil=True, cache=True)
def updated(re, im, cr, ci):
    """Real and imaginary part of z*z + c."""
    return multiply_add(re, re, multiply_add(-im, im, cr)), multiply_add(re + re, im, ci)


@njit(nogil=True, cache=True)
def _advance(cr, ci, a, b, inside, max_iter):
    """Count in `inside` the updates of a block of pixels from z = a + bi, in float64.

    A block in one of the two largest parts of the set, a cardioid and a disk, never leaves (at their borders, where
    rounding could matter, pixels are computed). Once |z| > 2 it stays so (or becomes inf and then nan, which is not
    <= 4): therefore one look after STEPS updates suffices. A pixel that is outside by then keeps its z from before, and
    goes through these last updates once more, counting.
    """
    settled = True
    for lane in range(LANES):
        p, square = cr[lane] - 0.25, ci[lane] * ci[lane]
        q = p * p + square
        settled &= (q * (q + p) < 0.249 * square) | ((p + 1.25) * (p + 1.25) + square < 0.0624)
    if settled:
        inside[:] = max_iter
        return
    done, staying = 0, True
    while staying and done < max_iter:
        done += STEPS
        staying = False
        for lane in range(LANES):
            re, im, count = a[lane], b[lane], inside[lane]
            for _ in range(STEPS):
                re, im = updated(re, im, cr[lane], ci[lane])
            stays = re * re + im * im <= 4
            a[lane] = re if stays else a[lane]
            b[lane] = im if stays else b[lane]
            inside[lane] = done if stays else count
            staying |= stays
    for lane in range(LANES):
        re, im = a[lane], b[lane]
        for _ in range(STEPS):
            re, im = updated(re, im, cr[lane], ci[lane])
            inside[lane] += re * re + im * im <= 4


@njit(nogil=True, cache=True)
def _advance_along(orbit, cr, ci, a, b, inside, max_iter):
    """Count in `inside` the updates of a block of pixels from their difference d = a + bi to the orbit Z of the centre.

    With z = Z[m] + d and c = Z[1] + offset, z*z + c is Z[m+1] + (2*Z[m] + d)*d + offset: the last two terms are the
    new d. It is small and keeps all its digits, as |z|**2 - 4 does when it is written with d. Where |z| < |d|, the
    pixels of a block start over along the orbit, from Z[0] = 0 with d = z. Perturbation comes from K. I. Martin
    ("Superfractalthing maths", 2013), starting over ("rebasing") from Z. Zhuoran (fractalforums.org, 2021).
    """
    m, done, staying = 0, 0, True
    while staying and done < max_iter:
        old_re, old_im = 2 * orbit[0, m], 2 * orbit[1, m]
        m, done = m + 1, done + 1
        new_re, new_im, beyond = orbit[0, m], orbit[1, m], orbit[2, m]
        square = new_re * new_re + new_im * new_im
        staying, start_over = False, 0
        for lane in range(LANES):
            p, q = old_re + a[lane], old_im + b[lane]
            re, im = p * a[lane] - q * b[lane] + cr[lane], p * b[lane] + q * a[lane] + ci[lane]
            mixed = 2 * (new_re * re + new_im * im)  # |z|**2 = square + mixed + |d|**2
            stays = beyond + (mixed + re * re + im * im) <= 0
            inside[lane] += stays
            start_over += stays & (square + mixed < 0)
            a[lane], b[lane] = re, im
            staying |= stays
        if start_over > 0:
            for lane in range(LANES):
                a[lane], b[lane] = new_re + a[lane], new_im + b[lane]
            m = 0


def reference_orbit(center, spacing, max_iter):
    """Follow the centre with integers that count units of 2**-bits; 2**63 units or more fit between two pixels.

    Returns float64 of shape (3, length): real part, imaginary part and |z|**2 - 4 of 0, c, c*c + c, ... The orbit ends
    early once |z| > 5: a pixel that is still inside then differs from it by |d| > 3 > |z| and starts over.
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
