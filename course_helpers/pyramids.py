"""Image pyramids in OME-Zarr: write them level by level, open them, and read what a screen shows."""

import dask.array as da
import numpy as np
import yaozarrs
import zarr
from yaozarrs.write.v05 import prepare_image

from course_helpers._arguments import dask_array, per_axis, real_number
from course_helpers._engine.safe_writing import store_verified, written_beside, zarr_dtype
from course_helpers._engine.windows import check_integer

UNITS = yaozarrs.v05.SpaceAxis.model_json_schema()["properties"]["unit"]["anyOf"][0]["enum"]
SMALLEST_LEVEL = 256  # pixels along the longer side of a pyramid's coarsest level, at most


def write_pyramid(image, path, pixel_size, unit="micrometer", chunks=(512, 512), overwrite=False, labels=False):
    """Store a two-dimensional image as OME-Zarr 0.5: a pyramid whose levels shrink by 2, with physical pixel sizes.

    Levels shrink until both sides are at most 256 pixels long. Each is computed from the level below as it is on disk, so
    that the image need never fit into memory. A pixel is the mean of 2 x 2 pixels of the level below; of integers it is
    rounded, halves to even. A side of one pixel shrinks no more.

    Parameters
    ----------
    image : dask.array.Array or numpy.ndarray, shape (rows, columns)
    path : str or Path
        The folder to write, by custom ``"name.ome.zarr"``.
    pixel_size : float
        Side length of a pixel of `image`, in `unit`.
    unit : str
        A length unit that OME-NGFF knows, such as "micrometer" or "nanometer".
    chunks : tuple of int
        Chunk shape of all levels.
    overwrite : bool
        Whether an existing Zarr store may be replaced.
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
        As in `write_verified`; and ValueError if pixel size or unit cannot be used.

    References
    ----------
    Axes, scale and translation: https://ngff.openmicroscopy.org/0.5/. Any reader of OME-Zarr knows the codecs, which have
    no checksum.
    """
    image = dask_array(da.asanyarray(image), "image")
    with written_beside(path, overwrite) as partial:
        levels = create_pyramid(partial, image.shape, image.dtype, pixel_size, unit, chunks, labels)
        for below, level in zip([None, *levels], levels):
            store_verified(image if below is None else _halved(da.from_zarr(below), labels), level)
    return open_pyramid(path)


def create_pyramid(path, shape, dtype, pixel_size, unit="micrometer", chunks=(512, 512), labels=False):
    """Create an OME-Zarr 0.5 pyramid without pixels in it, and return its levels as writable arrays, finest first.

    Parameters are those of `write_pyramid`; TypeError or ValueError if one of them cannot be used.
    """
    if len(shape) != 2:
        raise ValueError(f"image has shape {tuple(shape)}, but must be two-dimensional. Store planes one by one.")
    shape, chunks = per_axis(tuple(shape), "shape", 2, 1), per_axis(chunks, "chunks", 2, 1)
    pixel_size = real_number(pixel_size, "pixel_size", above=0)
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}, but must be one of {', '.join(UNITS)}.")
    dtype = zarr_dtype(dtype)
    if labels:
        check_integer(dtype)
    shapes, datasets = [], []
    while not shapes or max(shapes[-1]) > SMALLEST_LEVEL:
        factors = _factors(shape, len(shapes))
        scale = {"type": "scale", "scale": [pixel_size * factor for factor in factors]}
        shift = [pixel_size * (factor - 1) / 2 for factor in factors]  # the first centre moves inwards
        steps = [scale, {"type": "translation", "translation": shift}]
        datasets.append({"path": str(len(shapes)), "coordinateTransformations": steps})
        shapes.append(tuple(-(-size // factor) for size, factor in zip(shape, factors)))
    axes = [{"name": name, "type": "space", "unit": unit} for name in "yx"]
    kind, more = (yaozarrs.v05.LabelImage, {"image-label": {}}) if labels else (yaozarrs.v05.Image, {})
    metadata = kind(multiscales=[{"axes": axes, "datasets": datasets}], **more)
    _, arrays = prepare_image(path, metadata, [(size, dtype) for size in shapes], chunks=chunks, writer="zarr")
    return [arrays[str(level)] for level in range(len(shapes))]


def _factors(shape, level):
    """Return how many pixels of an image lie along a pixel of a level, per axis: a side of one pixel shrinks no more."""
    return [min(2**level, 2 ** (size - 1).bit_length()) for size in shape]


def _halved(image, labels):
    """Return a dask array of half the height and width; where a side is odd, the last row or column counts twice."""
    if labels or image.dtype == bool:
        return image[::2, ::2]
    even = da.pad(image, [(0, size % 2) for size in image.shape], mode="edge")
    return da.coarsen(_mean_of_four, even, {0: 2, 1: 2}).astype(image.dtype)  # padding loses the byte order


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

    `store` is a path, an address or a Zarr store. Raises ValueError if it holds no OME-Zarr image.
    """
    group = zarr.open_group(store, mode="r")
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
