"""Reading a TIFF image in pieces that fit into memory, and going on where an interrupted conversion stopped."""

import os
from itertools import product
from math import prod

import numpy as np
import zarr
from dask.array.core import normalize_chunks, slices_from_chunks

from course_helpers._engine.safe_writing import CODECS, WRITE_ALL_CHUNKS, StorageError, Verified, is_readable


def tiff_reader(series):
    """Return a function that reads a region of a TIFF image, its shape, dtype, and the shape of its smallest piece."""
    file, dtype = series.parent, series.dtype
    if series.dataoffset is not None:  # one run of bytes: any region can be read without the rest
        in_file = dtype.newbyteorder(file.byteorder)

        def read(region):  # mapped anew each time, else all that was read so far would count as memory in use
            return np.memmap(file.filehandle.path, in_file, "r", series.dataoffset, series.shape)[region].astype(dtype)

        return read, series.shape, dtype, (1,) * series.ndim
    view = zarr.open_array(series.aszarr(level=0), mode="r")
    return view.__getitem__, view.shape, view.dtype, view.chunks


def copy_piece(read, target, region):
    """Copy a region of a TIFF image into a Zarr array; raise StorageError if it cannot be read, or not be read back."""
    try:
        pixels = read(region)
    except Exception as error:  # each compression has errors of its own
        raise StorageError(
            f"the TIFF file cannot be read at {region}: {error}. It may be damaged. If its compression is not known here, "
            "install the package that is named, or save the file again without compression or with zlib (deflate)."
        ) from error
    Verified(target)[region] = pixels


def pieces_of(shape, dtype, chunks, tiff_chunks, max_memory):
    """Return regions of whole chunks, each at least as large as a TIFF tile, strip or page, and as long as fits."""
    sizes = [min(size, chunk * -(-tile // chunk)) for size, chunk, tile in zip(shape, chunks, tiff_chunks)]
    needed = 8 * dtype.itemsize  # bytes per pixel: decoded, copied, compressed, read back; half of it was measured
    allowed = max_memory // needed
    if prod(sizes) > allowed:
        raise ValueError(
            f"max_memory is {max_memory}, but must be at least {needed * prod(sizes)} bytes for a piece of {tuple(sizes)} "
            f"pixels. The TIFF file can only be read in pieces of {tuple(tiff_chunks)}: choose smaller chunks or allow more."
        )
    for axis in reversed(range(len(shape))):  # fewer and longer pieces are faster
        fits = allowed // (prod(sizes) // sizes[axis])
        sizes[axis] = min(shape[axis], fits // sizes[axis] * sizes[axis])
    return slices_from_chunks(normalize_chunks(tuple(sizes), shape))


def fingerprint(tiff_path):
    """Return what tells a TIFF file from another or a changed one: its size in bytes, and when it changed."""
    status = os.stat(tiff_path)
    return [status.st_size, status.st_mtime_ns]


def resumable(partial, source, **layout):
    """Open the store of an interrupted conversion of the same source; if there is none, create it."""
    if (partial / "zarr.json").is_file():
        target = zarr.open_array(partial, mode="r+")
        if target.attrs.get("source") == source and all(getattr(target, key) == value for key, value in layout.items()):
            return target
    layout.update(compressors=CODECS, config=WRITE_ALL_CHUNKS, attributes={"source": source})
    return zarr.create_array(partial, overwrite=True, **layout)


def is_complete(target, partial, region):
    """Tell whether all chunks of a region are there and undamaged."""
    places = product(*(range(part.start // size, -(-part.stop // size)) for part, size in zip(region, target.chunks)))
    files = (partial / target.metadata.encode_chunk_key(place) for place in places)
    return all(file.is_file() for file in files) and is_readable(target, region)
