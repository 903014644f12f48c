"""A virtual slide of fluorescent nuclei, of any size, with the truth about every nucleus on it."""
from numbers import Integral

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from matplotlib.collections import EllipseCollection

from . import _nuclei_kernels as kernels

NUCLEUS = np.dtype([("centre", float, 2), ("diameters", float, 2), ("direction", float, 2), ("brightness", float)])


def nuclei_slide(shape=(2000, 5000), chunks=(100, 100), seed=0):
    """Return a lazy picture of fluorescent nuclei in a tissue section.

    The slide starts sparse at the top left, is most crowded around (2000, 5000), and thins out again beyond: this
    repeats every 4000 rows and 10000 columns. A pixel depends on its position and the seed only, not on the chunks and
    not on the shape, so a small slide is the top left corner of a large one. Nuclei whose centre lies outside the slide
    reach in by up to 12 pixels. For slides of many gigapixels choose chunks of 1000 to 2000 pixels a side.

    Parameters
    ----------
    shape : tuple of two int
        Rows and columns, in pixels.
    chunks : int, tuple or str
        Anything that dask accepts as chunks; chunks larger than the slide are clipped to it.
    seed : int
        0 or more; another seed gives other nuclei and other noise with the same density and background.

    Returns
    -------
    dask.array.Array of uint8
        Grey levels; background 8 to 15, most nuclei 40 to 100, dividing ones more.

    Raises
    ------
    TypeError, ValueError
        If `shape` is not two positive whole numbers, `seed` no whole number from 0, or `chunks` does not fit.

    Examples
    --------
    >>> nuclei_slide()[500:600, 700:800].compute().shape
    (100, 100)
    """
    shape, seed = _check_shape(shape), _check_seed(seed)
    chunks = normalize_chunks(chunks, shape, dtype=np.uint8)
    row_edges, col_edges = [np.cumsum((0, *sizes), dtype=np.int64) for sizes in chunks]
    # One call makes one graph layer, however many chunks there are. With `meta`, dask never makes a trial call.
    return da.map_blocks(_render_block, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0), np.uint8), token="nuclei_slide",
                         row_edges=row_edges, col_edges=col_edges, seed=seed)


def render_nuclei(shape=(2000, 5000), seed=0, window=None, noise=True):
    """Return a window of the slide as a NumPy array: the pixels of `nuclei_slide(shape, seed=seed)[window]`.

    With ``noise=False`` the result is float32: the light before the camera adds noise and rounds to uint8.
    `window` is two slices such as ``np.s_[0:100, 200:300]``, or None for everything.
    Raises TypeError or ValueError like `true_nuclei`.
    """
    return _render(*_window_bounds(window, _check_shape(shape)), _check_seed(seed), noise)


def true_nuclei(shape=(2000, 5000), seed=0, window=None):
    """Return all nuclei whose centre lies on a pixel of the slide, or of a window of it, without rendering anything.

    Parameters
    ----------
    shape, seed
        As for `nuclei_slide`.
    window : tuple of two slices, optional
        For example ``np.s_[0:100, 200:300]``, with the meaning it has in ``slide[window]``.

    Returns
    -------
    structured array, shape (n,), with the float64 fields
        - ``centre`` (n, 2): row and column in pixels of the slide; whole numbers are pixel centres
        - ``diameters`` (n, 2): longer and shorter diameter in pixels, between 8 and 20, at half the brightness
        - ``direction`` (n, 2): unit vector (row, column) along the longer diameter
        - ``brightness`` (n,): grey levels above the background

        Their order is fixed: cell by cell. Those of a window come in the order they have on the slide.

    Raises
    ------
    TypeError, ValueError
        If `shape` or `seed` are wrong as in `nuclei_slide`, `window` is not two slices of step 1, or it holds no pixel.

    Examples
    --------
    >>> nuclei = true_nuclei(window=np.s_[1000:1500, 3000:3500])
    >>> bright = nuclei[nuclei["brightness"] > 100]["centre"]
    """
    bounds = _window_bounds(window, _check_shape(shape))
    start, stop = np.array(bounds[::2]) - 0.5, np.array(bounds[1::2]) - 0.5
    seed = np.uint64(_check_seed(seed))
    i_start, i_stop, j_start, j_stop = [(edge - 1) // kernels.CELL + end for edge, end in zip(bounds, (0, 1, 0, 1))]
    rows = [kernels.nuclei_of_cells(i, j_start, j_stop, seed) for i in range(i_start, i_stop)]
    nuclei = np.concatenate(rows).view(NUCLEUS)[:, 0]
    return nuclei[((nuclei["centre"] >= start) & (nuclei["centre"] < stop)).all(axis=1)]


def draw_nuclei(axes, nuclei, origin=(0, 0), **style):
    """Outline true nuclei on matplotlib axes that show the slide; return the matplotlib collection.

    `nuclei` comes from `true_nuclei`; `origin` is the row and column of the slide that the picture's first pixel shows.
    `style` goes to matplotlib's EllipseCollection: ``edgecolors``, ``linewidths``, ...
    """
    style = {"facecolors": "none", "edgecolors": "cyan", **style}
    angles = np.degrees(np.arctan2(nuclei["direction"][:, 0], nuclei["direction"][:, 1]))
    outlines = EllipseCollection(nuclei["diameters"][:, 0], nuclei["diameters"][:, 1], angles, units="xy",
                                 offsets=(nuclei["centre"] - origin)[:, ::-1], offset_transform=axes.transData, **style)
    return axes.add_collection(outlines, autolim=False)


def thumbnail(slide, max_size=500, max_pixels=2**25):
    """Return a small picture of a large dask array, computed from at most about `max_pixels` of its pixels.

    A slide of up to `max_pixels` is shown whole: each pixel of the thumbnail is the mean of a square of the slide.
    Of a larger slide you see a contact sheet: up to 8 x 8 chunks from evenly spaced places, each shrunk in the same
    way, with lines of NaN (white in matplotlib) where parts of the slide are left out. At least 2 x 2 chunks are
    computed, whatever their size, because dask computes whole chunks only.

    Parameters
    ----------
    slide : dask.array.Array, shape (rows, columns)
    max_size : int
        Longest side of the thumbnail in pixels, lines not counted.
    max_pixels : int
        How much of the slide to compute.

    Returns
    -------
    numpy.ndarray, two-dimensional, float64

    Raises
    ------
    TypeError, ValueError
        If `slide` is not a two-dimensional dask array with pixels and known chunk sizes, or a limit is not a positive
        whole number.
    """
    if not isinstance(slide, da.Array) or slide.ndim != 2:
        raise TypeError(f"slide must be a two-dimensional dask array, not {type(slide).__name__} with "
                        f"{np.ndim(slide)} dimensions. Wrap a NumPy array with dask.array.from_array.")
    if not slide.size >= 1:
        raise ValueError(f"slide must have pixels and known chunk sizes, not shape {slide.shape}.")
    for name, limit in (("max_size", max_size), ("max_pixels", max_pixels)):
        if not isinstance(limit, Integral) or limit < 1:
            raise ValueError(f"{name} must be a whole number from 1, not {limit!r}.")
    whole = slide.size <= max_pixels
    count = 1 if whole else int(np.clip((max_pixels / np.prod(slide.chunksize)) ** 0.5, 2, 8))
    places = [[slice(None)] if whole else _evenly_spaced(sizes, count) for sizes in slide.chunks]
    pieces = [[slide[rows, cols] for cols in places[1]] for rows in places[0]]
    size = max(sum(row[0].shape[0] for row in pieces), sum(piece.shape[1] for piece in pieces[0]))
    factor = -(-size // max_size)
    return da.block([[_shrink(piece, factor, gap=0 if whole else 1) for piece in row] for row in pieces]).compute()


def _shrink(piece, factor, gap):
    """Average squares of `factor` pixels and append `gap` rows and columns of NaN, lazily."""
    factors = {axis: min(factor, size) for axis, size in enumerate(piece.shape)}
    means = da.coarsen(np.mean, piece, factors, trim_excess=True)
    return da.pad(means, (0, gap), constant_values=np.nan) if gap else means


def _evenly_spaced(sizes, count):
    """Return the slices of at most `count` chunks out of all chunks of an axis, in the middle of equal parts."""
    edges, count = np.cumsum((0, *sizes)).tolist(), min(count, len(sizes))
    chosen = [int((part + 0.5) * len(sizes) / count) for part in range(count)]
    return [slice(edges[i], edges[i + 1]) for i in chosen]


def _render_block(block_id, row_edges, col_edges, seed):
    """Render the chunk number (i, j) of a slide."""
    i, j = block_id
    return _render(row_edges[i], row_edges[i + 1], col_edges[j], col_edges[j + 1], seed)


def _render(row_start, row_stop, col_start, col_stop, seed, noise=True):
    """Render pixels of the endless plane: uint8, or float32 without noise."""
    # Made here and filled there, because tools that measure memory do not see what compiled functions allocate.
    picture = np.empty((row_stop - row_start, col_stop - col_start), np.uint8 if noise else np.float32)
    fill = kernels.fill_picture if noise else kernels.fill_light
    fill(picture, row_start, col_start, np.uint64(seed))
    return picture


def _check_shape(shape):
    """Return the shape as two int, or raise."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"shape must be two whole numbers such as (2000, 5000), not {shape!r}.")
    for size in shape:
        if not isinstance(size, Integral) or isinstance(size, bool):
            raise TypeError(f"shape must hold whole numbers, not {size!r}.")
        if not 1 <= size <= 2**40:
            raise ValueError(f"shape must hold numbers from 1 to 2**40, not {size}.")
    return tuple(int(size) for size in shape)


def _check_seed(seed):
    """Return the seed as int, or raise."""
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise TypeError(f"seed must be a whole number, not {seed!r}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, not {seed}.")
    return int(seed)


def _window_bounds(window, shape):
    """Return row start, row stop, column start, column stop of a window, or raise."""
    window = (slice(None), slice(None)) if window is None else window
    if not isinstance(window, tuple) or len(window) != 2 or not all(isinstance(part, slice) for part in window):
        raise TypeError(f"window must be two slices such as np.s_[0:100, 200:300], not {window!r}.")
    bounds = [part.indices(size) for part, size in zip(window, shape)]
    for part, (start, stop, step) in zip(window, bounds):
        if step != 1:
            raise ValueError(f"window must take every pixel (step 1), not {part}.")
        if start >= stop:
            raise ValueError(f"window {window} holds no pixel of a slide of shape {shape}. Choose it inside the slide.")
    return tuple(edge for start, stop, step in bounds for edge in (start, stop))
