"""Open microscope files of any format, without loading them."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf, prod

import dask.array as da
import numpy as np

from course_helpers._arguments import whole_number
from course_helpers._engine.image_formats import Pixels, format_of, is_address
from course_helpers._engine.safe_writing import StorageError
from course_helpers._engine.tiff_images import chosen, decoding

JOINED = 2**20  # bytes up to which pieces of a plane, and planes, are joined
LARGE = 2**26  # bytes that are too many for a piece


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
        size, lines = self.array.nbytes / 2**20, [f"axes {self.axes} shape {self.array.shape} dtype {self.array.dtype}"]
        lines.append(f"{size:.1f} MiB, once it is loaded, in chunks of {self.array.chunksize}")
        if self.pixel_size:
            sizes = ", ".join(f"{axis} {size:.5g}" for axis, size in self.pixel_size.items())
            lines.append(f"pixel size in micrometres: {sizes}")
        if self.channels:
            lines.append(f"channels: {', '.join(self.channels)}")
        return "\n".join(lines + [f"- {note}" for note in self.notes])

    def tczyx(self, **chosen):
        """Return the array with the axes T, C, Z, Y, X: those it lacks have the size 1, and chunks the size 1 along T and C.

        Of any other axis one number is chosen, from 0, such as ``tczyx(S=1)`` for the green of red, green, blue. ValueError if
        one is left, or there is no such axis or number. To give an axis Q its name: ``dataclasses.replace(image, axes="TYX")``.
        """
        array, axes = self.array, self.axes
        for axis, number in chosen.items():
            if axis not in axes:
                raise ValueError(f"there is no axis {axis}, but {axes}. Choose one of these.")
            place = axes.index(axis)
            whole_number(number, axis, 0, array.shape[place] - 1)
            array, axes = array[(slice(None),) * place + (number,)], axes.replace(axis, "")
        if left := [axis for axis in axes if axis not in "TCZYX"]:
            raise ValueError(
                f"axes are {self.axes}, but must be of T, C, Z, Y, X. Choose one along {left[0]}, as in tczyx({left[0]}=0), or name "
                f"them: dataclasses.replace(image, axes=...) with {len(self.axes)} letters."
            )
        if len(axes) != array.ndim or len(set(axes)) < len(axes) or not set("YX") <= set(axes):
            raise ValueError(f"axes are {axes}, but must be {array.ndim} letters, each once, Y and X among them.")
        array = array.transpose([axes.index(axis) for axis in "TCZYX" if axis in axes])
        return array[tuple(slice(None) if axis in axes else None for axis in "TCZYX")].rechunk({0: 1, 1: 1})

    @property
    def spacing(self):
        """The side lengths of a voxel along Z, Y, X in micrometres; ValueError if one is not known. Without Z, its is 1."""
        sizes = {"Z": 1.0} if "Z" not in self.axes else {}
        sizes |= self.pixel_size
        if missing := [axis for axis in "ZYX" if not 0 < sizes.get(axis, 0) < inf]:
            raise ValueError(
                f"pixel_size is {self.pixel_size}, but must hold the micrometres along {', '.join(missing)}, too. "
                "Write them down: dataclasses.replace(image, pixel_size={...})."
            )
        return tuple(float(sizes[axis]) for axis in "ZYX")


def open_image(path, number=None):
    """Open an image in a file of a microscope, lazily: what is known about it is read, but no pixel.

    Parameters
    ----------
    path : str or Path
        A file in TIFF, BigTIFF, OME-TIFF, SVS, CZI, ND2 or HDF5; a folder of TIFF files whose names differ in numbers alone,
        such as one file for each time point; or a Zarr 2, Zarr 3 or OME-Zarr store, or a group in one, also at an address:
        https://..., or s3://... as in `store_at`.
    number : int, optional
        Which image of a file that holds several (series, scenes, positions, wells, data sets), from 0.

    Returns
    -------
    Image
        ``array``: dask array of the file's numbers and dtype, with chunks of whole tiles, strips or planes. `write_verified`
        stores it as it is, and goes on after an interruption.
        ``axes``: a letter per axis: T time, C channel, Z, Y, X, S colours of a pixel, Q not named in the file.
        ``pixel_size``: dict axis -> micrometres, where the file says so. A resolution per inch or centimetre counts only
        if it means less than 20 micrometres: 72 dpi is that of a screen.
        ``channels``: their names, if stored. ``images``: all images in the file. ``notes``: what is missing or unusual.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If there is no such file or image, its format is not known, or one of several images must be chosen.
    StorageError
        If a file cannot be decoded or lacks parts, or the package that reads it is not installed. When pixels are read, also
        if the file has changed.
    """
    path = path if is_address(path) else os.path.abspath(path)
    open_format = format_of(path)
    with ExitStack() as closing:
        with decoding(what=path):
            stored = closing.enter_context(open_format(path))
        main = [n for n, one in enumerate(stored) if not one.aside]
        number = main[0] if number is None and len(main) == 1 else number
        one, number = chosen(stored, number, path), int(number or 0)
        with decoding(what=path):
            details = one.details()
    shape, dtype = tuple(map(int, one.shape)), np.dtype(one.dtype).newbyteorder("=")
    axes = "YX" if details.axes == "QQ" else details.axes  # of a plane there is no other choice
    if len(axes) != len(shape) or 0 in shape:
        raise StorageError(f"{path} names the axes {axes} of an image of shape {shape}. Save it again.")
    chunks = _chunks(shape, dtype.itemsize, details.pieces, axes)
    pixels = Pixels(path, number, shape, dtype, details.files)
    array = da.from_array(pixels, chunks, name=pixels.name(chunks), getitem=Pixels.read)
    pixel_size = {axis: details.pixel_size[axis] for axis in axes if axis in "ZYX" and axis in details.pixel_size}
    channels = details.channels if any(details.channels) else []
    images = [" ".join(f"{n}: {one.name} {tuple(one.shape)} {one.dtype}".split()) for n, one in enumerate(stored)]
    notes = [*details.notes, *_missing(axes, pixel_size, channels)]
    if len(images) > 1:
        notes.append(f"This is image {number} of {len(images)}, which `images` lists.")
    if (size := dtype.itemsize * prod(chunks)) > LARGE:
        notes.append(
            f"It is stored in pieces of {size / 2**20:.0f} MiB, read as a whole. Store it anew in smaller chunks."
        )
    return Image(array, axes, pixel_size, channels, images, notes)


def _missing(axes, pixel_size, channels):
    """Yield a sentence for all that a file does not say."""
    if "Q" in axes:
        unnamed = ", ".join(str(n) for n, axis in enumerate(axes) if axis == "Q")
        yield f"What lies along axis {unnamed} (Q) is not stored: time, depth or channels?"
    without = [axis for axis in axes if axis in "ZYX" and axis not in pixel_size]
    if without or not pixel_size:
        yield f"No pixel size is stored{' along ' * bool(without)}{', '.join(without)}."
    if "C" in axes and not channels:
        yield "The channels have no names."


def _chunks(shape, itemsize, pieces, axes):
    """Return a chunk shape: pieces of the file, joined to tiles of a plane, and small planes to blocks."""
    sizes = [size if axis == "S" else min(size, piece) for axis, size, piece in zip(axes, shape, pieces)]
    *others, row, column = [n for n, axis in enumerate(axes) if axis != "S"]
    for group in ((row, column), others):
        while growing := [n for n in group if sizes[n] < shape[n]]:
            n = min(growing, key=sizes.__getitem__) if group == (row, column) else growing[-1]
            longer = min(shape[n], 2 * sizes[n])
            if itemsize * prod(sizes) // sizes[n] * longer > JOINED:
                break
            sizes[n] = longer
    return tuple(sizes)
