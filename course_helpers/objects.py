"""Count, label and measure objects across tiles, with any segmentation: the same result as on the whole image.

An object belongs to the tile that holds its first pixel in raster order. Every tile is segmented together with
a margin, the overlap, and this larger piece is called its window. Where the overlap is at least the largest object plus
the reach of the filters, the window shows every object of its tile whole. So no object is missed or counted twice, and
all tiles that see an object agree on its first pixel, which can serve as its name: nothing has to be merged afterwards.
Objects larger than any overlap are labelled tile by tile and joined across the faces of the tiles: `stitch_labels`.
"""

from functools import partial

import numpy as np
from dask.delayed import delayed

from course_helpers._arguments import check_of_blocks, dask_array, per_axis, real_number, whole_number
from course_helpers._engine import in_window, stitching
from course_helpers._engine.in_window import OverlapError
from course_helpers._engine.windows import check_integer, empty, map_windows, ones
from course_helpers.tiling import compute_in_patches

__all__ = ["OverlapError", "changed_in_tiles", "count_in_tiles", "cut_in_tiles", "label_in_tiles", "measure_in_tiles"]
__all__ += ["stitch_labels", "tables_in_tiles"]


def count_in_tiles(segment, image, overlap, reach=0):
    """Return a lazy map of how many objects belong to each tile (chunk) of an image; its sum is their exact number.

    The result is exact for any chunks if `overlap` is at least the size of the largest object plus `reach`. An object
    that comes within `reach` of an edge of its tile's window may be cut there, and raises `OverlapError`.
    The tools see nothing but labels: with ``reach=0`` they notice objects that touch the edge, but not that a filter
    saw too little. Give the sum of the filters' radii as `reach` to be sure of both.

    Parameters
    ----------
    segment : function
        ``segment(window)`` returns labels: an array of whole numbers of the window's shape, 0 for background. What it
        finds at a place must depend on the surroundings only, not on the position, and be the same at every call: no
        threshold or percentile of the window. `changed_in_tiles` tries.
    image : dask.array.Array
        Any number of dimensions, any chunks; finite, without a mask.
    overlap, reach : int or tuple of int, one per axis
        In pixels. See above.

    Returns
    -------
    dask.array.Array of int64, shape ``image.numblocks``, one pixel per chunk

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when computed, if `image` is not finite or not what it declares (shape and dtype of
        chunks), or `segment` returns no labels.
    OverlapError
        When computed: how many objects are cut in a tile, and where. `cut_in_tiles` looks at all tiles.
    """
    return map_windows(in_window.count, segment, image, overlap, reach, np.int64, one_pixel=True)


def cut_in_tiles(segment, image, overlap, reach=0):
    """Return a lazy map of how many objects make `count_in_tiles` and `measure_in_tiles` raise OverlapError, by tile.

    Where it is 0 everywhere, the overlap is large enough for them. Parameters and result are as in `count_in_tiles`.
    """
    return map_windows(in_window.count_cut, segment, image, overlap, reach, np.int64, one_pixel=True)


def changed_in_tiles(segment, image, overlap):
    """Return a lazy map of how many pixels of each tile change their object when the overlap is doubled (plus 1).

    Where it is not 0, the overlap is too small, or `segment` does not depend on the surroundings only: then no overlap is
    large enough. A few tiles will do, such as ``changed_in_tiles(segment, image, overlap)[::5, ::5]``. Parameters and
    result are as in `count_in_tiles`.
    """
    overlap = per_axis(overlap, "overlap", dask_array(image, "image").ndim, 0)
    wider = tuple(2 * margin + 1 for margin in overlap)
    narrow, wide = [map_windows(in_window.names_seen, segment, image, far, 0, np.int64) for far in (overlap, wider)]
    return (narrow != wide).map_blocks(np.sum, keepdims=True, chunks=ones(image), dtype=np.int64)


def label_in_tiles(segment, image, overlap, reach=0, renumber=None, dtype=np.int64):
    """Return a lazy label image in which every object has the same label in all tiles that it extends over.

    An object's label is 1 plus the index of its first pixel in the flattened image. Every tile finds it alone, without
    talking to others. Numbers from 1 to n in the same order need the list of all labels, that of the table of
    `measure_in_tiles`: ``renumber=table["label"]``. If the labels do not fit into memory, store them with `compute_in_patches`.

    Parameters
    ----------
    segment, image, overlap, reach
        As in `count_in_tiles`.
    renumber : sequence of int, optional
        All labels, sorted, to number the objects from 1 to n.
    dtype : integer dtype
        Type of the result.

    Returns
    -------
    dask.array.Array of `dtype`, shape and chunks of `image`

    Raises
    ------
    TypeError, ValueError
        As in `count_in_tiles`, and if the labels do not fit into `dtype`.
    OverlapError
        When computed, if an object with a pixel in a tile is cut by its window: how many, and where.
    """
    dtype, tables = np.dtype(dtype), []
    if renumber is not None:
        tables = [delayed(in_window.check_names(renumber, dtype), pure=True)]
    elif dask_array(image, "image").size > np.iinfo(dtype).max:
        raise ValueError(
            f"dtype is {dtype}, but must hold labels up to {image.size}, the size of the image. Choose int64, or number "
            'the objects: renumber=table["label"], with the table of measure_in_tiles.'
        )
    work = partial(in_window.number_pixels if tables else in_window.name_pixels, dtype=dtype)
    return map_windows(work, segment, image, overlap, reach, dtype, tables)


def measure_in_tiles(segment, image, overlap, properties=("label", "bbox", "centroid", "area"), reach=0, spacing=1):
    """Return a table of all objects of a chunked image, one row each, measured whole: the result is computed at once.

    Rows are sorted by the label that `label_in_tiles` gives; row k (from 0) is number k + 1 when renumbered.
    Positions (bbox, centroid, coords, ...) are those in the whole image. Tiles are measured patch by patch
    (`compute_in_patches`), so that memory grows with the number of objects only.

    Parameters
    ----------
    segment, image, overlap, reach
        As in `count_in_tiles`; `image` has 2 or 3 dimensions, and is the intensity image of the properties.
    properties : sequence of str
        Properties of `skimage.measure.regionprops`, by their names of today, except "slice" (see "bbox").
    spacing : float or tuple of float, one per axis
        Side lengths of a pixel, as in `regionprops`: areas, lengths and centroids are in this unit, bbox and coords in
        pixels.

    Returns
    -------
    pandas.DataFrame with the column "label" and those that `regionprops_table` makes of `properties`

    Raises
    ------
    TypeError, ValueError, OverlapError
        As in `count_in_tiles`, and if a property does not exist, also not with this `spacing` (NotImplementedError).
    """
    import pandas as pd  # here, because it takes a while, and a worker that counts needs no tables

    tables = tables_in_tiles(segment, image, overlap, properties, reach, spacing)
    rows = pd.concat(compute_in_patches(tables, out=_Joined(tables.shape, pd.concat)).tables)  # those are let go here
    return rows.sort_values("label", ignore_index=True)


class _Joined:
    """What joins the tables of each patch: a table of a few rows takes more memory for itself than for them."""

    def __init__(self, shape, join):
        self.shape, self.join, self.tables = shape, join, []

    def __setitem__(self, region, tables):
        self.tables.append(self.join(tables.ravel()))


def tables_in_tiles(segment, image, overlap, properties, reach=0, spacing=1):
    """Return a lazy map of the tables that `measure_in_tiles` joins: of each tile, that of the objects that belong to it.

    For workers that store their tables where they are made. Parameters and errors are as in `measure_in_tiles`; the result
    has dtype object and one pixel per chunk, a pandas.DataFrame, in the order in which `segment` numbers the objects.
    """
    properties = (properties,) if isinstance(properties, str) else tuple(properties)
    properties = properties if "label" in properties else ("label", *properties)
    side = partial(real_number, above=0)
    spacing = per_axis(spacing, "spacing", dask_array(image, "image").ndim, -np.inf, side)
    nothing = in_window.empty_table(properties, image, spacing)
    work = partial(in_window.measure, properties=properties, spacing=spacing, nothing=nothing)
    return map_windows(work, segment, image, overlap, reach, object, one_pixel=True)


def stitch_labels(labels, connectivity=None):
    """Join the labels of neighbouring tiles (chunks) that touch across the faces between them; the result is lazy.

    For objects larger than any overlap: label each tile for itself, for example with
    ``labels = mask.map_blocks(skimage.measure.label, dtype=int)``.
    The same label in two tiles means two objects, unless they touch. The objects of the result are those of
    `skimage.measure.label` on the whole mask, numbered from 1 to n in the order of tiles, and of labels within a tile.

    `labels` are computed twice: at once, to compare the faces, and when the result is computed, to rename them. Save labels
    that take long to find, or that look at neighbouring chunks, before you stitch them (`to_zarr`).

    Parameters
    ----------
    labels : dask.array.Array of integers
        Labels per tile, 0 for background, which must be the same when computed again.
    connectivity : int, optional
        As in `skimage.measure.label`, which should label the tiles in the same way: 1 joins pixels that share a face; the
        number of axes, by default, joins all neighbours, also at corners.

    Returns
    -------
    dask.array.Array of int64, shape and chunks of `labels`

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or labels are negative or not what `labels` declares.
    """
    check = check_of_blocks(labels, "labels")
    check_integer(labels.dtype)
    if 0 in sum(labels.chunks, ()):
        raise ValueError(f"labels have chunks {labels.chunks}, but must have a pixel in each. Rechunk them first.")
    connectivity = labels.ndim if connectivity is None else whole_number(connectivity, "connectivity", 1, labels.ndim)
    faces = labels.map_blocks(stitching.faces, check, dtype=object, chunks=ones(labels), meta=empty(labels, object))
    joined = delayed(stitching.join(compute_in_patches(faces), connectivity), pure=True, traverse=False)
    return labels.map_blocks(stitching.rename, check, joined, dtype=np.int64, meta=empty(labels, np.int64))
