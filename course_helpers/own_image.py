"""From an image to a result that one can defend: a histogram for all tiles, other channels in objects, and a record."""

import hashlib
import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.delayed import delayed

from course_helpers._arguments import dask_array, finite
from course_helpers.tiling import compute_in_patches

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
        total, pixels = np.zeros(bins, int), finite(block, "image").ravel()
        for start in range(0, pixels.size, BINS):  # little by little, because numbers take more memory than pixels
            numbers = (pixels[start : start + BINS] - np.float64(first)) / width  # float64, in which no integer wraps
            total += np.bincount(np.minimum(numbers.astype(np.int64), bins - 1), minlength=bins)
        return total.reshape((1,) * block.ndim + (-1,))

    shape = (*image.numblocks, bins)
    chunks = (*((1,) * number for number in image.numblocks), (bins,))
    counts = image.map_blocks(count, chunks=chunks, new_axis=image.ndim, meta=np.empty((0,) * len(shape), int))
    levels = first + np.arange(bins) * width + (0 if width == 1 and kind != "f" else width / 2)
    return compute_in_patches(counts, out=_Total(shape)).total, levels


class _Total:
    """Where `compute_in_patches` puts histograms, to be added up: those of all chunks would take more memory than the image."""

    def __init__(self, shape):
        self.shape, self.total = shape, np.zeros(shape[-1], int)

    def __setitem__(self, region, counts):
        self.total += counts.sum(axis=tuple(range(counts.ndim - 1)))


def mean_in_objects(labels, image):
    """Return the mean grey level of each object of a label image, found tile by tile.

    Tiles need no overlap: sums and numbers of voxels add up, wherever an object is cut, once it has one label in all tiles.

    Parameters
    ----------
    labels : dask.array.Array of integers
        0 for background. An object has the same label in all chunks.
    image : dask.array.Array
        Another channel, of the same shape.

    Returns
    -------
    pandas.Series of float64, whose index are the labels in the image, sorted, without 0

    Raises
    ------
    TypeError, ValueError
        If an argument is no dask array, or their shapes differ.
    """
    import pandas as pd  # here, because it takes a while, and whoever only takes a histogram needs no tables

    if dask_array(labels, "labels").shape != dask_array(image, "image").shape:
        raise ValueError(f"image has shape {image.shape}, but must have that of labels, {labels.shape}.")

    def sums(labels, pixels):
        found, place, voxels = np.unique(labels, return_inverse=True, return_counts=True)
        total = np.bincount(place.ravel(), pixels.ravel())
        return pd.DataFrame({"total": total, "voxels": voxels}, index=found)

    blocks = zip(labels.to_delayed().ravel(), image.rechunk(labels.chunks).to_delayed().ravel())
    parts = pd.concat(dask.compute(*[delayed(sums)(*pair) for pair in blocks]))
    together = parts[parts.index != 0].groupby(level=0).sum()
    return together["total"] / together["voxels"]


def write_record(path, source, image, **settings):
    """Write down how a result came about, as JSON, which people and programs can read.

    Parameters
    ----------
    path : str or Path
        The file to write, new. What lies beside it are the results, whose checksums are written, too.
    source : str or Path
        The file or folder that `image` comes from. All of its bytes go into the checksum.
    image : Image
        As `open_image` described it, with what you have corrected.
    **settings
        Numbers, texts, lists and dictionaries: everything that somebody needs who does the same again.

    Returns
    -------
    dict of what was written: when, the source with its size in bytes and SHA-256, the image, the settings, the results, the
    versions

    Raises
    ------
    FileExistsError, FileNotFoundError, TypeError
        If there is a file at `path`, no file at `source`, or JSON cannot hold a setting.
    """
    settings = json.loads(
        json.dumps(settings, default=_plain)
    )  # what cannot be written is refused before files are read
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists. Choose another name, so that the record of an earlier result is kept.")
    record = {
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "source": {"path": os.path.abspath(source), **_checksum(Path(source))},
        "image": {name: getattr(image, name) for name in ("axes", "pixel_size", "channels", "notes")},
        "settings": settings,
        "results": {result.name: _checksum(result) for result in sorted(Path(path).parent.iterdir())},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    record["image"] |= {"shape": image.array.shape, "dtype": str(image.array.dtype)}
    text = json.dumps(record, indent=2, ensure_ascii=False)
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
