"""A virtual slide of fluorescent nuclei, of any size, with the truth about every nucleus; and ways to count nuclei."""
from numbers import Integral, Real

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from numba import njit
from scipy import ndimage as ndi
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

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
    from matplotlib.collections import EllipseCollection  # here, because whoever only counts does not draw

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


def segment_nuclei(image, threshold, sigma=3.5):
    """Label the nuclei of a picture; touching nuclei are split between the maxima of the distance to the background.

    Blur, global threshold, distance transform, local maxima, watershed. Nuclei at the border of the picture have labels
    like all others. A picture that is foreground everywhere shows no outline of a nucleus: it has no labels.

    Parameters
    ----------
    image : array of numbers, shape (rows, columns)
    threshold : float
        What is brighter than this after the blur is foreground.
    sigma : float
        Standard deviation of the Gaussian blur in pixels. The blur sees ``int(4 * sigma + 0.5)`` pixels far.

    Returns
    -------
    labels : ndarray of int32, shape (rows, columns)
        0 for background, 1 to n for the nuclei.

    Raises
    ------
    TypeError, ValueError
        If `image` is not two-dimensional or holds NaN, or `threshold` or `sigma` is not a finite number.

    Examples
    --------
    >>> image = np.zeros((60, 90))
    >>> image[20:40, 20:38] = image[20:40, 50:70] = 100
    >>> segment_nuclei(image, threshold=40, sigma=2).max()
    np.int32(2)
    """
    distance = _distance_in_nuclei(image, threshold, sigma)
    # Pixels at equal distance are flooded in raster order. Left to the watershed, their order, and with it the outline
    # of a nucleus, would depend on the whole picture: tiles would disagree, however large their overlap is.
    order = np.arange(distance.size).reshape(distance.shape) - distance * float(distance.size)
    return watershed(order, _label_maxima(distance), mask=distance > 0)


def seed_nuclei(image, threshold, sigma=3.5):
    """Label one maximum per nucleus: as many labels as `segment_nuclei` makes nuclei, without its slow watershed.

    A seed is small, so it can be right only where the picture shows enough around it: as far as the blur sees,
    plus half the width of the widest nucleus or clump of nuclei, plus a few pixels. In `count_in_tiles`, this is the
    overlap to choose, or more; with the sum as ``reach``, seeds that saw less are reported instead of counted.

    Parameters, errors and the type of the result are those of `segment_nuclei`.
    """
    return _label_maxima(_distance_in_nuclei(image, threshold, sigma))


def count_nuclei(image, threshold, sigma=3.5):
    """Estimate how many nuclei belong to a tile: the mean of the counts with and without nuclei that touch its border.

    A nucleus cut by the border of two tiles counts one half in each. That is an estimate: a nucleus may be cut
    by a corner, or be split in a tile that sees only a part of it. `count_in_tiles` is exact.

    Parameters and errors are those of `segment_nuclei`. A tile with a side shorter than the blur sees,
    ``int(4 * sigma + 0.5)`` pixels, counts 0.

    Returns
    -------
    count : ndarray of float64, shape (1, 1)
        One pixel of a count map, for `dask.array.map_blocks` with ``chunks=(1, 1)``.
    """
    labels = segment_nuclei(image, threshold, sigma)
    if min(labels.shape) < int(4 * sigma + 0.5):  # nothing in it is free of the mirrored world beyond the border
        return np.zeros((1, 1))
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.count_nonzero(np.unique(border))
    return np.array([[labels.max() - touching / 2]])


def _distance_in_nuclei(image, threshold, sigma):
    """Return the squared distance (int32) of each foreground pixel to the background, which is 0 itself."""
    image = _check_picture(image, threshold, sigma)
    blurred = ndi.gaussian_filter(image, sigma, mode="nearest", output=np.float32)
    foreground = blurred > threshold
    if foreground.size == 0 or foreground.all():
        return np.zeros(foreground.shape, np.int32)
    distance = np.empty(foreground.shape, np.int32)
    _squared_distance(foreground, distance)
    return distance


def _label_maxima(distance):
    """Label the local maxima of the distance; a plateau, or plateaus that touch at corners, are one maximum."""
    if distance.size == 0:
        return distance
    maxima = local_maxima(distance, connectivity=1) & (distance > 0)
    return ndi.label(maxima, structure=np.ones((3, 3)))[0]


@njit(nogil=True, cache=True)
def _squared_distance(foreground, distance):
    """Write the exact squared Euclidean distance to the nearest background pixel into `distance` (int32).

    First along the columns, then along the rows (Saito and Toriwaki 1994, Pattern Recognition 27:1551). Whole numbers
    are faster than roots, and equal distances stay equal. What lies beyond the border counts as foreground.
    """
    rows, cols = foreground.shape
    far = 32767  # further than any nucleus is wide; its square fits into int32
    for row in range(rows):
        for col in range(cols):
            above = distance[row - 1, col] if row else far
            distance[row, col] = min(above + 1, far) if foreground[row, col] else 0
    for row in range(rows - 2, -1, -1):
        for col in range(cols):
            distance[row, col] = min(distance[row, col], distance[row + 1, col] + 1)
    along_column = np.empty(cols, np.int32)
    for row in range(rows):
        for col in range(cols):
            along_column[col] = distance[row, col] ** 2
        for col in range(cols):
            nearest, step = along_column[col], 1
            while step * step < nearest:  # no pixel further away along the row can be nearer
                if col >= step:
                    nearest = min(nearest, along_column[col - step] + step * step)
                if col + step < cols:
                    nearest = min(nearest, along_column[col + step] + step * step)
                step += 1
            distance[row, col] = nearest


def _check_picture(image, threshold, sigma):
    """Return the image as an array, or raise."""
    image = np.asarray(image)
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise TypeError(f"image must be a two-dimensional array of numbers, not {image.ndim}-D {image.dtype}.")
    if image.dtype.kind == "f" and np.isnan(image).any():
        raise ValueError("image holds NaN, which the blur would spread. Replace it first, with numpy.nan_to_num.")
    for name, number in (("threshold", threshold), ("sigma", sigma)):
        if not isinstance(number, Real) or not np.isfinite(number):
            raise ValueError(f"{name} must be a finite number, not {number!r}.")
    if sigma < 0:
        raise ValueError(f"sigma must be 0 or more, not {sigma}.")
    return image
