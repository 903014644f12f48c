"""A virtual slide of fluorescent nuclei, of any size, with the truth about every nucleus."""

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks

from course_helpers._arguments import bounds_of, dask_array, per_axis, whole_number
from course_helpers._engine import virtual_slide


def nuclei_slide(shape=(2000, 5000), chunks=(100, 100), seed=0):
    """Return a lazy picture of fluorescent nuclei in a tissue section.

    The slide starts sparse at the top left, is most crowded around (2000, 5000), and thins out again beyond: this
    repeats every 4000 rows and 10000 columns. A pixel depends on its position and the seed only, so a small slide is
    the top left corner of a large one. Nuclei whose centre lies outside the slide reach in by up to 12 pixels.

    Parameters
    ----------
    shape : tuple of two int
        Rows and columns, in pixels.
    chunks : int, tuple or str
        Anything that dask accepts as chunks. For slides of many gigapixels choose 1000 to 2000 pixels a side.
    seed : int
        0 or more; another seed gives other nuclei and other noise with the same density and background.

    Returns
    -------
    dask.array.Array of uint8
        Grey levels; background 8 to 15, most nuclei 40 to 100, dividing ones more.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.
    """
    shape, seed = per_axis(shape, "shape", 2, 1), whole_number(seed, "seed", 0)
    chunks = normalize_chunks(chunks, shape, dtype=np.uint8)
    row_edges, col_edges = [np.cumsum((0, *sizes), dtype=np.int64) for sizes in chunks]
    # One call makes one graph layer, however many chunks there are. With `meta`, dask never makes a trial call.
    return da.map_blocks(
        _render_chunk,
        chunks=chunks,
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        token="nuclei_slide",
        row_edges=row_edges,
        col_edges=col_edges,
        seed=seed,
    )


def _render_chunk(block_id, row_edges, col_edges, seed):
    """Render the chunk number (i, j) of a slide."""
    return virtual_slide.render([edges[i : i + 2] for i, edges in zip(block_id, (row_edges, col_edges))], seed, True)


def render_nuclei(shape=(2000, 5000), seed=0, window=None, noise=True):
    """Return a window of the slide as a NumPy array: the pixels of `nuclei_slide(shape, seed=seed)[window]`.

    With ``noise=False`` the result is float32: the light before the camera adds noise and rounds to uint8.
    Parameters and errors are those of `true_nuclei`.
    """
    return virtual_slide.render(*_place(shape, seed, window), noise)


def true_nuclei(shape=(2000, 5000), seed=0, window=None):
    """Return all nuclei whose centre lies on a pixel of the slide, or of a window of it; nothing is rendered.

    Parameters
    ----------
    shape, seed
        As for `nuclei_slide`.
    window : tuple of two slices, optional
        For example ``np.s_[0:100, 200:300]``, with the meaning it has in ``slide[window]``; by default everything.

    Returns
    -------
    structured array, shape (n,), with the float64 fields
        - ``centre`` (n, 2): row and column in pixels of the slide; whole numbers are pixel centres
        - ``diameters`` (n, 2): longer and shorter diameter in pixels, between 8 and 20, at half the brightness
        - ``direction`` (n, 2): unit vector (row, column) along the longer diameter
        - ``brightness`` (n,): grey levels above the background

        Their order is fixed: those of a window come in the order they have on the slide.

    Raises
    ------
    TypeError, ValueError
        As in `nuclei_slide`, and if `window` is not two slices of step 1.

    Examples
    --------
    >>> nuclei = true_nuclei(window=np.s_[1000:1500, 3000:3500])
    >>> bright = nuclei[nuclei["brightness"] > 100]["centre"]
    """
    return virtual_slide.nuclei_within(*_place(shape, seed, window))


def true_counts(slide):
    """Return how many nuclei have their centre in each chunk of a slide; nothing is rendered.

    `slide` is a dask array with the shape and the chunks; its nuclei are those of seed 0. The float64 result has the shape
    ``slide.numblocks``.

    Examples
    --------
    >>> true_counts(nuclei_slide(shape=(200, 700), chunks=200))
    array([[2., 1., 4., 1.]])
    """
    edges = [np.cumsum((0, *sizes)) - 0.5 for sizes in dask_array(slide, "slide").chunks]
    return np.histogram2d(*true_nuclei(slide.shape)["centre"].T, bins=edges)[0]


def _place(shape, seed, window):
    """Return (start, stop) of the rows and of the columns of a window, and the seed."""
    shape, seed = per_axis(shape, "shape", 2, 1), whole_number(seed, "seed", 0)
    return bounds_of(np.s_[:, :] if window is None else window, shape), seed


def draw_nuclei(axes, nuclei, origin=(0, 0), **style):
    """Outline true nuclei on matplotlib axes that show the slide; return the matplotlib collection.

    `nuclei` comes from `true_nuclei`; `origin` is the row and column of the slide that the picture's first pixel shows.
    `style` goes to matplotlib's EllipseCollection: ``edgecolors``, ``linewidths``, ...
    """
    from matplotlib.collections import EllipseCollection  # here, because whoever only counts does not draw

    style = {"facecolors": "none", "edgecolors": "cyan", **style}
    angles = np.degrees(np.arctan2(nuclei["direction"][:, 0], nuclei["direction"][:, 1]))
    places = (nuclei["centre"] - origin)[:, ::-1]
    outlines = EllipseCollection(
        *nuclei["diameters"].T, angles, units="xy", offsets=places, offset_transform=axes.transData, **style
    )
    return axes.add_collection(outlines, autolim=False)


def thumbnail(slide, max_size=500):
    """Return a small picture of a dask array: each of its pixels is the mean of a square of the slide.

    All of `slide`, of shape (rows, columns), is computed, chunk by chunk. The float64 result has `max_size` pixels along
    its longer side, or less.
    """
    factor = -(-max(dask_array(slide, "slide").shape) // whole_number(max_size, "max_size", 1))
    squares = {axis: min(factor, size) for axis, size in enumerate(slide.shape)}
    return da.coarsen(np.mean, slide, squares, trim_excess=True).compute()
