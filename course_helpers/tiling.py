"""Tiles with overlap: how much is enough, what it costs, and how to compute many tiles within a fixed memory."""

from itertools import product
from math import prod

import dask
import dask.array as da
import numpy as np
from dask.base import compute_as_if_collection

from course_helpers._arguments import as_declared, numpy_array, per_axis, plain, real_number, whole_number
from course_helpers._engine.tiled import largest_difference, may_be_rounding, run, tiled

# How far a step looks, in its sigmas or radii.
REACH = {"gaussian": 4, "maximum": 1, "minimum": 1, "top-hat": 2, "neighbourhood": 1}


def overlap_needed(*steps):
    """Return an overlap that is enough for a pipeline on every image of finite numbers: the sum of the steps' reaches.

    The reach of a step is the number of pixels it looks away from a pixel, along an axis. No overlap is enough for a step
    that needs the whole image, such as Otsu's threshold or the labels of objects. What a filter sees outside the image may
    be constant or taken from nearby (mode "constant", "reflect", "mirror", "nearest"), but not from the opposite side
    (mode "wrap"). A filter that keeps a running sum, such as scipy.ndimage.uniform_filter, rounds floats differently in
    tiles, whatever the overlap.

    Parameters
    ----------
    *steps : pairs of a name and a length in pixels, in any order
        - ``("gaussian", sigma)`` reaches int(4 * sigma + 0.5): there scipy.ndimage and scikit-image cut the Gaussian off
        - ``("maximum", r)`` and ``("minimum", r)`` reach r, for a footprint of up to 2 r + 1 pixels a side
        - ``("top-hat", r)`` reaches 2 r: it is a minimum filter and a maximum filter
        - ``("neighbourhood", r)`` reaches r, for any other filter

        Leave out steps that look at one pixel at a time, such as a fixed threshold. If your filters differ from axis to
        axis, ask for one axis after the other.

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
    length = real_number(length, f'the length of "{name}"', 0)
    return int(real_number(REACH[name] * length + 0.5, f"the reach of step {step!r}"))


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
    axes = len(tile) if isinstance(tile, (tuple, list)) else 2
    tile, overlap = per_axis(tile, "tile", axes, 1), per_axis(overlap, "overlap", axes, 0)
    return prod(side + 2 * margin for side, margin in zip(tile, overlap)) / prod(tile)


def tiling_error(procedure, image, tile, overlap):
    """Return the largest absolute difference between the tiled result and that of the whole image.

    It is the largest one and not the sum, because in a sum positive and negative differences cancel. Every tile is cut
    out with its overlap and processed, then the overlap is cut off. At the border of the image nothing is added: the
    procedure meets the same border as in the whole image, as with ``boundary="none"`` in ``dask.array.map_overlap``.

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
    float
        In grey levels; False and True differ by 1. 0 means that the results are equal in every pixel. NaN and NaN are
        equal; NaN and a number differ by infinity.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the procedure returns another shape, or another dtype for tiles than for the whole.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> image = np.random.default_rng(0).random((64, 64))
    >>> [tiling_error(lambda pixels: gaussian_filter(pixels, 2), image, 16, overlap) > 0 for overlap in (0, 7, 8)]
    [True, True, False]
    """
    return largest_difference(tiled(procedure, image, tile, overlap), run(procedure, image))


def smallest_overlap(procedure, image, tile, maximum):
    """Search for the smallest overlap in pixels with which the tiled result equals that of the whole image.

    The answer holds for this image and this tile size. Another image may need more: see `overlap_needed`.

    The error need not shrink when the overlap grows: a procedure that combines pixels two by two passes with even
    overlaps and fails with odd ones. The search therefore steps down from `maximum` until an overlap fails: all larger
    ones up to `maximum` pass as well. Parameters and errors are those of `tiling_error`; and ValueError if not even
    `maximum` passes.
    """
    whole = run(procedure, numpy_array(image, "image"))

    def error(overlap):
        return largest_difference(tiled(procedure, image, tile, overlap), whole)

    passing = min(whole_number(maximum, "maximum", 0), max(image.shape, default=0))
    if remaining := error(passing):
        reason = "the procedure needs the whole image"
        if may_be_rounding(remaining, image, whole):
            rounding = "it may be rounding, as in running sums and FFTs: compare with a tolerance"
            reason = f"{reason}, or {rounding} before the threshold" if whole.dtype == bool else rounding
        raise ValueError(
            f"With overlap {passing} the tiles differ from the whole image by up to {remaining:g}. "
            f"Raise maximum. If that does not help, {reason}."
        )
    while passing and error(passing - 1) == 0:
        passing -= 1
    return passing


def compute_in_patches(array, size=None, out=None):
    """Compute a dask array patch by patch: the memory it takes depends on the patches, not on the size of the array.

    Tiles with overlap share chunks with their neighbours, and dask keeps a chunk until all tiles that need it are done.
    With a single ``compute`` of the whole array, chunks that wait pile up, the more the larger the image is. A patch is a
    small block of tiles. It is computed and put in its place before the next one begins. What lies at the rim of two
    patches is computed for both, and what the whole array depends on, such as the mean of the image, once for each patch.

    Parameters
    ----------
    array : dask.array.Array
        Such as the results of `count_in_tiles` and `label_in_tiles`.
    size : int or tuple of int, optional
        Chunks of `array` in a patch along each axis. By default a patch has about 64 chunks.
    out : array, optional
        What to write the result into: anything of the same shape that takes ``out[region] = pixels``, such as a Zarr
        array with any chunks. If it has another dtype, the numbers must fit into it.

    Returns
    -------
    `out`, or else a numpy.ndarray

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or `out` has another shape than `array`; when computed, if a block is masked, has
        not the declared shape, or holds numbers that do not fit into the declared dtype or that of `out`.
    """
    array = as_declared(array, "array")
    ndim, dtype = array.ndim, getattr(out, "dtype", array.dtype)
    size = per_axis(round(64 ** (1 / max(ndim, 1))) if size is None else size, "size", ndim, 1)
    out = np.empty(array.shape, dtype) if out is None else out
    if np.shape(out) != array.shape:
        raise ValueError(f"out has shape {np.shape(out)}, but must have {array.shape}, the shape of array.")
    edges = [np.cumsum((0, *sizes)).tolist() for sizes in array.chunks]
    graph, names, (joined, _) = array.__dask_graph__(), array.__dask_keys__(), array.__dask_postcompute__()
    for first in product(*map(range, [0] * ndim, array.numblocks, size)):
        last = [min(start + step, count) for start, step, count in zip(first, size, array.numblocks)]
        region = tuple(slice(axis[start], axis[stop]) for axis, start, stop in zip(edges, first, last))
        keys = _part(names, list(map(slice, first, last)))
        # compute() would go through the tasks of the whole array for every patch, and fusing tasks takes longer than it saves.
        part = dict(graph.cull(keys))
        with dask.config.set({"optimization.fuse.active": False}):
            out[region] = plain(joined(compute_as_if_collection(da.Array, part, keys)), "the result", dtype=dtype)
    return out


def _part(names, spans):
    """Return a part of nested lists, given as slices."""
    return [_part(inner, spans[1:]) for inner in names[spans[0]]] if spans else names
