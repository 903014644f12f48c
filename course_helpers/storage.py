"""Safe storing in Zarr: count reads, write and verify, find damaged chunks, convert TIFF files, view pyramids."""

import os
import shutil
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
import tifffile
import yaozarrs
import zarr
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.system import CPU_COUNT
from yaozarrs.write.v05 import prepare_image
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore, WrapperStore

from course_helpers._arguments import dask_array, per_axis

# Every chunk ends with a checksum, so that damage is noticed when it is read.
CODECS = (ZstdCodec(level=3), Crc32cCodec())
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
# A chunk that holds zeros only is written as well, so that a missing file always means a lost one.
WRITE_ALL_CHUNKS = {"write_empty_chunks": True}
SMALLEST_LEVEL = 256  # pixels along the longer side of a pyramid's coarsest level, at most


class StorageError(RuntimeError):
    """What is stored is not what should be stored; the message says where."""


class CountingStore(WrapperStore):
    """A Zarr store that notes every read: ``reads`` is a list of (key, bytes), one entry per request.

    Metadata, such as ``zarr.json``, are not noted. A chunk that is not there is noted with 0 bytes. ``reads.clear()`` counts anew.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store
        A folder, or any other store to read through.

    Examples
    --------
    >>> store = CountingStore(zarr.storage.MemoryStore())
    >>> array = zarr.create_array(store, shape=(4, 4), chunks=(2, 2), dtype="uint8")
    >>> array[:] = 1
    >>> pixels = array[0]
    >>> store.chunks_read
    ['c/0/0', 'c/0/1']
    """

    def __init__(self, store, reads=None):
        super().__init__(LocalStore(store) if isinstance(store, (str, os.PathLike)) else store)
        self.reads = [] if reads is None else reads

    def _with_store(self, store):  # Zarr opens a read-only twin: both note into the same list
        return type(self)(store, self.reads)

    async def get(self, key, prototype, byte_range=None):
        """Read through the other store, and note it."""
        value = await super().get(key, prototype, byte_range)
        if not key.endswith(METADATA):
            self.reads.append((key, 0 if value is None else len(value)))
        return value

    # Other ways to read (from Zarr 3.4 on also get_ranges and get_sync) end in `get`, which counts, or are not offered
    _get_many, get_ranges = Store._get_many, getattr(Store, "get_ranges", None)
    get_partial_values = get_sync = None

    @property
    def chunks_read(self):
        """Names of the chunks (or shards) read so far, sorted, each once."""
        return sorted({key for key, _ in self.reads})

    @property
    def bytes_read(self):
        """Bytes of pixel data that came out of the store so far."""
        return sum(size for _, size in self.reads)


class StoreReport(NamedTuple):
    """What `check_store` found; positions are (row, column, ...) in the grid of chunk files, counted from 0."""

    files: int
    missing: list
    damaged: list
    has_checksums: bool


def open_stored(path):
    """Open a Zarr 3 array for reading; raise FileNotFoundError or ValueError if there is none."""
    path = Path(path)
    if any((path / name).is_file() for name in (".zarray", ".zgroup")):
        raise ValueError(
            f"{path} is in Zarr format 2, but must be in format 3. Read it with dask.array.from_zarr and store it anew "
            "with write_verified."
        )
    node = zarr.open(path, mode="r", zarr_format=3)
    if isinstance(node, zarr.Group):
        arrays = ", ".join(sorted(node.array_keys()))
        raise ValueError(f"{path} is a group of arrays, but must be an array. Open one of them: {arrays}.")
    return node


def write_verified(image, path, chunks=None, compressors=CODECS, overwrite=False):
    """Store an image in Zarr 3 chunk by chunk, read all of it back, and only then give it its name.

    Dask chunks are merged or cut so that no two tasks write into the same file. Until everything is written and verified,
    the store has another name beside `path`; if anything fails, `path` is what it was before.

    Parameters
    ----------
    image : dask.array.Array or numpy.ndarray
        Of numbers or booleans, with known chunk sizes.
    path : str or Path
        The folder to write, for example ``"result.zarr"``.
    chunks : tuple of int, optional
        Shape of a Zarr chunk, by default that of the largest dask chunk.
    compressors : sequence of zarr.abc.codec.BytesBytesCodec
        By default Zstandard and a checksum.
    overwrite : bool
        Whether an existing Zarr store may be replaced. Nothing but a Zarr store ever is.

    Returns
    -------
    zarr.Array, opened for reading

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.
    FileExistsError
        If `path` exists and may not be overwritten.
    StorageError
        If a block does not have the shape or dtype that the image declares, or reads back differently.
    """
    image, path = dask_array(da.asanyarray(image), "image"), _check_target(path, overwrite)
    chunks = _fitting(chunks or image.chunksize, image.shape)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")  # a sibling, so that renaming is one step
    try:
        target = zarr.create_array(
            partial,
            shape=image.shape,
            dtype=image.dtype,
            chunks=chunks,
            compressors=compressors,
            config=WRITE_ALL_CHUNKS,
        )
        _store_verified(image, target)
        _move_into_place(partial, path)
    finally:  # also after Ctrl+C or "Interrupt kernel"
        shutil.rmtree(partial, ignore_errors=True)
    return open_stored(path)


def check_store(path):
    """Read every chunk file of a Zarr 3 array, and tell which are missing or damaged.

    A missing file is reported, although reading it gives the fill value. It may be an empty part of the image, unless the
    store was written by `write_verified` or `convert_tiff`, which write empty parts as well. Damage is noticed for certain
    only where ``has_checksums`` is True; else only if the bytes can no longer be decoded.

    Returns
    -------
    StoreReport
        (files, missing, damaged, has_checksums); with shards, a position is that of a shard.

    Raises
    ------
    FileNotFoundError, ValueError
        Like `open_stored`.
    """
    array = open_stored(path)
    unit = array.shards or array.chunks
    grid = list(np.ndindex(*(-(-size // step) for size, step in zip(array.shape, unit))))
    missing = [place for place in grid if not (Path(path) / array.metadata.encode_chunk_key(place)).is_file()]
    damaged = [place for place in sorted(set(grid) - set(missing)) if not _is_readable(array, _region(place, unit))]
    return StoreReport(len(grid), missing, damaged, _has_checksums(array))


def convert_tiff(tiff_path, path, chunks=(512, 512), overwrite=False, max_memory=2**28, progress=iter):
    """Convert the first image of a TIFF file to a Zarr 3 array, piece by piece; run it again to resume.

    Under way, the store is called `path` + ".partial". When the conversion is interrupted, the next call with the same
    arguments keeps each piece that reads back without damage and goes on with the others. If the TIFF file or the chunks
    have changed in the meantime, it starts anew.

    Parameters
    ----------
    tiff_path : str or Path
        Tiled, in strips, or of many pages; of a pyramid, the finest level is converted.
    path : str or Path
        The folder to write.
    chunks : tuple of int
        Chunk shape along the last axes. Along axes in front, a chunk has the size 1.
    overwrite : bool
        Whether an existing Zarr store at `path` may be replaced.
    max_memory : int
        Most bytes that one piece may take. A piece consists of whole chunks and whole tiles or strips of the TIFF.
    progress : callable
        Gets the list of pieces and returns an iterable: ``tqdm`` shows a progress bar.

    Returns
    -------
    zarr.Array, opened for reading

    Raises
    ------
    FileNotFoundError, FileExistsError, TypeError, ValueError
        If an argument cannot be used, or a piece would take more than `max_memory`.
    StorageError
        If the TIFF file cannot be decoded or changes while it is converted, or a piece reads back differently.
    """
    path = _check_target(path, overwrite)
    with tifffile.TiffFile(tiff_path) as file:
        read, shape, dtype, tiff_chunks = _tiff_reader(file.series[0])
        chunks = _fitting((1,) * (len(shape) - len(chunks)) + tuple(chunks), shape)
        pieces = _pieces(shape, dtype, chunks, tiff_chunks, max_memory)
        partial, source = path.with_name(f"{path.name}.partial"), _fingerprint(tiff_path)
        target = _resumable(partial, source, shape=shape, dtype=dtype, chunks=chunks)
        for region in progress(pieces):
            if not _is_complete(target, partial, region):
                _copy_piece(read, target, region)
        if _fingerprint(tiff_path) != source:
            raise StorageError(f"{tiff_path} has changed while it was converted. Run the conversion again.")
    _move_into_place(partial, path)
    return open_stored(path)


def write_pyramid(image, path, pixel_size, unit="micrometer", chunks=(512, 512), overwrite=False):
    """Store a two-dimensional image as OME-Zarr 0.5: a pyramid whose levels shrink by 2, with physical pixel sizes.

    Levels shrink until both sides are at most 256 pixels long. Each is computed from the level below as it is on disk, so
    that the image need never fit into memory. A pixel is
    the mean of 2 x 2 pixels of the level below, rounded down. The written metadata place its centre between theirs.

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

    Returns
    -------
    list of zarr.Array
        The levels, finest first.

    Raises
    ------
    TypeError, ValueError, FileExistsError, StorageError
        Like `write_verified`; and ValueError if pixel size or unit cannot be used.

    Notes
    -----
    Axes, scale and translation follow https://ngff.openmicroscopy.org/0.5/. Codecs are the default of yaozarrs, which any
    reader of OME-Zarr knows; they have no checksum.
    """
    image, path = dask_array(da.asanyarray(image), "image"), _check_target(path, overwrite)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        arrays = create_pyramid(partial, image.shape, image.dtype, pixel_size, unit, chunks)
        for level, array in enumerate(arrays):
            pixels = image if level == 0 else _halved(da.from_zarr(arrays[level - 1]))
            _store_verified(pixels, array)
        _move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_pyramid(path)


def create_pyramid(path, shape, dtype, pixel_size, unit="micrometer", chunks=(512, 512)):
    """Create an OME-Zarr 0.5 pyramid without pixels in it, and return its levels as writable arrays, finest first.

    Parameters are those of `write_pyramid`; TypeError or ValueError if one of them cannot be used.
    """
    if len(shape) != 2:
        raise ValueError(f"image has shape {tuple(shape)}, but must be two-dimensional. Store planes one by one.")
    if not pixel_size > 0:
        raise ValueError(f"pixel_size is {pixel_size!r}, but must be a positive number.")
    shapes = [tuple(shape)]
    while max(shapes[-1]) > SMALLEST_LEVEL:
        shapes.append(tuple(-(-size // 2) for size in shapes[-1]))
    datasets = []
    for level in range(len(shapes)):
        size, shift = pixel_size * 2**level, pixel_size * (2**level - 1) / 2  # the first centre moves inwards
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [size, size]},
                    {"type": "translation", "translation": [shift, shift]},
                ],
            }
        )
    axes = [{"name": name, "type": "space", "unit": unit} for name in "yx"]
    metadata = yaozarrs.v05.Image(multiscales=[{"axes": axes, "datasets": datasets}])
    _, arrays = prepare_image(path, metadata, [(size, dtype) for size in shapes], chunks=tuple(chunks), writer="zarr")
    return [arrays[str(level)] for level in range(len(shapes))]


def open_pyramid(store):
    """Open the levels of an OME-Zarr 0.5 image for reading, finest first.

    `store` is a path, an address or a Zarr store. Raises ValueError if it holds no OME-Zarr image.
    """
    group = zarr.open_group(store, mode="r")
    if "multiscales" not in group.attrs.get("ome", {}):
        raise ValueError(f"{store} is no OME-Zarr 0.5 image: its zarr.json lists no multiscales.")
    return [group[dataset["path"]] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]


def _halved(image):
    """Return a dask array of half the height and width: means of 2 x 2 pixels, rounded down for whole numbers.

    Where a side is odd, the last row or column counts twice.
    """
    even = da.pad(image, [(0, size % 2) for size in image.shape], mode="edge")
    return da.coarsen(np.mean, even, dict.fromkeys(range(image.ndim), 2)).astype(image.dtype)


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
        Up to twice as many rows and columns as the screen has; fewer at the edge of the image.
    level : int
        Where they come from.
    extent : tuple of four float
        Left, right, bottom, top in pixels of the finest level, for matplotlib's ``imshow``.

    Raises
    ------
    ValueError
        If no pixel lies on the screen.
    """
    level = int(np.clip(np.floor(np.log2(1 / zoom)), 0, len(levels) - 1))
    factor, shape = 2**level, levels[level].shape
    starts = [max(0, int((middle - side / 2 / zoom) // factor)) for middle, side in zip(center, screen)]
    stops = [
        min(size, int(-(-(middle + side / 2 / zoom) // factor))) for middle, side, size in zip(center, screen, shape)
    ]
    if min(np.subtract(stops, starts)) <= 0:
        raise ValueError(f"center {tuple(center)} with zoom {zoom} shows no pixel of an image of {levels[0].shape}.")
    window = tuple(slice(start, stop) for start, stop in zip(starts, stops))
    extent = tuple(factor * edge for edge in (starts[1], stops[1], stops[0], starts[0]))
    return np.asarray(levels[level][window]), level, extent


def _check_target(path, overwrite):
    """Return the path if something may be written there, or raise."""
    path = Path(os.path.abspath(path))  # "folder/.." has no name of its own
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}. Create it first.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or say overwrite=True to replace it.")
    if path.exists() and not any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        raise FileExistsError(f"{path} exists and is not a Zarr store, so it is not replaced. Choose another name.")
    return path


def _move_into_place(partial, path):
    """Give a finished store its name; what had this name is put aside before and deleted after."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.old")
    if path.exists():
        os.replace(path, aside)
    try:
        os.replace(partial, path)
    except OSError:
        if aside.exists():
            os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _fitting(chunks, shape):
    """Return the chunk shape as a tuple of int, not larger than the image."""
    return tuple(map(min, per_axis(chunks, "chunks", len(shape), 1), shape))


def _store_verified(image, target):
    """Write a dask array into a Zarr array, one task per file, then read everything back and compare checksums."""
    honest = image.map_blocks(_as_declared, dtype=image.dtype, meta=image._meta)
    # After an error, the pool waits for tasks that still write, so that the caller can clean up behind them.
    with ThreadPoolExecutor(dask.config.get("num_workers", CPU_COUNT)) as pool, dask.config.set(pool=pool):
        written = _per_block(_write_block, honest.rechunk(target.chunks), target=target)
        stored = _per_block(_checksum_block, da.from_zarr(target, chunks=target.chunks))
    if len(different := np.argwhere(written != stored)):
        raise StorageError(
            f"{len(different)} of {written.size} pieces do not read back as they were written, the first "
            f"is number {tuple(different[0].tolist())}. Is the disk full or damaged?"
        )


def _as_declared(block, block_info):
    """Return the block; raise StorageError if it is not what the dask array says about it."""
    declared = block_info[None]
    found, expected = (block.shape, block.dtype), (tuple(declared["chunk-shape"]), declared["dtype"])
    if found != expected:
        raise StorageError(
            f"block {tuple(declared['chunk-location'])} is {found[0]} {found[1]}, but the image declares "
            f"{expected[0]} {expected[1]}. Give map_blocks the right dtype= and chunks=."
        )
    return block


def _per_block(function, image, **options):
    """Compute one whole number for each block of an image."""
    ones = tuple((1,) * count for count in image.numblocks)
    return image.map_blocks(function, chunks=ones, meta=np.empty((0,) * image.ndim, np.uint32), **options).compute()


def _write_block(block, target, block_info):
    """Write a block to where it belongs and return its checksum."""
    target[tuple(slice(*edges) for edges in block_info[0]["array-location"])] = block
    return _checksum_block(block)


def _checksum_block(block):
    """Return the checksum of a block as an array with one pixel."""
    return np.full((1,) * block.ndim, _checksum(block), np.uint32)


def _checksum(pixels):
    """Return the CRC-32 of an array's bytes: equal for equal arrays of one shape and dtype, also where pixels are NaN."""
    return zlib.crc32(np.ascontiguousarray(pixels).view(np.uint8))


def _region(place, unit):
    """Return the slices of the pixels that belong to a place in the grid of chunks."""
    return tuple(slice(number * size, (number + 1) * size) for number, size in zip(place, unit))


def _is_readable(array, region):
    """Tell whether the chunks of a region can be decoded, and have the right checksums if they have any."""
    try:
        array[region]
    except PermissionError:  # says nothing about the bytes
        raise
    except Exception:  # each codec has errors of its own
        return False
    return True


def _has_checksums(array):
    """Tell whether a codec of the array notices every damage."""
    return any(
        isinstance(codec, (Crc32cCodec, GzipCodec)) or isinstance(codec, ZstdCodec) and codec.checksum
        for codec in array.compressors
    )


def _tiff_reader(series):
    """Return a function that reads a region of a TIFF image, its shape, dtype, and the shape of its smallest piece."""
    file, dtype = series.parent, series.dtype
    if series.dataoffset is not None:  # one run of bytes: any region can be read without the rest
        in_file = dtype.newbyteorder(file.byteorder)

        def read(region):  # mapped anew each time, else all that was read so far would count as memory in use
            return np.memmap(file.filehandle.path, in_file, "r", series.dataoffset, series.shape)[region].astype(dtype)

        return read, series.shape, dtype, (1,) * series.ndim
    view = zarr.open_array(series.aszarr(level=0), mode="r")
    return view.__getitem__, view.shape, view.dtype, view.chunks


def _copy_piece(read, target, region):
    """Copy a region of a TIFF image into a Zarr array, and compare what is stored with what was read."""
    try:
        pixels = read(region)
    except Exception as error:  # each compression has errors of its own
        raise StorageError(
            f"the TIFF file cannot be read at {region}: {error}. It may be damaged. If its compression is not known here, "
            "install the package that is named, or save the file again without compression or with zlib (deflate)."
        ) from error
    target[region] = pixels
    if _checksum(target[region]) != _checksum(pixels):
        raise StorageError(f"the piece {region} does not read back as it was written. Is the disk full?")


def _pieces(shape, dtype, chunks, tiff_chunks, max_memory):
    """Return regions of whole chunks, each at least as large as a TIFF tile, strip or page, and as long as fits."""
    sizes = [min(size, chunk * -(-tile // chunk)) for size, chunk, tile in zip(shape, chunks, tiff_chunks)]
    needed = 8 * dtype.itemsize  # bytes per pixel: decoded, copied, compressed, read back; half of it was measured
    allowed = max_memory // needed
    if prod(sizes) > allowed:
        raise ValueError(
            f"one piece of {tuple(sizes)} pixels takes {needed * prod(sizes)} bytes of memory, but "
            f"max_memory is {max_memory}. The TIFF file can only be read in pieces of {tuple(tiff_chunks)}: "
            "choose smaller chunks or allow more memory."
        )
    for axis in reversed(range(len(shape))):  # fewer and longer pieces are faster
        fits = allowed // (prod(sizes) // sizes[axis])
        sizes[axis] = min(shape[axis], fits // sizes[axis] * sizes[axis])
    return slices_from_chunks(normalize_chunks(tuple(sizes), shape))


def _fingerprint(tiff_path):
    """Return what tells one TIFF file from another or a changed one: size, time of change, checksum of both ends."""
    status = os.stat(tiff_path)
    with open(tiff_path, "rb") as file:
        start = file.read(2**16)
        file.seek(-min(2**16, status.st_size), os.SEEK_END)
        return {
            "bytes": status.st_size,
            "changed": status.st_mtime_ns,
            "ends": [zlib.crc32(start), zlib.crc32(file.read())],
        }


def _resumable(partial, source, **layout):
    """Open the store of an interrupted conversion of the same source; if there is none, create it."""
    if (partial / "zarr.json").is_file():
        target = zarr.open_array(partial, mode="r+")
        if target.attrs.get("source") == source and all(getattr(target, key) == value for key, value in layout.items()):
            return target
    return zarr.create_array(
        partial, compressors=CODECS, config=WRITE_ALL_CHUNKS, attributes={"source": source}, overwrite=True, **layout
    )


def _is_complete(target, partial, region):
    """Tell whether all chunks of a region are there and undamaged."""
    places = product(*(range(part.start // size, -(-part.stop // size)) for part, size in zip(region, target.chunks)))
    files = (partial / target.metadata.encode_chunk_key(place) for place in places)
    return all(file.is_file() for file in files) and _is_readable(target, region)
