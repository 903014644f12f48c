"""From an image to a result that one can defend: one histogram for all tiles, and a record of how a result came about."""

import hashlib
import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import dask.array as da
import numpy as np

from course_helpers._arguments import dask_array, finite

BINS = 2**16
PACKAGES = ("dask", "numpy", "pandas", "scikit-image", "scipy", "tifffile", "zarr")


def summed_histogram(image):
    """Count the grey levels of an image, chunk by chunk, and add up the histograms of all chunks.

    Integers of 8 or 16 bits have a bin for every level, and are read once. All others are read twice, first for the
    smallest and the largest, between which there are 65,536 bins of one width.

    Parameters
    ----------
    image : dask.array.Array
        Of integers or floats, finite, of any number of dimensions.

    Returns
    -------
    counts : numpy.ndarray of int64, shape (bins,)
    levels : numpy.ndarray, shape (bins,)
        The grey level of each bin, or that in its middle.

    Raises
    ------
    TypeError, ValueError
        If `image` is no dask array of integers or floats, has no pixel, or is not finite.

    Examples
    --------
    >>> counts, levels = summed_histogram(da.from_array(np.array([[3, 4], [4, 255]], np.uint8), chunks=1))
    >>> print(len(counts), counts[3:6])
    256 [1 2 0]
    """
    kind, size = dask_array(image, "image").dtype.kind, image.dtype.itemsize
    if kind not in "iuf" or image.size == 0:
        raise TypeError(f"image is {image.shape} {image.dtype}, but must hold pixels: integers or floats.")
    if kind != "f" and size <= 2:
        first, width, bins = int(np.iinfo(image.dtype).min), 1, 256**size
    else:
        first, last = (finite(np.asarray(end), "image").item() for end in da.compute(image.min(), image.max()))
        width, bins = (last - first) / BINS or 1, BINS

    def count(block):
        numbers = ((finite(block, "image") - np.float64(first)) / width).astype(np.int64)  # float64: no integer wraps
        return np.bincount(np.minimum(numbers, bins - 1).ravel(), minlength=bins).reshape((1,) * block.ndim + (-1,))

    ones = tuple((1,) * number for number in image.numblocks)
    counts = image.map_blocks(
        count, chunks=(*ones, (bins,)), new_axis=image.ndim, meta=np.empty((0,) * (image.ndim + 1), int)
    )
    levels = first + np.arange(bins) * width + (0 if width == 1 and kind != "f" else width / 2)
    return counts.sum(axis=tuple(range(image.ndim))).compute(), levels


def write_record(path, source, image, **settings):
    """Write down how a result came about, as JSON, which people and programs can read.

    Parameters
    ----------
    path : str or Path
        The file to write, new.
    source : str or Path
        The file or folder that `image` comes from. All of its bytes go into the checksum.
    image : Image
        As `open_image` described it, with what you have corrected.
    **settings
        Numbers, texts, lists and dictionaries: everything that somebody needs who does the same again.

    Returns
    -------
    dict of what was written: when, the source with its size in bytes and SHA-256, the image, the settings, the versions

    Raises
    ------
    FileExistsError, FileNotFoundError, TypeError
        If there is a file at `path`, no file at `source`, or JSON cannot hold a setting.
    """
    record = {
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "source": {"path": os.path.abspath(source), **_checksum(Path(source))},
        "image": {name: getattr(image, name) for name in ("axes", "pixel_size", "channels", "notes")},
        "settings": settings,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    record["image"] |= {"shape": image.array.shape, "dtype": str(image.array.dtype)}
    text = json.dumps(record, indent=2, ensure_ascii=False, default=_plain)
    with open(path, "x", encoding="utf-8") as file:
        file.write(text + "\n")
    return json.loads(text)


def _plain(value):
    """Return NumPy's numbers and arrays, and paths, as JSON knows them."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"a setting is {value!r}, but must be a number, a text, a list or a dictionary. Write it as a text."
    )


def _checksum(source):
    """Return bytes and SHA-256 of a file, or of a folder: that of the sorted names in it, each with the SHA-256 of its file."""
    if not source.is_dir():
        with open(source, "rb") as file:
            return {"bytes": source.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    files = sorted(path for path in source.rglob("*") if path.is_file())
    parts = [(path.relative_to(source).as_posix(), _checksum(path)) for path in files]
    lines = "".join(f"{part['sha256']}  {name}\n" for name, part in parts)
    return {"bytes": sum(part["bytes"] for _, part in parts), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
