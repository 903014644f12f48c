"""Count, label and measure objects across tiles, with any segmentation: the same result as on the whole image.

An object belongs to the tile that holds its first pixel in raster order. Every tile is segmented together with
a margin, the overlap, and this larger piece is called its window. Where the overlap is at least the largest object plus
the reach of the filters, the window shows every object of its tile whole. So no object is missed or counted twice, and
all tiles that see an object agree on its first pixel, which can serve as its name: nothing has to be merged afterwards.
Objects larger than any overlap are labelled tile by tile and joined across the faces of the tiles: `stitch_labels`.
"""

from functools import partial
from itertools import product
from typing import NamedTuple

import dask.array as da
import numpy as np
import pandas as pd
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed, delayed
from dask.graph_manipulation import bind
from dask.highlevelgraph import HighLevelGraph
from scipy import ndimage as ndi
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import regionprops_table

from course_helpers._arguments import dask_array, per_axis, whole_number
from course_helpers.tiling import compute_in_patches

ABSOLUTE = ("bbox", "centroid", "centroid_weighted", "coords", "coords_scaled")  # these are places in the image


class OverlapError(ValueError):
    """Objects in a tile are cut by the edge of its window: the overlap is too small for an exact result."""


class Span(NamedTuple):
    """Where a tile and its window lie along one axis, in pixels of the image."""

    tile: slice
    window: slice
    chunks: list  # the chunks that the window meets: (index, part of the chunk, where it goes in the window)
    rims: list  # parts of the window too close to an edge to be sure of; none where the window ends with the image


class Objects(NamedTuple):
    """What a segmentation finds in the window of a tile."""

    index: tuple  # which tile
    place: list  # its Span along each axis
    window: np.ndarray  # the pixels
    labels: np.ndarray  # int, shape of the window; 0 is background, 1 to n are the objects
    first: np.ndarray  # int64, shape (n, ndim): where in the image each object has its first pixel
    names: np.ndarray  # int64, shape (n,): 1 plus the index of that pixel in the flattened image
    owned: np.ndarray  # bool, shape (n,): whether that pixel lies in the tile
    cut: np.ndarray  # bool, shape (n,): whether the object comes too close to an edge of the window to be whole


def count_in_tiles(segment, image, overlap, reach=0):
    """Return a lazy map of how many objects belong to each tile (chunk) of an image; its sum is their exact number.

    An object belongs to the tile that holds its first pixel in raster order. The result is exact for any chunks if
    `overlap` is at least the size of the largest object plus `reach`.

    An object that comes within `reach` of an edge of its tile's window may be cut there, and raises `OverlapError`.
    The tools see nothing but labels: with ``reach=0`` they notice objects that touch the edge, but not that a filter
    saw too little. Give the sum of the filters' radii as `reach` to be sure of both.

    Parameters
    ----------
    segment : function
        ``segment(window)`` returns labels: an array of whole numbers of the window's shape, 0 for background. What it
        finds at a place must depend on the surroundings only, not on the position, and be the same at every call.
    image : dask.array.Array
        Any number of dimensions, any chunks; no NaN.
    overlap, reach : int or tuple of int, one per axis
        In pixels. See above.

    Returns
    -------
    dask.array.Array of int64, shape ``image.numblocks``, one pixel per chunk

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; when computed, if `image` holds NaN or `segment` returns no labels.
    OverlapError
        When computed: how many objects are cut in a tile, and where. `cut_in_tiles` looks at all tiles.

    Examples
    --------
    >>> from skimage.measure import label
    >>> image = da.from_array(np.tri(6, dtype=int), chunks=3)
    >>> count_in_tiles(label, image, overlap=6).compute()
    array([[1, 0],
           [0, 0]])
    """
    _check_chunks(image, "image")
    return _map_windows(_count, segment, image, overlap, reach, np.int64, one_pixel=True)


def cut_in_tiles(segment, image, overlap, reach=0):
    """Return a lazy map of how many objects make `count_in_tiles` and `measure_in_tiles` raise OverlapError, by tile.

    Where it is 0 everywhere, the overlap is large enough for them. Parameters and result are as in `count_in_tiles`.
    """
    _check_chunks(image, "image")
    return _map_windows(_count_cut, segment, image, overlap, reach, np.int64, one_pixel=True)


def label_in_tiles(segment, image, overlap, reach=0, renumber=False, dtype=np.int64):
    """Return a lazy label image in which every object has the same label in all tiles that it extends over.

    An object's label is 1 plus the index of its first pixel in the flattened image. Every tile finds it alone, without
    talking to others. With ``renumber=True`` labels are 1 to n in the same order. This needs the list of all labels
    first: everything is segmented twice when computed, and dask may hold many chunks of the image in between. If the
    image does not fit into memory, measure it first (`measure_in_tiles`), hand over the labels of the table, as in
    ``renumber=table["label"]``, and store the result with `compute_in_patches`.

    Parameters
    ----------
    segment, image, overlap, reach
        As in `count_in_tiles`.
    renumber : bool or sequence of int
        Whether to number the objects from 1 to n. All labels, sorted, if you have them already.
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
    _check_chunks(image, "image")
    dtype, tables = np.dtype(dtype), []
    if not isinstance(renumber, (bool, np.bool_)):
        tables = [delayed(_check_names(renumber, dtype), pure=True)]
    elif renumber:
        names = _map_windows(_list_names, segment, image, overlap, reach, object, one_pixel=True)
        tables = [_gather(_sort_names, names, dtype)]
        image = _read_again(image, tables[0])
    elif image.size > np.iinfo(dtype).max:
        raise ValueError(
            f"dtype is {dtype}, but must hold labels up to {image.size}, the size of the image. Choose int64, or number "
            "the objects with renumber=True."
        )
    return _map_windows(partial(_name_pixels, dtype=dtype), segment, image, overlap, reach, dtype, tables)


def measure_in_tiles(segment, image, overlap, properties=("label", "bbox", "centroid", "area"), reach=0):
    """Return a table of all objects of a chunked image, one row each, measured whole: the result is computed at once.

    Rows are sorted by the label that `label_in_tiles` gives; row k (from 0) is number k + 1 with ``renumber=True``.
    Positions (bbox, centroid, coords) are those in the whole image. Tiles are measured patch by patch
    (`compute_in_patches`), so that memory grows with the number of objects only.

    Parameters
    ----------
    segment, image, overlap, reach
        As in `count_in_tiles`; `image` has 2 or 3 dimensions, and is the intensity image of the properties.
    properties : sequence of str
        Properties of `skimage.measure.regionprops_table`, except "slice" (see "bbox").

    Returns
    -------
    pandas.DataFrame with the column "label" and those that `regionprops_table` makes of `properties`

    Raises
    ------
    TypeError, ValueError, OverlapError
        As in `count_in_tiles`, and if a property does not exist.
    """
    _check_chunks(image, "image")
    properties = (properties,) if isinstance(properties, str) else tuple(properties)
    properties = properties if "label" in properties else ("label", *properties)
    empty = _empty_table(properties, image)
    work = partial(_measure, properties=properties)
    tables = compute_in_patches(_map_windows(work, segment, image, overlap, reach, object, one_pixel=True))
    tables = [table for table in tables.flat if table is not None]
    return pd.concat(tables).sort_values("label", ignore_index=True) if tables else empty


def stitch_labels(labels, connectivity=None):
    """Join the labels of neighbouring tiles (chunks) that touch across the faces between them; the result is lazy.

    For objects larger than any overlap: label each tile for itself, for example with
    ``labels = mask.map_blocks(skimage.measure.label, dtype=int)``.
    The same label in two tiles means two objects, unless they touch. The objects of the result are those of
    `skimage.measure.label` on the whole mask, numbered from 1 to n in the order of tiles, and of labels within a tile.

    When computed, `labels` are computed twice, first to compare the faces, then to rename: this needs memory for the
    faces of all tiles, but not for their pixels. Save labels that take long to find, or that look at neighbouring
    chunks, before you stitch them (`to_zarr`).

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
        If `labels` is no dask array of whole numbers or `connectivity` not from 1 to the number of axes; when computed,
        if labels are negative.

    Examples
    --------
    >>> labels = da.from_array(np.array([[1, 0, 1, 1]]), chunks=(1, 2))
    >>> stitch_labels(labels).compute()
    array([[1, 0, 2, 2]])
    """
    _check_chunks(labels, "labels")
    _check_integer(labels.dtype)
    faces = da.map_blocks(_faces, labels, chunks=_ones(labels), dtype=object, meta=_empty(labels, object))
    connectivity = labels.ndim if connectivity is None else whole_number(connectivity, "connectivity", 1, labels.ndim)
    joined = _gather(_join, faces, connectivity)
    labels = _read_again(labels, joined)
    return da.map_blocks(_rename, labels, joined=joined, dtype=np.int64, meta=_empty(labels, np.int64))


# --- windows ----------------------------------------------------------------------------------------------------------


def _map_windows(work, segment, image, overlap, reach, dtype, tables=(), one_pixel=False):
    """Return the lazy array of ``work(objects, *tables)`` of all tiles: one pixel each, or the pixels of the tile.

    `dask.array.map_overlap` merges chunks smaller than the overlap without a word, and has a task for every piece of
    every window. Here a tile is one task, which cuts its window out of the chunks: any chunks will do, and there is
    less to schedule.
    """
    overlap, reach = per_axis(overlap, "overlap", image.ndim, 0), per_axis(reach, "reach", image.ndim, 0)
    if any(far > margin for far, margin in zip(reach, overlap)):
        raise ValueError(f"overlap is {overlap}, but must be at least reach, {reach}, plus the largest object.")
    spans = [_spans(*axis) for axis in zip(image.chunks, overlap, reach)]
    name = f"objects-{tokenize(work, segment, image, overlap, reach, dtype, tables)}"
    graph = {}
    for index in product(*map(range, image.numblocks)):
        place = [axis[i] for axis, i in zip(spans, index)]
        run = partial(_on_window, work=work, segment=segment, image_shape=image.shape, place=place, index=index)
        chunks = [(image.name, *numbers) for numbers in product(*[[part[0] for part in span.chunks] for span in place])]
        graph[name, *index] = (run, chunks, *[table.key for table in tables])
    graph = HighLevelGraph.from_collections(name, graph, dependencies=[image, *tables])
    return da.Array(graph, name, _ones(image) if one_pixel else image.chunks, meta=_empty(image, dtype))


def _gather(function, boxes, *arguments):
    """Return ``function(array of everything in the boxes, *arguments)`` as one delayed task.

    `dask.delayed` would do the same, but optimises the graph of the boxes right away, which takes seconds.
    """
    name = f"gather-{tokenize(function, boxes, arguments)}"
    run = partial(_on_all, function=function, shape=boxes.numblocks, arguments=arguments)
    graph = {name: (run, list(flatten(boxes.__dask_keys__())))}
    return Delayed(name, HighLevelGraph.from_collections(name, graph, dependencies=[boxes]))


def _read_again(array, table):
    """Return the same array, to be computed anew once `table` is known.

    Otherwise dask would compute the chunks for the first pass and keep them all in memory for the second.
    """
    return bind(array, table, seed="second pass")


def _on_all(boxes, function, shape, arguments):
    """Call a function with the content of all boxes."""
    return function(np.concatenate([box.ravel() for box in boxes]).reshape(shape), *arguments)


def _spans(sizes, overlap, reach):
    """Return the Span of each chunk along one axis."""
    edges = np.cumsum((0, *sizes)).tolist()
    spans, end = [], edges[-1]
    for tile_start, tile_stop in zip(edges, edges[1:]):
        start, stop = max(tile_start - overlap, 0), min(tile_stop + overlap, end)
        chunks = []
        for i in range(np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, stop, "left")):
            first, last = max(edges[i], start), min(edges[i + 1], stop)
            chunks.append((i, slice(first - edges[i], last - edges[i]), slice(first - start, last - start)))
        # One pixel more than the reach: an object is whole if the pixel beyond it is known to be none of its own.
        rims = [slice(0, reach + 1)] * (start > 0) + [slice(max(stop - start - reach - 1, 0), None)] * (stop < end)
        spans.append(Span(slice(tile_start, tile_stop), slice(start, stop), chunks, rims))
    return spans


def _on_window(chunks, *tables, work, segment, image_shape, place, index):
    """Put the window of a tile together, find its objects and return what `work` makes of them."""
    window = np.empty([span.window.stop - span.window.start for span in place], chunks[0].dtype)
    for chunk, parts in zip(chunks, product(*[span.chunks for span in place])):
        window[tuple(target for _, _, target in parts)] = chunk[tuple(source for _, source, _ in parts)]
    if window.dtype.kind in "fc" and np.isnan(window).any():
        raise ValueError(
            f"image holds NaN in or near tile {index}, but must not. Replace it with dask.array.nan_to_num."
        )
    labels, count = _consecutive(_check_labels(np.asarray(segment(window)), window.shape))
    pixels = np.flatnonzero(labels)
    first = np.zeros(count + 1, np.int64)
    first[labels.ravel()[pixels[::-1]]] = pixels[::-1]  # backwards, because the last of several assignments stays
    first = np.stack(np.unravel_index(first[1:], labels.shape), axis=1) + [span.window.start for span in place]
    names = np.ravel_multi_index(tuple(first.T), image_shape) + 1
    inside = [(part >= span.tile.start) & (part < span.tile.stop) for part, span in zip(first.T, place)]
    cut = np.zeros(count + 1, bool)
    for axis, span in enumerate(place):
        for rim in span.rims:
            cut[labels[(slice(None),) * axis + (rim,)]] = True
    return work(Objects(index, place, window, labels, first, names, np.all(inside, axis=0), cut[1:]), *tables)


def _consecutive(labels):
    """Return labels renumbered from 1 to n in the same order, and n. Labels that are so already are not copied."""
    largest = int(labels.max(initial=0))
    if largest > labels.size:  # a table of all labels would be larger than the tile
        found, places = np.unique(labels, return_inverse=True)
        return places.reshape(labels.shape) + (found[0] > 0), len(found) - (found[0] == 0)
    found = np.zeros(largest + 1, bool)
    found[labels] = True
    found[0] = False
    return labels if found[1:].all() else np.cumsum(found)[labels], int(found.sum())


# --- what is done in a window -----------------------------------------------------------------------------------------


def _count(objects):
    """Return the number of objects that belong to the tile: all those of the image, and none of them twice.

    An object that a window shows whole has its true first pixel there, so it is owned by one tile only. If a window
    cuts off an object's first pixel and the tile takes the rest for its own, the rest is at an edge and refused. And
    the tile of the true first pixel never overlooks it: this pixel comes first in its window too, whatever of the
    object is missing, so the object is either whole and counted, or at an edge and refused.
    """
    return np.full((1,) * objects.labels.ndim, _whole(objects).sum())


def _count_cut(objects):
    """Return the number of objects that `_count` refuses."""
    return np.full((1,) * objects.labels.ndim, (objects.owned & objects.cut).sum())


def _list_names(objects):
    """Return the names of the objects that belong to the tile, in an array of one element."""
    return _boxed(objects.names[_whole(objects)], objects.labels.ndim)


def _sort_names(names, dtype):
    """Return all names sorted, or raise if their number does not fit into the dtype."""
    names = np.sort(np.concatenate(names.ravel()))
    _check_fit(len(names), dtype)
    return names


def _name_pixels(objects, all_names=None, dtype=np.int64):
    """Return the tile with the names of objects, or with their ranks in a sorted list of all names."""
    edges = [(span.tile.start, span.tile.stop, span.window.start) for span in objects.place]
    tile = objects.labels[tuple(slice(start - origin, stop - origin) for start, stop, origin in edges)]
    visible = np.zeros(len(objects.cut) + 1, bool)
    visible[tile] = True
    visible = visible[1:]
    _refuse(objects, visible & objects.cut)
    names = objects.names
    if all_names is not None:
        if not np.isin(names[visible], all_names).all():
            raise ValueError(
                f"In tile {objects.index}, segment found objects that are not in the list of all objects. "
                "Choose a larger overlap and reach; and segment must not be random."
            )
        names = np.searchsorted(all_names, names) + 1
    return np.concatenate([[0], np.where(visible, names, 0)]).astype(dtype)[tile]


def _measure(objects, properties):
    """Return the table of the objects that belong to the tile, None without any, in an array of one element."""
    owned, start = _whole(objects), [span.window.start for span in objects.place]
    if not owned.any():
        return _boxed(None, owned.ndim * len(start))
    labels = np.concatenate([[0], np.where(owned, np.arange(1, len(owned) + 1), 0)])[objects.labels]
    table = regionprops_table(labels, objects.window, properties=properties)
    table["label"] = objects.names[owned]
    for column in table:
        prefix, _, axis = column.partition("-")
        if prefix in ABSOLUTE:
            table[column] = table[column] + (start[int(axis) % len(start)] if axis else _boxed(np.array(start), 1))
    return _boxed(pd.DataFrame(table), labels.ndim)


def _whole(objects):
    """Return which objects belong to the tile, or raise if the window cuts one of them."""
    _refuse(objects, objects.owned & objects.cut)
    return objects.owned


def _refuse(objects, wrong):
    """Raise if anything is wrong with an object: with how many, where, and what to do."""
    if not wrong.any():
        return
    chosen, boxes = np.flatnonzero(wrong), ndi.find_objects(objects.labels)
    longest = max(part.stop - part.start for i in chosen for part in boxes[i])
    where = ", ".join(str(tuple(position)) for position in objects.first[chosen[:3]].tolist())
    raise OverlapError(
        f"In tile {objects.index} the overlap is too small to be sure of {len(chosen)} object(s), which touch the edge "
        f"of the window or come within reach of it. What the window shows of them is up to {longest} pixels long and "
        f"begins at {where}{' and elsewhere' * (len(chosen) > 3)}. Choose a larger overlap: the largest object plus the "
        f"reach of the filters. For objects larger than any overlap there is stitch_labels."
    )


# --- joining across faces ---------------------------------------------------------------------------------------------


def _faces(tile):
    """Return a tile's number of labels and its first and last plane along each axis, in an array of one element."""
    labels, count = _consecutive(_check_labels(tile, tile.shape))
    small = np.min_scalar_type(count)
    planes = [[np.take(labels, [end], axis).astype(small) for end in (0, -1)] for axis in range(tile.ndim)]
    return _boxed((count, planes), tile.ndim)


def _join(faces, connectivity):
    """Return what `_rename` needs: each tile's offset; the labels that join an earlier one, and their new names.

    Label l of a tile has the number offset + l. Only labels at a face can touch labels of other tiles, so the lists
    stay short. Two labels that touch are an edge of a graph, and an object is one of its connected components.
    """
    counts = np.array([count for count, _ in faces.flat], np.int64)
    offsets = (np.cumsum(counts) - counts).reshape(faces.shape)
    edges = [np.empty((2, 0), np.int64)]
    for axis in range(faces.ndim):
        for seam in range(faces.shape[axis] - 1):
            near, far = _plane(faces, offsets, axis, seam, -1), _plane(faces, offsets, axis, seam + 1, 0)
            edges.append(_touching(near, far, axis, connectivity))
    nodes, ends = np.unique(np.concatenate(edges, axis=1), return_inverse=True)
    ends = ends.reshape(2, -1)
    graph = coo_array((np.ones(ends.shape[1], bool), ends), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    kept = nodes[first][component]  # the first label of each object: nodes are sorted
    absorbed, target = nodes[nodes != kept], kept[nodes != kept]
    return offsets, absorbed, target - np.searchsorted(absorbed, target)


def _plane(faces, offsets, axis, position, end):
    """Return one side of a seam, a plane through the whole image, with numbers that differ from tile to tile."""
    tiles, offsets = np.take(faces, [position], axis), np.take(offsets, [position], axis)
    numbers = np.empty(tiles.shape, object)
    for index in np.ndindex(tiles.shape):
        _, planes = tiles[index]
        numbers[index] = np.where(planes[axis][end], planes[axis][end] + offsets[index], 0)
    return np.block(numbers.tolist())


def _touching(near, far, axis, connectivity):
    """Return the pairs of numbers that touch across a seam, shape (2, n).

    >>> _touching(np.array([[1, 1, 0, 2]]), np.array([[0, 5, 0, 6]]), axis=0, connectivity=1)
    array([[1, 2],
           [5, 6]])
    """
    pairs = []
    for step in product((-1, 0, 1), repeat=near.ndim):
        if step[axis] == 0 and np.count_nonzero(step) < connectivity:
            a = near[tuple(slice(max(-s, 0), size - max(s, 0)) for s, size in zip(step, near.shape))]
            b = far[tuple(slice(max(s, 0), size - max(-s, 0)) for s, size in zip(step, near.shape))]
            both = (a > 0) & (b > 0)
            pairs.append(np.stack([a[both], b[both]]))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)


def _rename(tile, joined, block_id):
    """Return a tile with the labels of the stitched image."""
    labels, count = _consecutive(_check_labels(tile, tile.shape))
    offsets, absorbed, target = joined
    numbers = offsets[block_id] + np.arange(1, count + 1)
    names = numbers - np.searchsorted(absorbed, numbers)
    first, last = np.searchsorted(absorbed, [offsets[block_id] + 1, offsets[block_id] + count + 1])
    names[absorbed[first:last] - offsets[block_id] - 1] = target[first:last]
    return np.concatenate([[0], names])[labels]


# --- arguments --------------------------------------------------------------------------------------------------------


def _check_chunks(array, name):
    """Raise if this is not a dask array whose chunks are known and hold pixels."""
    if any(0 in sizes for sizes in dask_array(array, name).chunks):
        raise ValueError(f"{name} has chunks {array.chunks}, but must have pixels in all of them. Call rechunk first.")


def _check_integer(dtype):
    """Raise if this is no type for labels."""
    if dtype.kind not in "iu":
        raise TypeError(
            f"labels are {dtype}, but must be whole numbers. Label a mask with skimage.measure.label first."
        )


def _check_labels(labels, shape):
    """Return labels, or raise if they are none."""
    _check_integer(labels.dtype)
    if labels.shape != shape:
        raise ValueError(f"labels have shape {labels.shape}, but must have the shape that segment was given, {shape}.")
    if labels.min(initial=0) < 0:
        raise ValueError(f"labels hold {labels.min()}, but must be 0 or more. Background is 0.")
    return labels


def _check_names(names, dtype):
    """Return all labels as an array, or raise if this is not a sorted list of names that has a number for each."""
    names = np.asarray(names)
    if names.ndim != 1 or names.size and names[0] < 1 or (names[1:] <= names[:-1]).any():
        raise ValueError(
            f"renumber is {names}, but must be True, False, or every label once, from 1 and sorted. Hand over the column "
            '"label" of measure_in_tiles, as it is.'
        )
    _check_fit(len(names), dtype)
    return names


def _check_fit(count, dtype):
    """Raise if a number of objects does not fit into a dtype."""
    if count > np.iinfo(dtype).max:
        raise ValueError(f"dtype is {dtype}, but must hold numbers up to {count}, one for each object. Choose int64.")


def _empty_table(properties, image):
    """Return the table of no object; what scikit-image cannot measure, it refuses here at once."""
    if "slice" in properties:
        raise ValueError("properties hold slice, but must be places in the whole image. Ask for bbox instead.")
    window = np.arange(1, 4**image.ndim + 1).reshape((4,) * image.ndim)
    table = regionprops_table(np.ones_like(window), window.astype(image.dtype), properties=properties)
    return pd.DataFrame(table).astype({"label": np.int64})[:0]


def _ones(array):
    """Return the chunks of an array of one pixel per chunk of the given one."""
    return tuple((1,) * count for count in array.numblocks)


def _empty(array, dtype):
    """Return the meta array of a dask array of the same dimensions."""
    return np.empty((0,) * array.ndim, dtype)


def _boxed(content, ndim):
    """Return an array of one element, which may be anything."""
    box = np.empty((1,) * ndim, object)
    box[(0,) * ndim] = content
    return box
