"""Open microscope files of any format, without loading them."""

import os
from dataclasses import dataclass
from math import prod

import dask.array as da
import numpy as np

from course_helpers._arguments import whole_number
from course_helpers._engine.image_formats import Pixels, format_of, opened, stamp
from course_helpers._engine.safe_writing import StorageError
from course_helpers._engine.tiff_pieces import decoding

SMALL, LARGE = 2**20, 2**24  # bytes of a chunk: planes below SMALL are taken together, tiles up to LARGE


@dataclass(frozen=True, repr=False)
class Image:
    """An image in a file, as `open_image` describes it."""

    array: da.Array
    axes: str
    pixel_size: dict
    channels: list
    images: list
    notes: list

    def __repr__(self):
        sizes = ", ".join(f"{axis} {size:.5g}" for axis, size in self.pixel_size.items())
        lines = [
            f"{self.axes} {self.array.shape} {self.array.dtype}, {self.array.nbytes / 2**20:.1f} MiB once it is loaded",
            f"pixel size in micrometres: {sizes or 'not stored'}",
            f"channels: {', '.join(self.channels) or 'no names stored'}",
        ]
        return "\n".join(lines + [f"- {note}" for note in self.notes])


def open_image(path, number=None):
    """Open an image in a file of a microscope, lazily: what is known about it is read, but no pixel.

    Parameters
    ----------
    path : str or Path
        A file in TIFF, BigTIFF, OME-TIFF, SVS, CZI, ND2 or HDF5; a folder of TIFF files whose names differ in numbers alone,
        one file for each time point or plane; or a Zarr 2, Zarr 3 or OME-Zarr store, or a place in one.
    number : int, optional
        Which image of a file that holds several (series, scenes, positions, wells, data sets), from 0.

    Returns
    -------
    Image
        ``array``: dask array with the numbers and the dtype of the file, its chunks made of whole tiles, strips or planes.
        ``axes``: a letter per axis: T time, C channel, Z, Y, X, S colours of a pixel, Q not named in the file.
        ``pixel_size``: micrometres by axis, where the file states them. A resolution per inch or centimetre counts if
        it means less than 20 micrometres: 72 dpi are those of a screen.
        ``channels``: their names, or none. ``images``: all images in the file.
        ``notes``: what is missing or unusual, in sentences.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If there is no such file or image, its format is not known, or one of several images must be chosen.
    StorageError
        If a file cannot be decoded or lacks parts, or a package is not installed that reads it. When pixels are read, also if
        the file has changed.
    """
    path = os.path.abspath(path)
    format_of(path)
    with decoding("", path), opened(path, stamp(path)) as (stored, _):
        images = [f"{n}: {one.name} {tuple(one.shape)} {one.dtype}".replace(":  ", ": ") for n, one in enumerate(stored)]
    number = _chosen(path, stored, images, number)
    with decoding("", path), opened(path, stamp(path)) as (stored, details):
        one, details = stored[number], details(number)
    shape, dtype, axes = tuple(map(int, one.shape)), np.dtype(one.dtype).newbyteorder("="), details.axes
    if len(axes) != len(shape) or 0 in shape:
        raise StorageError(f"{path} names the axes {axes} of an image of shape {shape}. It is damaged, or empty.")
    notes, chunks = list(details.notes), _chunks(shape, dtype.itemsize, details.pieces, axes)
    unnamed = [n for n, axis in enumerate(axes) if axis == "Q"]
    if unnamed:
        notes.append(f"What lies along {_listed('axis', unnamed)} is not stored: time, depth or channels?")
    without = [axis for axis in "ZYX" if axis in axes and axis not in details.pixel_size]
    if without:
        notes.append(f"No pixel size is stored along {', '.join(without)}.")
    if len(images) > 1:
        notes.append(f"This is image {number} of {len(images)}; the others are listed in images.")
    if (size := dtype.itemsize * prod(chunks)) > 4 * LARGE:
        notes.append(f"It is stored in pieces of {size / 2**20:.0f} MiB, which are read whole. Store it anew in small chunks.")
    pixels = Pixels(path, number, shape, dtype, stamp(path))
    array = da.from_array(pixels, chunks, name=False, meta=np.empty((0,) * len(shape), dtype), getitem=Pixels.read)
    return Image(array, axes, details.pixel_size, details.channels, images, notes)


def _chosen(path, stored, images, number):
    """Return the number of an image; raise ValueError if there is no such, or one of several must be chosen."""
    main = [n for n, one in enumerate(stored) if not one.aside]
    if not images:
        raise StorageError(f"{path} holds no image. Choose another file.")
    if number is None and len(main) != 1:
        raise ValueError(f"{path} holds {len(images)} images. Choose one, such as number=0, of {'; '.join(images)}.")
    return main[0] if number is None else whole_number(number, "number", 0, len(images) - 1)


def _listed(word, numbers):
    """Return words such as "axis 0" or "axes 0, 1"."""
    return f"{word if len(numbers) == 1 else 'axes'} {', '.join(map(str, numbers))}"


def _chunks(shape, itemsize, pieces, axes):
    """Return a chunk shape: pieces of the file, joined to tiles of a plane, and small planes to blocks."""
    sizes = [size if axis == "S" else min(size, piece) for axis, size, piece in zip(axes, shape, pieces)]
    plane = [n for n, axis in enumerate(axes) if axis != "S"][-2:]
    others = [n for n in range(len(axes))[::-1] if n not in plane and axes[n] != "S"]
    for group, limit in ((plane, LARGE), (others, SMALL)):
        while growing := [n for n in group if sizes[n] < shape[n]]:
            n = min(growing, key=lambda n: sizes[n]) if group is plane else growing[0]
            longer = min(shape[n], 2 * sizes[n])
            if itemsize * prod(sizes) // sizes[n] * longer > limit:
                break
            sizes[n] = longer
    return tuple(sizes)
