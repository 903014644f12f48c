"""The windows of tiles: cut out of the chunks of a dask array, segmented, and looked at by one task for each tile."""

from collections.abc import Mapping
from functools import partial
from itertools import product
from math import prod
from typing import NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from course_helpers._arguments import check_of_blocks, finite, per_axis, plain


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


def map_windows(work, segment, image, overlap, reach, dtype, tables=(), one_pixel=False):
    """Return the lazy array of ``work(objects, *tables)`` of all tiles: one pixel each, or the pixels of the tile.

    `dask.array.map_overlap` merges chunks smaller than the overlap without a word, and has a task for every piece of
    every window. Here a tile is one task, which cuts its window out of the chunks: any chunks will do, and there is
    less to schedule.
    """
    check = check_of_blocks(image, "image")
    if not image.ndim:
        raise ValueError(
            "image has shape (), but must have an axis or more. from_array takes an array, from_zarr a path."
        )
    overlap, reach = per_axis(overlap, "overlap", image.ndim, 0), per_axis(reach, "reach", image.ndim, 0)
    if any(far > margin for far, margin in zip(reach, overlap)):
        raise ValueError(f"overlap is {overlap}, but must be at least reach, {reach}, plus the largest object.")
    spans = [_spans(*axis) for axis in zip(image.chunks, overlap, reach)]
    name = f"objects-{tokenize(work, segment, image, overlap, reach, dtype, tables)}"
    on_window = partial(_on_window, work=work, segment=segment, check=check, shape=image.shape, dtype=image.dtype)
    tasks = Tasks(name, spans, image.name, on_window, [table.key for table in tables])
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[image, *tables])
    return da.Array(graph, name, ones(image) if one_pixel else image.chunks, meta=empty(image, dtype))


class Tasks(Mapping):
    """The task of each tile, made when it is asked for: together, those of many tiles take more memory than a patch of them."""

    def __init__(self, name, spans, image_name, on_window, tables):
        self.name, self.spans, self.image_name, self.on_window, self.tables = name, spans, image_name, on_window, tables

    def __len__(self):
        return prod(map(len, self.spans))

    def __iter__(self):
        return ((self.name, *index) for index in np.ndindex(*map(len, self.spans)))

    def __getitem__(self, key):
        if key[:1] != (self.name,):
            raise KeyError(key)
        place = [axis[number] for axis, number in zip(self.spans, key[1:])]
        numbers = product(*[[part[0] for part in span.chunks] for span in place])
        chunks = [(self.image_name, *number) for number in numbers]
        return partial(self.on_window, place=place, index=key[1:]), chunks, *self.tables


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


def _on_window(chunks, *tables, work, segment, check, shape, dtype, place, index):
    """Put the window of a tile together, find its objects and return what `work` makes of them."""
    window = np.empty([span.window.stop - span.window.start for span in place], dtype)
    for chunk, parts in zip(chunks, product(*[span.chunks for span in place])):
        number, source, target = zip(*parts)
        window[target] = check(chunk, block_id=number)[source]
    finite(window, f"image, in or near tile {index},")
    labels = plain(segment(window.copy()), "the result of segment", window.shape)
    pixels = np.flatnonzero(labels != 0)
    numbers, count = consecutive(given := labels.ravel()[pixels])
    if numbers is not given:
        labels = np.zeros(labels.shape, numbers.dtype)
        labels.ravel()[pixels] = numbers
    first = np.zeros(count + 1, np.int64)
    first[numbers[::-1]] = pixels[::-1]  # backwards, because the last of several assignments stays
    first = np.stack(np.unravel_index(first[1:], labels.shape), axis=1) + [span.window.start for span in place]
    names = np.ravel_multi_index(tuple(first.T), shape) + 1
    inside = [(part >= span.tile.start) & (part < span.tile.stop) for part, span in zip(first.T, place)]
    cut = np.zeros(count + 1, bool)
    for axis, span in enumerate(place):
        for rim in span.rims:
            cut[labels[(slice(None),) * axis + (rim,)]] = True
    return work(Objects(index, place, window, labels, first, names, np.all(inside, axis=0), cut[1:]), *tables)


def consecutive(labels):
    """Return labels renumbered from 1 to n in the same order, and n. Labels that are so already are not copied."""
    check_integer(labels.dtype)
    if labels.min(initial=0) < 0:
        raise ValueError(f"labels hold {labels.min()}, but must be 0 or more. Background is 0.")
    largest = int(labels.max(initial=0))
    if largest > labels.size:  # a table of all labels would be larger than the tile
        found, places = np.unique(labels, return_inverse=True)
        return places.reshape(labels.shape) + (found[0] > 0), len(found) - (found[0] == 0)
    found = np.zeros(largest + 1, bool)
    found[labels] = True
    found[0] = False
    return labels if found[1:].all() else np.cumsum(found)[labels], int(found.sum())


def check_integer(dtype):
    """Raise if this is no type for labels."""
    if dtype.kind not in "iu":
        raise TypeError(
            f"labels are {dtype}, but must be whole numbers. Label a mask with skimage.measure.label first."
        )


def ones(array):
    """Return the chunks of an array of one pixel per chunk of the given one."""
    return tuple((1,) * count for count in array.numblocks)


def empty(array, dtype):
    """Return the meta array of a dask array of the same dimensions."""
    return np.empty((0,) * array.ndim, dtype)


def boxed(content, ndim):
    """Return an array of one element, which may be anything."""
    box = np.empty((1,) * ndim, object)
    box[(0,) * ndim] = content
    return box
