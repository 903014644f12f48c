"""Writing to Zarr so that a store is complete, verified and in its place, or not there at all."""

import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.system import CPU_COUNT
from zarr.codecs import Crc32cCodec, ZstdCodec

from course_helpers._arguments import per_axis

# Every chunk ends with a checksum, so that damage is noticed when it is read.
CODECS = (ZstdCodec(level=3), Crc32cCodec())
# A chunk that holds zeros only is written as well, so that a missing file always means a lost one.
WRITE_ALL_CHUNKS = {"write_empty_chunks": True}


class StorageError(RuntimeError):
    """What is stored is not what should be stored; the message says where."""


def check_target(path, overwrite):
    """Return the path if something may be written there, or raise."""
    path = Path(os.path.abspath(path))  # "folder/.." has no name of its own
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}. Create it first.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or say overwrite=True to replace it.")
    if path.exists() and not any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        raise FileExistsError(f"{path} exists and is not a Zarr store, so it is not replaced. Choose another name.")
    return path


@contextmanager
def written_beside(path, overwrite):
    """Give the path of a sibling to write to, which gets the name `path` at the end; after an error, it is deleted."""
    path = check_target(path, overwrite)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        move_into_place(partial, path)
    finally:  # also after Ctrl+C or "Interrupt kernel"
        shutil.rmtree(partial, ignore_errors=True)


def move_into_place(partial, path):
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


def fitting(chunks, shape):
    """Return the chunk shape as a tuple of int, not larger than the image."""
    return tuple(map(min, per_axis(chunks, "chunks", len(shape), 1), shape))


def store_verified(image, target):
    """Write a dask array into a Zarr array, one task per file, and read back what each of them has written."""
    honest = image.map_blocks(_as_declared, dtype=image.dtype, meta=image._meta)
    # After an error, the pool waits for tasks that still write, so that the caller can clean up behind them.
    with ThreadPoolExecutor(dask.config.get("num_workers", CPU_COUNT)) as pool, dask.config.set(pool=pool):
        da.store(honest.rechunk(target.chunks), Verified(target), lock=False)


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
    except PermissionError:  # says nothing about the bytes
        raise
    except Exception:  # each codec has errors of its own
        return False
    return True
