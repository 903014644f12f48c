"""Images of the Mandelbrot set, one for every level of a zoom.

A point c of the complex plane belongs to the set when z = z*z + c, started at z = 0, never leaves the disk |z| <= 2.
An image shows for every pixel the index of the update after which z has left it.

The zoom goes further than float64 numbers reach: around level 130,000 neighbouring pixels get the same coordinates.
Well before that, `mandelbrot_array` changes its method: it follows one point, the centre, with integers of any length,
and for every pixel only its small distance from that point. This is called perturbation: see _engine/escape_time.py.
"""

import numpy as np

from course_helpers._arguments import real_number, whole_number
from course_helpers._engine.escape_time import escape_times

SIZE = 512  # rows and columns of an image
CENTER = (-0.743645857047151, 0.13182592380533)
SCALE0 = 3.0
ZOOM_PER_LEVEL = 1.00025
MAX_ITER = 256
DEEPEST_LEVEL = 2_700_000  # a side of about 1e-293; much further down float64 cannot hold a distance between pixels


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
        If there is no such level.

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

    While pixels are more than 512 float64 numbers apart, all is float64, and rounding changes a pixel here and there.
    """
    return escape_times(CENTER, real_number(scale, "scale", above=0), SIZE, MAX_ITER)
