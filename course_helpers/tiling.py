"""Tiles with overlap: how much is enough, what it costs, and how to compute many tiles within a fixed memory."""

from itertools import product
from math import prod

import numpy as np
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.threaded import get

from course_helpers._arguments import dask_array, numpy_array, per_axis, real_number, whole_number

# How far a step looks, in its sigmas or radii. Scipy.ndimage and scikit-image cut the Gaussian off at 4 sigma; a top-hat
# is a minimum filter and a maximum filter.
REACH = {"gaussian": 4, "maximum": 1, "top-hat": 2, "neighbourhood": 1}


def overlap_needed(*steps):
    """Return an overlap that is enough for a pipeline on every image: the sum of the reaches of its steps.

    The reach of a step is the number of pixels it looks away from a pixel, along an axis:

    - ``("gaussian", sigma)``: int(4 * sigma + 0.5). This is where scipy.ndimage and scikit-image cut the Gaussian off.
    - ``("maximum", r)``: r, for a footprint of up to 2 r + 1 pixels a side.
    - ``("top-hat", r)``: 2 r, for a minimum filter and a maximum filter.
    - ``("neighbourhood", r)``: r, for any other filter.

    No overlap is enough for a step that needs the whole image, such as Otsu's threshold or the labels of objects. Leave
    out steps that look at one pixel at a time, such as a fixed threshold. If your filters differ from axis to
    axis, ask for one axis after the other. What a filter sees outside the image may be constant or taken from nearby
    (mode "constant", "reflect", "mirror", "nearest"), but not from the opposite side (mode "wrap").

    Parameters
    ----------
    *steps : pairs of a name and a length in pixels
        The steps in any order.

    Returns
    -------
    int
        Pixels to add on every side of a tile.

    Raises
    ------
    TypeError, ValueError
        If a step is not known, or its length is not a finite number from 0.

    Examples
    --------
    >>> overlap_needed(("gaussian", 2), ("top-hat", 6))
    20
    """
    return sum(_reach(step) for step in steps)


def _reach(step):
    """Return how far a step looks, in whole pixels."""
    if not isinstance(step, (tuple, list)) or len(step) != 2 or step[0] not in REACH:
        raise ValueError(
            f"step is {step!r}, but must be a pair of a name and a length in pixels. Known names are {', '.join(REACH)}. "
            'For any other filter that looks r pixels away, write ("neighbourhood", r). No overlap is enough for what needs '
            "the whole image, such as Otsu's threshold or labels."
        )
    name, length = step
    return int(REACH[name] * real_number(length, f'the length of "{name}"', 0) + 0.5)


def tile_cost(tile, overlap):
    """Return how many pixels are processed for one useful pixel, in a tile that has neighbours on all sides.

    `tile` and `overlap` are in pixels: one number for each axis of the tile, without the overlap (one number alone is a
    square tile), and the overlap on both sides of every axis. TypeError or ValueError if these are no whole numbers.

    Examples
    --------
    >>> tile_cost(32, 10)
    2.640625
    >>> tile_cost((64, 64, 64), 8)
    1.953125
    """
    axes = len(tile) if isinstance(tile, tuple) else 2
    tile, overlap = per_axis(tile, "tile", axes, 1), per_axis(overlap, "overlap", axes, 0)
    return prod(side + 2 * margin for side, margin in zip(tile, overlap)) / prod(tile)


def tiled(procedure, image, tile, overlap):
    """Run a procedure tile by tile, in the threads of this process, and put the results together.

    Every tile is cut out with its overlap and processed, then the overlap is cut off. At the border of the image
    nothing is added, as with ``boundary="none"`` in ``dask.array.map_overlap``: the procedure meets the same border as
    in the whole image. Unlike in `map_overlap`, tiles keep their size where the overlap is larger than a tile.

    Parameters
    ----------
    procedure : callable
        Takes an array, and returns an array of the same shape.
    image : numpy.ndarray of any number of dimensions
    tile : int or tuple of int
        Sides of a tile in pixels, without the overlap. The last tile along an axis may be smaller.
    overlap : int or tuple of int
        Pixels added on both sides of every axis.

    Returns
    -------
    array of the same shape as `image`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the procedure returns another shape.

    Examples
    --------
    >>> from scipy.ndimage import maximum_filter1d
    >>> image = np.array([0, 0, 0, 7, 0, 0, 0, 0])
    >>> tiled(lambda pixels: maximum_filter1d(pixels, 3), image, tile=4, overlap=0)
    array([0, 0, 7, 7, 0, 0, 0, 0])
    >>> tiled(lambda pixels: maximum_filter1d(pixels, 3), image, tile=4, overlap=1)
    array([0, 0, 7, 7, 7, 0, 0, 0])
    """
    ndim = numpy_array(image, "image").ndim
    overlap = per_axis(overlap, "overlap", ndim, 0)
    inner = slices_from_chunks(normalize_chunks(per_axis(tile, "tile", ndim, 1), image.shape))

    def process(number):
        around = [
            (part, slice(max(part.start - margin, 0), part.stop + margin))
            for part, margin in zip(inner[number], overlap)
        ]
        result = _run(procedure, image[tuple(outer for _, outer in around)])
        return result[tuple(slice(part.start - outer.start, part.stop - outer.start) for part, outer in around)]

    # Dask's threads share the image; to a cluster it would travel with every tile. A graph written as a dictionary
    # takes much less time per tile than one made with dask.delayed.
    names = [f"tile-{number}" for number in range(len(inner))]
    results = get({name: (process, number) for number, name in enumerate(names)}, names)
    together = np.empty(image.shape, np.result_type(*{result.dtype for result in results}))
    for part, result in zip(inner, results):
        together[part] = result
    return together


def tiling_error(procedure, image, tile, overlap):
    """Return the largest absolute difference between the tiled result and that of the whole image.

    It is the largest one and not the sum, because in a sum positive and negative differences cancel. Parameters and
    errors are those of `tiled`; and ValueError if the two results have different dtypes.

    Returns
    -------
    float
        In grey levels; False and True differ by 1. 0 means that the results are equal in every pixel. NaN and NaN are
        equal; NaN and a number differ by infinity.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> image = np.random.default_rng(0).random((64, 64))
    >>> [tiling_error(lambda pixels: gaussian_filter(pixels, 2), image, 16, overlap) > 0 for overlap in (0, 7, 8)]
    [True, True, False]
    """
    return _largest_difference(tiled(procedure, image, tile, overlap), _run(procedure, image))


def smallest_overlap(procedure, image, tile, maximum):
    """Search for the smallest overlap with which the tiled result equals that of the whole image.

    The answer holds for this image and this tile size. Another image may need more; what is enough for every image
    tells `overlap_needed`.

    The error need not shrink when the overlap grows: a procedure that combines pixels two by two passes with even
    overlaps and fails with odd ones. The search therefore steps down from `maximum` until an overlap fails.

    Parameters
    ----------
    procedure, image, tile
        As in `tiled`.
    maximum : int
        Largest overlap to try, in pixels.

    Returns
    -------
    int
        An overlap in pixels that passes, as do all larger ones up to `maximum`, while one pixel less fails.

    Raises
    ------
    TypeError, ValueError
        As in `tiling_error`, and if not even `maximum` passes.
    """
    whole = _run(procedure, numpy_array(image, "image"))

    def error(overlap):
        return _largest_difference(tiled(procedure, image, tile, overlap), whole)

    passing = min(whole_number(maximum, "maximum", 0), max(image.shape))
    if remaining := error(passing):
        raise ValueError(
            f"With overlap {passing} the tiles differ from the whole image by up to {remaining:g}. "
            "Raise maximum. If that does not help, the procedure needs the whole image."
        )
    while passing and error(passing - 1) == 0:
        passing -= 1
    return passing


def _run(procedure, pixels):
    """Call a procedure; raise if it returns no plain value for every pixel."""
    # Tiles overlap: a procedure that writes into its input must not change what the next tile reads.
    result = procedure(pixels.copy())
    if np.ma.isMaskedArray(result) or np.shape(result) != pixels.shape:
        raise ValueError(
            f"procedure returns a {type(result).__name__} of shape {np.shape(result)}, but must return one plain value for "
            f"every pixel: {pixels.shape}."
        )
    return np.asarray(result)


def _largest_difference(result, expected):
    """Return the largest absolute difference of two arrays in grey levels, as in `tiling_error`."""
    if result.dtype != expected.dtype.newbyteorder("="):
        raise ValueError(
            f"procedure returns {result.dtype} for tiles, but must return {expected.dtype}, as for the whole image. "
            "Let it always return the same dtype."
        )
    if result.dtype.kind in "biu":
        low, high = np.minimum(result, expected), np.maximum(result, expected)
        unsigned = np.dtype(f"u{result.dtype.itemsize}")  # holds every difference, even 127 - (-128), and never wraps
        return float((high.view(unsigned) - low.view(unsigned)).max())
    unequal = (result != expected) & ~(np.isnan(result) & np.isnan(expected))
    result, expected = result[unequal], expected[unequal]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(np.subtract(result, expected, dtype=np.result_type(result, float)))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0))


def compute_in_patches(array, size=None, out=None):
    """Compute a dask array patch by patch: the memory it takes depends on the patches, not on the size of the array.

    Tiles with overlap share chunks with their neighbours, and dask keeps a chunk until all tiles that need it are done.
    With a single ``compute`` of the whole array, chunks that wait pile up, the more the larger the image is. A patch is a
    small block of tiles. It is computed and put in its place before the next one begins.

    What lies at the rim of two patches is computed for both, and what the whole array depends on, such as the mean
    of the image, once for each patch. If either takes long, compute or store it beforehand.

    Parameters
    ----------
    array : dask.array.Array
        With known chunk sizes, such as the results of `count_in_tiles` and `label_in_tiles`.
    size : int or tuple of int, optional
        Chunks of `array` in a patch along each axis. By default a patch has about 64 chunks.
    out : array, optional
        What to write the result into: anything of the same shape that takes ``out[region] = pixels``, such as a Zarr
        array. It may have any chunks, because only one patch is written at a time.

    Returns
    -------
    `out`, or else a numpy.ndarray

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or `out` has another shape than `array`.

    Examples
    --------
    >>> import dask.array as da
    >>> compute_in_patches(da.arange(6, chunks=2), size=1)
    array([0, 1, 2, 3, 4, 5])
    """
    ndim = dask_array(array, "array").ndim
    size = per_axis(round(64 ** (1 / max(ndim, 1))) if size is None else size, "size", ndim, 1)
    out = np.empty(array.shape, array.dtype) if out is None else out
    if np.shape(out) != array.shape:
        raise ValueError(f"out has shape {np.shape(out)}, but must have {array.shape}, the shape of array.")
    edges = [np.cumsum((0, *sizes)).tolist() for sizes in array.chunks]
    for first in product(*map(range, [0] * ndim, array.numblocks, size)):
        last = [min(start + step, count) for start, step, count in zip(first, size, array.numblocks)]
        region = tuple(slice(axis[start], axis[stop]) for axis, start, stop in zip(edges, first, last))
        out[region] = array.blocks[tuple(map(slice, first, last))].compute() if region else array.compute()
    return out
