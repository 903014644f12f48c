"""What is done with the objects in the window of a tile: count, name or measure those that belong to the tile."""

import numpy as np
from scipy import ndimage as ndi
from skimage.measure import regionprops, regionprops_table

from course_helpers._arguments import plain
from course_helpers._engine.windows import boxed


class OverlapError(ValueError):
    """Objects in a tile are cut by the edge of its window: the overlap is too small for an exact result."""


def count(objects):
    """Return the number of objects that belong to the tile: all those of the image, and none of them twice.

    An object that a window shows whole has its true first pixel there, so it is owned by one tile only. If a window
    cuts off an object's first pixel and the tile takes the rest for its own, the rest is at an edge and refused. And
    the tile of the true first pixel never overlooks it: this pixel comes first in its window too, whatever of the
    object is missing, so the object is either whole and counted, or at an edge and refused.
    """
    return np.full((1,) * objects.labels.ndim, _whole(objects).sum())


def count_cut(objects):
    """Return the number of objects that `count` refuses."""
    return np.full((1,) * objects.labels.ndim, (objects.owned & objects.cut).sum())


def name_pixels(objects, dtype):
    """Return the tile with the names of objects."""
    return _painted(_tile(objects)[0], objects.names, dtype)


def number_pixels(objects, all_names, dtype):
    """Return the tile with the ranks of objects in a sorted list of all names."""
    tile, visible = _tile(objects)
    if not np.isin(objects.names[visible], all_names).all():
        raise ValueError(
            f"In tile {objects.index}, segment found objects that are not in the list of all objects. "
            "Choose a larger overlap and reach; and segment must not be random."
        )
    return _painted(tile, np.searchsorted(all_names, objects.names) + 1, dtype)


def names_seen(objects):
    """Return the tile with the names of objects, be they whole or not."""
    return _painted(_labels_in_tile(objects), objects.names, np.int64)


def _labels_in_tile(objects):
    """Return the labels in the tile alone."""
    edges = [(span.tile.start, span.tile.stop, span.window.start) for span in objects.place]
    return objects.labels[tuple(slice(start - origin, stop - origin) for start, stop, origin in edges)]


def _tile(objects):
    """Return the labels in the tile alone, and which objects are visible there; raise if one of these is cut."""
    tile = _labels_in_tile(objects)
    visible = np.zeros(len(objects.cut) + 1, bool)
    visible[tile] = True
    _refuse(objects, visible[1:] & objects.cut)
    return tile, visible[1:]


def _painted(tile, names, dtype):
    """Return a tile with names in place of labels."""
    return np.concatenate([[0], names]).astype(dtype)[tile]


def measure(objects, properties, spacing, nothing):
    """Return the table of the objects that belong to the tile, `nothing` without any, in an array of one element."""
    owned, start, ndim = _whole(objects), np.array([span.window.start for span in objects.place]), objects.labels.ndim
    if not owned.any():
        return boxed(nothing, ndim)
    labels = np.concatenate([[0], np.where(owned, np.arange(1, len(owned) + 1), 0)])[objects.labels]
    table = regionprops_table(labels, objects.window, properties=properties, spacing=spacing)
    table["label"] = objects.names[owned]
    places = dict.fromkeys(("bbox", "coords"), start)
    places |= dict.fromkeys(("centroid", "centroid_weighted", "coords_scaled"), start * spacing)
    for column in table:
        name, _, axis = column.partition("-")
        if name in places:
            table[column] = table[column] + (places[name][int(axis) % ndim] if axis else boxed(places[name], 1))
    return boxed(_data_frame(table), ndim)


def _whole(objects):
    """Return which objects belong to the tile, or raise if the window cuts one of them."""
    _refuse(objects, objects.owned & objects.cut)
    return objects.owned


def _refuse(objects, wrong):
    """Raise if anything is wrong with an object: with how many, where, and what to do."""
    if not wrong.any():
        return
    chosen, boxes = np.flatnonzero(wrong), ndi.find_objects(objects.labels)
    longest = np.max([[part.stop - part.start for part in boxes[i]] for i in chosen], axis=0).tolist()
    where = ", ".join(str(tuple(position)) for position in objects.first[chosen[:3]].tolist())
    raise OverlapError(
        f"In tile {objects.index} the overlap is too small to be sure of {len(chosen)} object(s), which touch the edge "
        f"of the window or come within reach of it. What the window shows of them is up to {longest} pixels long, axis by "
        f"axis, and begins at {where}{' and elsewhere' * (len(chosen) > 3)}. Choose a larger overlap: the largest object plus the "
        f"reach of the filters. For objects larger than any overlap there is stitch_labels."
    )


def check_names(names, dtype):
    """Return all labels as an array, or raise if this is not a sorted list of names that has a number for each."""
    names = plain(names, "renumber")
    whole = names.ndim == 1 and (names.dtype.kind in "iu" or names.size == 0)
    if not whole or (names[:1] < 1).any() or (names[1:] <= names[:-1]).any():
        raise ValueError(
            f"renumber is {names}, but must be every label once, from 1 and sorted. Hand over the column "
            '"label" of measure_in_tiles, as it is.'
        )
    if len(names) > np.iinfo(dtype).max:
        raise ValueError(
            f"dtype is {dtype}, but must hold numbers up to {len(names)}, one for each object. Choose int64."
        )
    return names


def _data_frame(table):
    import pandas as pd  # here, because it takes a while, and a worker that counts needs no tables

    return pd.DataFrame(table)


def empty_table(properties, image, spacing):
    """Return the table of no object; what cannot be measured is refused here at once."""
    if image.ndim not in (2, 3) or image.dtype.kind not in "biufc":
        raise TypeError(
            f"image is {image.ndim}-D {image.dtype}, but must be 2-D or 3-D, of numbers. Add an axis of 1 pixel."
        )
    window = np.arange(1, 4**image.ndim + 1).reshape((4,) * image.ndim)
    known = {"label", *dir(type(regionprops(np.ones_like(window))[0]))}  # old names, and slice, are no attributes of it
    if unknown := [name for name in properties if name not in known]:
        raise ValueError(f"properties hold {unknown}, but must be names of regionprops today, and bbox, not slice.")
    window = window.astype(image.dtype)
    table = regionprops_table(np.ones(window.shape, int), window, properties=properties, spacing=spacing)
    return _data_frame(table).astype({"label": np.int64})[:0]
