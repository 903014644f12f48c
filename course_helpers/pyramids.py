"""Image pyramids in OME-Zarr: write them level by level, open them, and read what a screen shows."""

import json
import os
import re
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import dask.array as da
import numpy as np
import yaozarrs
import zarr
from yaozarrs.write.v05 import prepare_image

from course_helpers._arguments import dask_array, per_axis, real_number
from course_helpers._engine.safe_writing import Verified, fitting, held, store_verified, written_beside, zarr_dtype
from course_helpers._engine.windows import check_integer
from course_helpers.buckets import store_at
from course_helpers.tiling import compute_in_patches

UNITS = yaozarrs.v05.SpaceAxis.model_json_schema()["properties"]["unit"]["anyOf"][0]["enum"]
COLOURS = ("00FFFF", "FF00FF", "FFFF00", "00FF00", "FF0000", "FFFFFF")  # of channels, red, green and blue
SMALLEST_LEVEL = 256  # pixels along the longer side of a pyramid's coarsest level, at most


def write_pyramid(
    image, path, pixel_size, axes="YX", channels=(), unit="micrometer", chunks=(512, 512), overwrite=False, labels=False
):
    """Store an image as OME-Zarr 0.5: a pyramid whose levels shrink by 2, with physical pixel sizes.

    Only rows and columns (Y, X) shrink from level to level, until both are at most 256 pixels long: time points, channels
    and slices (T, C, Z) stay. Each level is computed from the level below as it is on disk, so that the image need never fit
    into memory. A pixel is the mean of 2 x 2 pixels of the level below; of integers it is rounded, halves to even. A side of
    one pixel shrinks no more.

    Parameters
    ----------
    image : dask.array.Array or numpy.ndarray
    path : str or Path
        The folder to write, by custom ``"name.ome.zarr"``.
    pixel_size : float or dict
        Side length of a pixel of `image`, in `unit`; or a dict with one for each of Z, Y and X that has one, as `open_image`
        gives it. An axis that is not in it gets no unit.
    axes : str
        A letter per axis of `image`: of T, C and Z those that it has, in this order, then YX.
    channels : list of pairs, optional
        Of each channel its name, and the grey level that viewers show brightest, such as ``[("nuclei", 900)]``.
    unit : str
        A length unit that OME-NGFF knows, such as "micrometer" or "nanometer".
    chunks : tuple of int
        Chunk shape of all levels along all axes, or along the last ones: then it is 1 along axes in front.
    overwrite : bool
        Whether an existing Zarr store may be replaced, with the labels in it.
    labels : bool
        Whether pixels are labels (whole numbers), of which there is no mean: then, as of booleans, the first of 2 x 2
        pixels is taken. OME-Zarr calls such an image an "image-label".

    Returns
    -------
    list of zarr.Array
        The levels, finest first.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, FileExistsError, StorageError
        As in `write_verified`; and ValueError if axes, channels, pixel size or unit cannot be used.

    References
    ----------
    Axes, scale and translation: https://ngff.openmicroscopy.org/0.5/. Any reader of OME-Zarr knows the codecs, which have
    no checksum.
    """
    image = dask_array(da.asanyarray(image), "image")
    with written_beside(path, overwrite) as partial:
        levels = create_pyramid(partial, image.shape, image.dtype, pixel_size, axes, channels, unit, chunks, labels)
        store_verified(image, levels[0])
        _shrink(levels, labels)
    return open_pyramid(path)


def write_labels(labels, path, name, overwrite=False):
    """Add a label image to an OME-Zarr 0.5 image on disk, as a pyramid ``path/labels/name``, and list it there.

    Parameters
    ----------
    labels : dask.array.Array or numpy.ndarray
        Whole numbers, with the axes and the shape that the image has without channels. Levels are as of `write_pyramid` with
        labels=True, and lie where those of the image lie.
    path : str or Path
        The folder of the image. While labels are written, nobody else may write to it.
    name : str
        Letters, digits, "_" and "-".
    overwrite : bool
        Whether existing labels of this name may be replaced.

    Returns
    -------
    list of zarr.Array
        The levels, finest first.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, FileExistsError, StorageError
        As in `write_pyramid`; and ValueError if there is no OME-Zarr image, the labels do not fit it, or for a wrong name.
    """
    labels, path = dask_array(da.asanyarray(labels), "labels"), Path(os.path.realpath(path))
    check_integer(labels.dtype)
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"name is {name!r}, but must be letters, digits, _ and -, such as 'nuclei'.")
    folder = path / "labels"
    with held(path):
        layout = _layout_of_labels(path, labels.shape)
        folder.mkdir(exist_ok=True)
        try:
            with written_beside(folder / name, overwrite) as partial:
                more = {"image-label": {"source": {"image": "../../"}}}
                levels = _create(partial, labels.shape, labels.dtype, more, *layout)
                compute_in_patches(labels, out=Verified(levels[0]))  # what finds labels looks at many chunks around
                _shrink(levels, labels=True)
            group = zarr.open_group(folder, mode="a", attributes={"ome": {"version": "0.5", "labels": [name]}})
            listed = group.attrs.get("ome", {}).get("labels", [])
            if name not in listed:  # Zarr replaces zarr.json as a whole
                group.attrs["ome"] = {"version": "0.5", "labels": [*listed, name]}
        finally:
            with suppress(OSError):
                folder.rmdir()  # which it only does when there is nothing in it, after an error
    return open_pyramid(folder / name)


def create_pyramid(
    path, shape, dtype, pixel_size, axes="YX", channels=(), unit="micrometer", chunks=(512, 512), labels=False
):
    """Create an OME-Zarr 0.5 pyramid without pixels in it, and return its levels as writable arrays, finest first.

    Parameters are those of `write_pyramid`; TypeError or ValueError if one of them cannot be used.
    """
    if not re.fullmatch("T?C?Z?YX", str(axes)) or len(shape) != len(axes):
        raise ValueError(
            f"image has shape {tuple(shape)} and axes {axes!r}, but must be two-dimensional, or have a letter for each axis: "
            "of T, C and Z in this order, then YX. Reorder it with dask.array.moveaxis; colours (S) are channels (C)."
        )
    shape = per_axis(tuple(shape), "shape", len(axes), 1)
    if isinstance(chunks, (tuple, list)):
        chunks = (1,) * (len(shape) - len(chunks)) + tuple(chunks)
    chunks = fitting(chunks, shape)
    sizes = pixel_size if isinstance(pixel_size, dict) else dict.fromkeys("ZYX", pixel_size)
    if not set(sizes) <= set("ZYX"):
        raise ValueError(f"pixel_size is {sizes}, but must be a number, or a dict of numbers for Z, Y and X.")
    scale = [real_number(sizes.get(axis, 1), "pixel_size", above=0) for axis in axes]
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}, but must be one of {', '.join(UNITS)}.")
    if labels:
        check_integer(np.dtype(dtype))
    kinds, more = {"T": "time", "C": "channel"}, {"image-label": {}} if labels else {}
    if channels:
        more["omero"] = _omero(channels, dict(zip(axes, shape)).get("C", 1))
    axes = [
        {"name": axis.lower(), "type": kinds.get(axis, "space"), "unit": unit if axis in sizes else None}
        for axis in axes
    ]
    return _create(path, shape, dtype, more, axes, scale, [0] * len(axes), chunks)


def _layout_of_labels(path, shape):
    """Return axes, scale, first centre, chunks and number of levels for labels of an image; raise if they do not fit it."""
    file = path / "zarr.json"
    said = json.loads(file.read_bytes()).get("attributes", {}).get("ome", {}) if file.is_file() else {}
    if "multiscales" not in said:
        raise ValueError(f"{path} is no OME-Zarr 0.5 image, so it gets no labels. Store one first, with write_pyramid.")
    scales = said["multiscales"][0]
    levels, image = scales["datasets"], zarr.open_array(path / scales["datasets"][0]["path"], mode="r")
    keep = [number for number, axis in enumerate(scales["axes"]) if axis.get("type") != "channel"]
    fitting = tuple(image.shape[number] for number in keep)
    if shape != fitting:
        raise ValueError(
            f"labels have shape {shape}, but must have {fitting}: that of the image, {image.shape}, without channels."
        )
    scale, first = np.ones(image.ndim), np.zeros(image.ndim)
    for step in levels[0]["coordinateTransformations"] + scales.get("coordinateTransformations", []):
        factor = np.array(step.get("scale", 1))
        scale, first = scale * factor, first * factor + step.get("translation", 0)
    lists = scales["axes"], scale.tolist(), first.tolist(), image.chunks
    return *([values[number] for number in keep] for values in lists), len(levels)


def _omero(channels, count):
    """Return channels as OME-Zarr describes them; raise ValueError if they are not as many, or no pairs."""
    try:
        pairs = [(str(name), real_number(level, "level")) for name, level in channels]
    except (TypeError, ValueError):
        pairs = []
    if len(pairs) != count:
        raise ValueError(
            f'channels is {channels!r}, but must hold {count} pairs, one per channel, such as ("nuclei", 900): its name, and '
            "the grey level that viewers show brightest."
        )
    windows = [{"min": 0, "start": 0, "end": level, "max": level} for _, level in pairs]
    described = zip(pairs, cycle(COLOURS), windows)
    return {"channels": [{"label": name, "color": colour, "window": window} for (name, _), colour, window in described]}


def _create(path, shape, dtype, more, axes, scale, origin, chunks, least=1):
    """Create a pyramid, given scale and first centre of its finest level, with more metadata and at least so many levels."""
    shapes, datasets, kind = [], [], yaozarrs.v05.LabelImage if "image-label" in more else yaozarrs.v05.Image
    while len(shapes) < least or max(shapes[-1][-2:]) > SMALLEST_LEVEL:
        factors = _factors(shape, len(shapes))
        sizes = [size * factor for size, factor in zip(scale, factors)]
        inwards = [size * (factor - 1) / 2 for size, factor in zip(scale, factors)]
        first = [start + shift for start, shift in zip(origin, inwards)]
        steps = [{"type": "scale", "scale": sizes}, {"type": "translation", "translation": first}]
        datasets.append({"path": str(len(shapes)), "coordinateTransformations": steps})
        shapes.append(tuple(-(-size // factor) for size, factor in zip(shape, factors)))
    metadata, dtype = kind(multiscales=[{"axes": axes, "datasets": datasets}], **more), zarr_dtype(dtype)
    _, arrays = prepare_image(path, metadata, [(size, dtype) for size in shapes], chunks=chunks, writer="zarr")
    return [arrays[str(level)] for level in range(len(shapes))]


def _shrink(levels, labels):
    """Write each level from the one below."""
    for below, level in zip(levels, levels[1:]):
        store_verified(_halved(da.from_zarr(below), labels), level)


def _factors(shape, level):
    """Return how many pixels of an image lie along a pixel of a level, per axis; a side of one pixel shrinks no more."""
    return [1] * (len(shape) - 2) + [min(2**level, 2 ** (size - 1).bit_length()) for size in shape[-2:]]


def _halved(image, labels):
    """Return a dask array of half the height and width; where a side is odd, the last row or column counts twice."""
    if labels or image.dtype == bool:
        return image[..., ::2, ::2]
    outer = image.ndim - 2
    even = da.pad(image, [(0, 0)] * outer + [(0, size % 2) for size in image.shape[-2:]], mode="edge")
    means = da.coarsen(_mean_of_four, even, {outer: 2, outer + 1: 2})
    return means.astype(image.dtype)  # padding loses the byte order


def _mean_of_four(pixels, axis=None):
    """Return the mean in the dtype of the pixels, exact: fourths are summed, so that no sum is larger than the dtype."""
    if pixels.dtype.kind not in "iu":
        wide = np.result_type(pixels.dtype, np.float64)
        return (pixels.astype(wide) / 4).sum(axis).astype(pixels.dtype)
    whole, rest = (part.sum(axis, dtype=pixels.dtype) for part in np.divmod(pixels, 4))
    whole, rest = whole + rest // 4, rest % 4
    return whole + ((rest == 3) | (rest == 2) & (whole % 2 == 1))


def open_pyramid(store):
    """Open the levels of an OME-Zarr 0.5 image for reading, finest first.

    `store` is a path, an address (https://..., or s3://... as in `store_at`) or a Zarr store. Raises ValueError if it holds no
    OME-Zarr image.
    """
    group = zarr.open_group(store_at(store), mode="r")
    if "multiscales" not in group.attrs.get("ome", {}):
        raise ValueError(f"{store} is no OME-Zarr 0.5 image: its zarr.json lists no multiscales.")
    return [group[dataset["path"]] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]


def view_window(levels, center, zoom, screen=(400, 600)):
    """Read what a screen shows of a pyramid, from the coarsest level that is still fine enough.

    Parameters
    ----------
    levels : list of arrays, shape (rows, columns)
        The finest first, each about half as large as the one before.
    center : tuple of two numbers
        Row and column in the middle of the screen, in pixels of the finest level.
    zoom : float
        Screen pixels per pixel of the finest level: 1 shows every pixel, 0.1 shows one of ten.
    screen : tuple of two int
        Height and width in screen pixels.

    Returns
    -------
    pixels : numpy.ndarray
        Up to twice as many rows and columns as the screen has; fewer at the edge. ValueError if there are none.
    level : int
        Where they come from.
    extent : tuple of four float
        Left, right, bottom, top in pixels of the finest level, for matplotlib's ``imshow``.
    """
    zoom, screen = real_number(zoom, "zoom", above=0), per_axis(screen, "screen", 2, 1)
    center, shape = per_axis(center, "center", 2, -np.inf, real_number), np.shape(levels[0])
    if len(shape) != 2:
        raise ValueError(
            f"levels begin with shape {shape}, but must be a list of two-dimensional ones. See open_pyramid."
        )
    level = int(np.clip(np.floor(np.log2(1 / zoom)), 0, len(levels) - 1))
    factors, window = _factors(shape, level), []
    for middle, side, factor, size in zip(center, screen, factors, levels[level].shape):
        start, stop = np.clip([middle - side / 2 / zoom, middle + side / 2 / zoom], 0, size * factor)
        window.append(slice(int(start // factor), int(-(-stop // factor))))
    if any(part.start >= part.stop for part in window):
        raise ValueError(f"center {center} with zoom {zoom} shows no pixel of an image of {shape}.")
    rows, columns = window
    down, right = factors
    extent = (right * columns.start, right * columns.stop, down * rows.stop, down * rows.start)
    return np.asarray(levels[level][rows, columns]), level, extent
