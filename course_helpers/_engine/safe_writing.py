"""Writing to Zarr so that a store is complete, verified and in its place, or not there at all."""

import errno
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.base import compute_as_if_collection
from dask.highlevelgraph import HighLevelGraph
from dask.system import CPU_COUNT
from zarr.codecs import Crc32cCodec, ZstdCodec

from course_helpers._arguments import as_declared, per_axis

# Every chunk ends with a checksum, so that damage is noticed when it is read.
CODECS = (ZstdCodec(level=3), Crc32cCodec())
# A chunk that holds zeros only is written as well, so that a missing file always means a lost one.
WRITE_ALL_CHUNKS = {"write_empty_chunks": True}
# This file marks a folder of ours, and says what the unfinished store in it is made from. Nothing else is ever deleted.
MARK = "unfinished.json"
# So begins the name of a dask array that holds what is in files, and nothing else. No function has a name with a space.
OF_FILES = "image file-"
BATCH = 100  # chunks that one dask graph writes of such an array: a task takes some kilobytes


class StorageError(RuntimeError):
    """What is stored is not what should be stored; the message says where."""


@contextmanager
def written_beside(path, overwrite, source=None):
    """Give a place to write a store to, which gets the name `path` at the end; meanwhile nobody else may write it.

    All lies in the folder `path` + ".partial", which is deleted after an error. With a `source`, it is kept, and given again
    to whoever has the same source.
    """
    if re.match(r"\w\w+:/", str(path)):
        raise ValueError(
            f"{path} is an address, but must be a folder. Write there, then copy it with upload of course_helpers.buckets."
        )
    path = Path(os.path.realpath(path))  # where a link leads to; "folder/.." has no name of its own
    partial, aside = path.with_name(f"{path.name}.partial"), path.with_name(f".{path.name}.replaced")
    with held(path):
        put_back(aside, path)  # another run was killed before it had replaced the store, or before it could clean up
        check_target(path, overwrite)
        begin(aside)
        store = partial / "store"
        try:
            begin(partial, source)
            yield store
            check_target(path, overwrite)  # it may have come into being
            if path.exists():
                os.replace(path, aside / "store")
            os.replace(store, path)
        finally:  # also after Ctrl+C or "Interrupt kernel"
            put_back(aside, path)
            if not (source and store.exists()):
                discard(partial)


@contextmanager
def held(path):
    """Keep all others from writing to a path. A killed process leaves a hidden empty file behind, which locks nothing."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}. Create it first.")
    name = path.with_name(f".{path.name}.lock")
    with open(name, "a") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = os.stat(name)  # another file, if who held it has just deleted it
            is_ours = os.path.samestat(os.fstat(file.fileno()), now) and now.st_size == 0
        except OSError as error:  # any other: a drive that knows no locks
            is_ours = error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.ENOENT)
        if not is_ours:
            raise FileExistsError(
                f"{path} is being written by somebody else. Wait until that is done. Or is {name} yours? Then move it."
            )
        try:
            yield
        finally:
            if os.name == "nt":
                file.close()  # Windows deletes no open file
            with suppress(OSError):
                name.unlink()


def check_target(path, overwrite):
    """Raise FileExistsError if there is something at a path that may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or say overwrite=True to replace it.")
    if path.exists() and not any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        raise FileExistsError(f"{path} exists and is not a Zarr store, so it is not replaced. Choose another name.")


def begin(folder, source=None):
    """Make and mark a folder, or keep one of the same source; raise FileExistsError if there is one that is not ours."""
    mark = folder / MARK
    if os.path.lexists(folder) and not mark.is_file():
        raise FileExistsError(
            f"{folder} exists, but holds no unfinished store. Move or delete it, as its name is needed."
        )
    if not source or not mark.is_file() or mark.read_text() != json.dumps(source):
        discard(folder)
        folder.mkdir()
        mark.write_text(json.dumps(source))


def discard(folder):
    """Delete a folder if it is ours; its mark comes last, so that the next run goes on if this one is killed."""
    if (folder / MARK).is_file():
        with suppress(OSError):
            for part in set(folder.iterdir()) - {folder / MARK}:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
            shutil.rmtree(folder)


def put_back(aside, path):
    """Give a store that was put aside its name again, unless another one has it by now, which replaces it."""
    if (aside / "store").exists() and (aside / MARK).is_file() and not path.exists():
        os.replace(aside / "store", path)
    discard(aside)


def zarr_dtype(dtype):
    """Return a dtype as Zarr knows it: "long" and "long long" are one to NumPy, but not to Zarr."""
    return np.dtype(np.dtype(dtype).str)


def fitting(chunks, shape):
    """Return the chunk shape as a tuple of int, not larger than the image."""
    return tuple(map(min, per_axis(chunks, "chunks", len(shape), 1), shape))


def store_verified(image, target, places=None):
    """Write chunks of a dask array into a Zarr array, at some places or all, one task per file, and read each of them back."""
    of_files, image = image.name.startswith(OF_FILES), as_declared(image, "image")
    places = list(np.ndindex(target.cdata_shape) if places is None else places)
    # What is computed is not cut into batches: the same might be computed for several of them.
    batches = _batches(image.chunksize, target.chunks, places) if of_files else [places]
    # After an error, the pool waits for tasks that still write, so that the caller can clean up behind them.
    with ThreadPoolExecutor(dask.config.get("num_workers", CPU_COUNT)) as pool, dask.config.set(pool=pool):
        for batch in filter(None, batches):
            _store_batch(image, target, np.array(batch))


def _batches(blocks, chunks, places):
    """Yield places of chunks, block by block, so that a graph takes little memory, and few blocks are read more than once."""
    blocks = np.maximum(blocks, chunks)
    ordered = sorted(places, key=lambda place: (tuple(np.multiply(place, chunks) // blocks), place))
    count = max(BATCH, 2 * int(np.prod(-(-blocks // chunks))))
    for start in range(0, len(places), count):
        yield ordered[start : start + count]


def _store_batch(image, target, places):
    """Write the chunks at these places."""
    low, high = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(map(slice, low * target.chunks, np.minimum(high * target.chunks, target.shape)))
    part = image[box].rechunk(target.chunks)
    lazy = {"compute": False, "return_stored": True, "load_stored": False}
    stored = da.store(part, Verified(target), lock=False, regions=box, **lazy)
    keys = [(stored.name, *place) for place in (places - low).tolist()]
    # One task at the end: dask orders many that wait for the same, such as the mean of the image, in gigabytes.
    graph = HighLevelGraph.from_collections("stored", {"stored": (len, keys)}, dependencies=[stored])
    compute_as_if_collection(da.Array, graph, "stored")


class Verified:
    """A Zarr array that raises StorageError if pixels do not read back, bit by bit, as they were written."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __setitem__(self, region, pixels):
        self.array[region] = pixels
        if self.array[region].tobytes() != np.asarray(pixels).tobytes():  # bytes, because NaN is not equal to itself
            raise StorageError(f"the piece {region} does not read back as it was written. Is the disk full or damaged?")


def is_readable(array, region):
    """Tell whether the chunks of a region can be decoded, and have the right checksums if they have any."""
    try:
        array[region]
    except (PermissionError, ConnectionError):  # say nothing about the bytes
        raise
    except Exception:  # each codec has errors of its own
        return False
    return True
