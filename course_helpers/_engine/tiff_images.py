"""Images in TIFF files: which there are, how a region is read, and what is missing."""

import logging
import re
from contextlib import contextmanager
from math import prod

import numpy as np
import zarr
from tifffile import TiffFile

from course_helpers._arguments import whole_number
from course_helpers._engine.safe_writing import StorageError


@contextmanager
def decoding(where="", what="the TIFF file"):
    """Let all that goes wrong with the content of a file be a StorageError."""
    try:
        yield
    except (FileNotFoundError, PermissionError, ConnectionError, StorageError):
        raise
    except Exception as error:  # each format and compression has errors of its own
        raise StorageError(
            f"{what} cannot be read{where}: {error}. It may be damaged. If its compression is not known here, "
            "install the package that is named, or save the file again without compression or with zlib (deflate)."
        ) from error


@contextmanager
def images_of(tiff_path):
    """Open a TIFF file and give the list of its images; raise StorageError if it says that there should be more."""
    found = []
    handler, log = logging.Handler(logging.ERROR), logging.getLogger("tifffile")
    handler.emit = lambda record: found.append(record.getMessage())
    log.addHandler(handler)  # tifffile goes on without the pages that it does not find, and only logs it
    try:
        with decoding():
            file = TiffFile(tiff_path)
            images = file.series
    finally:
        log.removeHandler(handler)
    with file:
        lost = [text for text in found if re.search("invalid (page offset|offset to)|corrupted file", text)]
        if lost:
            raise StorageError(f"the TIFF file is damaged or cut off: {lost[0]}. Copy or save it again.")
        yield images


def chosen(images, number, what):
    """Return one of the images of a file; raise TypeError or ValueError if there is no such, or several to choose."""
    if not images:
        raise StorageError(f"{what} holds no image. It may be empty or cut off: save it again.")
    if number is None and len(images) > 1:
        listed = "; ".join(f"{n}: {image.name or 'image'} {image.shape}" for n, image in enumerate(images))
        raise ValueError(f"{what} holds {len(images)} images. Choose one, such as number=0, of {listed}.")
    return images[whole_number(number or 0, "number", 0, len(images) - 1)]


def tiff_reader(series):
    """Return a function that reads a region of a TIFF image, and the shape of the smallest piece that can be read."""
    refuse_gaps(series)
    file, dtype = series.keyframe.parent, series.dtype
    if series.is_multifile:
        series.dataoffset = None  # offsets in two files may fit by chance, and tifffile would read on in the first one
    if series.dataoffset is not None:
        # One run of bytes: any region can be read without the rest.
        in_file = dtype.newbyteorder(file.byteorder)

        def read(region):  # mapped anew each time, else all that was read so far would count as memory in use
            return np.memmap(file.filehandle.path, in_file, "r", series.dataoffset, series.shape)[region].astype(dtype)

        return read, (1,) * series.ndim
    view = zarr.open_array(series.aszarr(level=0), mode="r")
    return view.__getitem__, view.chunks


def refuse_gaps(series):
    """Raise StorageError if a part of a TIFF image is missing, which would read as zeros."""
    pages, remedy = list(series), "Put all files that belong to it into one folder"
    if series.kind not in ("ome", "mmstack") and ":BinaryOnly" in (series.parent.ome_metadata or "").replace("<", ":"):
        raise StorageError(f"the TIFF file is one part of an image in several files. {remedy}, and open the first one.")
    summary = series.parent.micromanager_metadata["Summary"] if series.kind == "mmstack" else {}
    declared = prod(max(int(summary.get(axis, 1)), 1) for axis in ("Channels", "Slices", "Frames", "Positions"))
    missing = max(declared - len(pages), 0) + sum(page is None for page in pages)
    if missing:
        raise StorageError(
            f"the TIFF file lacks {missing} of {max(declared, len(pages))} planes. {remedy}; if it was recorded only in part, "
            "export it again."
        )
    for page in pages:
        count = prod(page.keyframe.chunked)
        pieces = sorted(set(zip(page.dataoffsets, page.databytecounts)))  # (0, 0) stands for an empty piece
        overlap = any(start + size > after for (start, size), (after, _) in zip(pieces, pieces[1:]))
        half_empty = any((start == 0) != (size == 0) for start, size in pieces)
        if min(len(page.dataoffsets), len(page.databytecounts)) < count or overlap or half_empty:
            raise StorageError(f"plane {page.index} of the TIFF file is damaged: it does not say where its pixels are.")
