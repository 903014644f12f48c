"""Tiles cut out with their overlap, processed, and put together; and how far two results are from each other."""

import numpy as np
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.threaded import get

from course_helpers._arguments import numpy_array, per_axis, plain


def tiled(procedure, image, tile, overlap):
    """Run a procedure tile by tile, in the threads of this process, and put the results together.

    Parameters and errors are those of `tiling_error`; the result has the shape of the image. Unlike in
    `dask.array.map_overlap`, tiles keep their size where the overlap is larger than a tile.

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
        result = run(procedure, image[tuple(outer for _, outer in around)])
        return result[tuple(slice(part.start - outer.start, part.stop - outer.start) for part, outer in around)]

    # Dask's threads share the image; to a cluster it would travel with every tile. A graph written as a dictionary
    # takes much less time per tile than one made with dask.delayed.
    names = [f"tile-{number}" for number in range(len(inner))]
    results = get({name: (process, number) for number, name in enumerate(names)}, names)
    together = np.empty(image.shape, results[0].dtype.newbyteorder("="))
    for part, result in zip(inner, results):
        together[part] = plain(result, "a result of procedure", dtype=together.dtype)
    return together


def run(procedure, pixels):
    """Call a procedure; raise if it returns no plain value for every pixel."""
    # Tiles overlap: a procedure that writes into its input must not change what the next tile reads.
    result = plain(procedure(pixels.copy()), "the result of procedure", pixels.shape)
    if result.dtype.kind not in "biufc":
        raise TypeError(f"the result of procedure is {result.dtype}, but must hold numbers or booleans.")
    return result


def largest_difference(result, expected):
    """Return the largest absolute difference of two arrays in grey levels, as in `tiling_error`."""
    if result.dtype != expected.dtype.newbyteorder("="):
        raise ValueError(
            f"procedure returns {result.dtype} for tiles, but must return {expected.dtype}, as for the whole image. "
            "Let it always return the same dtype."
        )
    if result.dtype.kind in "biu":
        low, high = np.minimum(result, expected), np.maximum(result, expected)
        unsigned = np.dtype(f"u{result.dtype.itemsize}")  # holds every difference, even 127 - (-128), and never wraps
        return float((high.view(unsigned) - low.view(unsigned)).max(initial=0))
    unequal = (result != expected) & ~(np.isnan(result) & np.isnan(expected))
    result, expected = result[unequal], expected[unequal]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(np.subtract(result, expected, dtype=np.result_type(result, float)))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0))


def may_be_rounding(difference, image, whole):
    """Tell whether a difference is as small as rounding errors, which tiles change in running sums and FFTs."""
    if whole.dtype.kind in "biu":
        return difference <= 1
    largest = max(np.abs(pixels[np.isfinite(pixels)]).max(initial=0) for pixels in (image, whole))
    return difference <= largest * max(1e-6, 2 * max(whole.shape) * np.finfo(whole.dtype).eps)
