"""Safe storing in Zarr: count what is read, write and verify, find missing and damaged chunks."""

import os
from pathlib import Path
from typing import NamedTuple

import dask.array as da
import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore, WrapperStore

from course_helpers._arguments import dask_array
from course_helpers._engine.safe_writing import (
    CODECS,
    OF_FILES,
    WRITE_ALL_CHUNKS,
    StorageError,
    fitting,
    is_readable,
    store_verified,
    written_beside,
    zarr_dtype,
)
from course_helpers.buckets import file_sizes, store_at

__all__ = ["CODECS", "CountingStore", "StorageError", "StoreReport", "check_store", "open_stored", "write_verified"]
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class CountingStore(WrapperStore):
    """A Zarr store that notes every read: ``reads`` is a list of (key, bytes), one entry per request.

    Metadata, such as ``zarr.json``, are not noted. A chunk that is not there is noted with 0 bytes. ``reads.clear()``
    counts anew. `store` is a folder, an address as in `store_at`, or any other Zarr store to read through.

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
        store = store_at(store)
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


def open_stored(path):
    """Open a Zarr 3 array at a path or an address for reading; raise FileNotFoundError or ValueError if there is none."""
    if any((Path(path) / name).is_file() for name in (".zarray", ".zgroup")):
        raise ValueError(f"{path} is in Zarr format 2, but must be in format 3. Store it anew with write_verified.")
    node = zarr.open(store_at(path), mode="r", zarr_format=3)
    if isinstance(node, zarr.Group):
        arrays = ", ".join(sorted(node.array_keys()))
        raise ValueError(f"{path} is a group of arrays, but must be an array. Open one of them: {arrays}.")
    return node


def write_verified(image, path, chunks=None, compressors=CODECS, overwrite=False):
    """Store an image in Zarr 3 chunk by chunk, read all of it back, and only then give it its name.

    Dask chunks are merged or cut so that no two tasks write into the same file. If anything fails, `path` is what it was
    before.

    Under way, all lies in the folder `path` + ".partial". If `image` is the array that `open_image` gives, as it is, this folder
    outlives an error, an interruption or a kill: the next call with the same arguments keeps each chunk that reads back without
    damage, and goes on with the others. It starts anew if a file has changed, for an image that is computed or comes from a Zarr
    store (nothing tells whether it is still the same), and with `compressors` that do not notice every damage.

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
    zarr.Array, opened for reading, of the image's dtype in the byte order of the computer

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, FileExistsError
        If an argument cannot be used, or `path` exists and may not be overwritten; or a block is masked, has not the
        declared shape, or holds numbers that do not fit into the declared dtype.
    StorageError
        If a block reads back differently, or what `open_image` raises when it reads.
    """
    image = dask_array(da.asanyarray(image), "image")
    chunks = fitting(image.chunksize if chunks is None else chunks, image.shape)
    layout = {"shape": image.shape, "dtype": zarr_dtype(image.dtype), "chunks": chunks, "compressors": compressors}
    planned = zarr.create_array({}, **layout)
    resumes = image.name.startswith(OF_FILES) and any(map(_notices_damage, planned.compressors))
    source = [image.name, planned.metadata.to_dict()] if resumes else None
    with written_beside(path, overwrite, source) as partial:
        for file in [partial / "zarr.json", *partial.rglob("*.partial")]:
            file.unlink(missing_ok=True)  # an earlier run may have left it half written
        target, report = zarr.create_array(partial, config=WRITE_ALL_CHUNKS, **layout), check_store(partial)
        store_verified(image, target, report.missing + report.damaged)
    return open_stored(path)


class StoreReport(NamedTuple):
    """What `check_store` found; positions are (row, column, ...) in the grid of chunk (or shard) files, from 0."""

    files: int
    missing: list
    damaged: list
    has_checksums: bool


def check_store(path):
    """Read every chunk file of a Zarr 3 array, and tell which are missing or damaged.

    A missing file is reported, although reading it gives the fill value. It may be an empty part of the image, unless the
    store was written by `write_verified`, which writes empty parts as well. Damage is noticed for certain only where
    ``has_checksums`` is True; else only if the bytes can no longer be decoded.

    `path` is a folder, or an address as in `store_at`. Returns a `StoreReport`; raises FileNotFoundError or ValueError if there
    is no array in Zarr format 3.
    """
    array, sizes = open_stored(path), file_sizes(path)
    unit = array.shards or array.chunks
    report = StoreReport(0, [], [], any(map(_notices_damage, array.compressors)))
    grid = [-(-size // step) for size, step in zip(array.shape, unit)]
    for place in np.ndindex(*grid):
        region = tuple(slice(number * size, (number + 1) * size) for number, size in zip(place, unit))
        file = array.metadata.encode_chunk_key(place)
        if file not in sizes:
            report.missing.append(place)
        elif not sizes[file] or not is_readable(array, region):  # an empty shard would read as the fill value
            report.damaged.append(place)
    return report._replace(files=int(np.prod(grid)))


def _notices_damage(codec):
    """Tell whether a codec notices every damage."""
    return isinstance(codec, (Crc32cCodec, GzipCodec)) or isinstance(codec, ZstdCodec) and codec.checksum
