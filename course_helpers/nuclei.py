"""A virtual slide of fluorescent nuclei, of any size, with the truth about every nucleus; and ways to count nuclei."""

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from numba import njit
from scipy import ndimage as ndi
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from course_helpers import _nuclei_kernels as kernels
from course_helpers._arguments import bounds_of, per_axis, real_number, whole_number

NUCLEUS = np.dtype([("centre", float, 2), ("diameters", float, 2), ("direction", float, 2), ("brightness", float)])
LONGEST_SIDE = 2**40  # pixels of a slide
LAST_SEED = 2**64 - 1


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
        If `shape` is not of positive whole numbers, `seed` no whole number from 0, or `chunks` does not fit.

    Examples
    --------
    >>> nuclei_slide()[500:600, 700:800].compute().shape
    (100, 100)
    """
    shape, seed = per_axis(shape, "shape", 2, 1, LONGEST_SIDE), whole_number(seed, "seed", 0, LAST_SEED)
    chunks = normalize_chunks(chunks, shape, dtype=np.uint8)
    row_edges, col_edges = [np.cumsum((0, *sizes), dtype=np.int64) for sizes in chunks]
    # One call makes one graph layer, however many chunks there are. With `meta`, dask never makes a trial call.
    return da.map_blocks(
        _render_block,
        chunks=chunks,
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        token="nuclei_slide",
        row_edges=row_edges,
        col_edges=col_edges,
        seed=seed,
    )


def render_nuclei(shape=(2000, 5000), seed=0, window=None, noise=True):
    """Return a window of the slide as a NumPy array: the pixels of `nuclei_slide(shape, seed=seed)[window]`.

    With ``noise=False`` the result is float32: the light before the camera adds noise and rounds to uint8.
    `window` is two slices such as ``np.s_[0:100, 200:300]``, or None for everything.
    Raises TypeError or ValueError like `nuclei_slide`, and if `window` is not two slices of step 1.
    """
    (row_start, row_stop), (col_start, col_stop) = _bounds(window, shape)
    return _render(row_start, row_stop, col_start, col_stop, whole_number(seed, "seed", 0, LAST_SEED), noise)


def true_nuclei(shape=(2000, 5000), seed=0, window=None):
    """Return all nuclei whose centre lies on a pixel of the slide, or of a window of it; nothing is rendered.

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
        If `shape` or `seed` are wrong as in `nuclei_slide`, or `window` is not two slices of step 1.

    Examples
    --------
    >>> nuclei = true_nuclei(window=np.s_[1000:1500, 3000:3500])
    >>> bright = nuclei[nuclei["brightness"] > 100]["centre"]
    """
    return _nuclei_within(_bounds(window, shape), whole_number(seed, "seed", 0, LAST_SEED))


def draw_nuclei(axes, nuclei, origin=(0, 0), **style):
    """Outline true nuclei on matplotlib axes that show the slide; return the matplotlib collection.

    `nuclei` comes from `true_nuclei`; `origin` is the row and column of the slide that the picture's first pixel shows.
    `style` goes to matplotlib's EllipseCollection: ``edgecolors``, ``linewidths``, ...
    """
    from matplotlib.collections import EllipseCollection  # here, because whoever only counts does not draw

    style = {"facecolors": "none", "edgecolors": "cyan", **style}
    angles = np.degrees(np.arctan2(nuclei["direction"][:, 0], nuclei["direction"][:, 1]))
    outlines = EllipseCollection(
        nuclei["diameters"][:, 0],
        nuclei["diameters"][:, 1],
        angles,
        units="xy",
        offsets=(nuclei["centre"] - origin)[:, ::-1],
        offset_transform=axes.transData,
        **style,
    )
    return axes.add_collection(outlines, autolim=False)


def thumbnail(slide, max_size=500):
    """Return a small picture of a dask array: each of its pixels is the mean of a square of the slide.

    Parameters
    ----------
    slide : dask.array.Array, shape (rows, columns)
        All of it is computed, chunk by chunk.
    max_size : int
        Longest side of the thumbnail in pixels.

    Returns
    -------
    numpy.ndarray, two-dimensional, float64
    """
    factor = -(-max(slide.shape) // max_size)
    squares = {axis: min(factor, size) for axis, size in enumerate(slide.shape)}
    return da.coarsen(np.mean, slide, squares, trim_excess=True).compute()


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


def _bounds(window, shape):
    """Return (start, stop) of the rows and of the columns of a window of a slide; None stands for the whole slide."""
    shape = per_axis(shape, "shape", 2, 1, LONGEST_SIDE)
    return bounds_of((slice(None), slice(None)) if window is None else window, shape)


def _nuclei_within(bounds, seed):
    """Return the nuclei with their centre within these bounds of the endless plane."""
    (i_start, i_stop), (j_start, j_stop) = [((a - 1) // kernels.CELL, (b - 1) // kernels.CELL + 1) for a, b in bounds]
    rows = [kernels.nuclei_of_cells(i, j_start, j_stop, np.uint64(seed)) for i in range(i_start, i_stop)]
    nuclei = np.concatenate(rows).view(NUCLEUS)[:, 0]
    start, stop = np.transpose(bounds) - 0.5
    return nuclei[((nuclei["centre"] >= start) & (nuclei["centre"] < stop)).all(axis=1)]


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
    """Return the image as an array, or raise where the blur or the threshold would give a wrong picture in silence."""
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}, but must be two-dimensional. Pass one plane at a time.")
    if image.dtype.kind == "f" and np.isnan(image).any():
        raise ValueError(
            "image holds NaN, which the blur spreads, but must not. Replace it first, with numpy.nan_to_num."
        )
    real_number(threshold, "threshold")
    real_number(sigma, "sigma", 0)
    return image
