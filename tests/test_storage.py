"""Storing: counted reads, verified writing, damage, conversion of TIFF files, pyramids."""

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections import UserDict
from fractions import Fraction
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from zarr.storage import MemoryStore, WrapperStore

from course_helpers import storage, tiff
from course_helpers._engine import safe_writing
from course_helpers.pyramids import create_pyramid, open_pyramid, view_window, write_pyramid
from course_helpers.slide import nuclei_slide
from course_helpers.storage import CountingStore, StorageError, check_store, open_stored, write_verified
from course_helpers.tiff import convert_tiff


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(256, size=(120, 170), dtype=np.uint8)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(path, position=-10):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


# Counted reads


def test_every_read_is_counted(tmp_path, image):
    write_verified(image, tmp_path / "a.zarr", chunks=(50, 50), compressors=None)
    store = CountingStore(tmp_path / "a.zarr")
    array = zarr.open_array(store, mode="r")
    lazy = da.from_zarr(array)
    assert store.reads == [] and lazy.shape == image.shape
    assert np.array_equal(lazy[40:60, 10:20].compute(), image[40:60, 10:20])
    assert store.chunks_read == ["c/0/0", "c/1/0"] and store.bytes_read == 2 * 50 * 50
    store.reads.clear()
    assert (array[:] == image).all() and len(store.reads) == 3 * 4


class WatchedValue:
    """Bytes that note how many of them are taken."""

    def __init__(self, content, note):
        self.content, self.note = content, note

    def __len__(self):
        return len(self.content)

    def __getitem__(self, part):
        self.note(len(self.content[part]))
        return self.content[part]


class WatchedValues(UserDict):
    """What a MemoryStore keeps; `taken` gets what really leaves it, whichever of its methods is called."""

    def __init__(self, taken):
        super().__init__()
        self.taken = taken

    def __getitem__(self, key):
        if key.endswith(storage.METADATA):
            return self.data[key]
        if key not in self.data:
            self.taken.append((key, 0))
        return WatchedValue(self.data[key], lambda size: self.taken.append((key, size)))


@pytest.mark.parametrize("shards", [None, (16, 40), (40, 50)])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_counted_is_what_leaves_the_store(image, seed, shards):
    rng = np.random.default_rng(seed)
    written, part = (
        tuple(slice(*sorted(rng.integers(size, size=2)), rng.integers(1, 9)) for size in image.shape) for _ in range(2)
    )
    taken = []
    store = CountingStore(MemoryStore(WatchedValues(taken)))
    array = zarr.create_array(store, shape=image.shape, chunks=(8, 10), shards=shards, dtype="u1")
    array[written] = image[written]  # a chunk that is written in part is read before; others stay missing
    array = zarr.open_array(store, mode="r")
    assert np.array_equal(array[part], array[:][part])
    assert sorted(store.reads) == sorted(taken), "this Zarr reads in a way that CountingStore does not count"


def test_no_way_to_read_is_handed_on_uncounted():
    uncounted = [name for name in vars(WrapperStore) if "get" in name and name not in vars(CountingStore)]
    assert not uncounted, f"CountingStore counts no reads through {uncounted}: let them end in get, or set them to None"


# Write


@pytest.mark.parametrize("chunks", [None, (50, 50), (20, 25), (500, 1)])
@pytest.mark.parametrize("dask_chunks", [(33, 47), ((1, 100, 19), (170,)), (120, 170)])
def test_any_dask_chunks_are_written_rightly(tmp_path, image, chunks, dask_chunks):
    array = write_verified(da.from_array(image, chunks=dask_chunks), tmp_path / "a.zarr", chunks=chunks)
    assert np.array_equal(array[:], image) and array.dtype == image.dtype and array.read_only
    assert check_store(tmp_path / "a.zarr")[1:] == ([], [], True)
    assert names(tmp_path) == ["a.zarr"]


def test_no_two_tasks_write_into_one_file(tmp_path, image, monkeypatch):
    """Misaligned writes lose data in some runs only: so the writes themselves are watched."""
    regions = []
    write = safe_writing.Verified.__setitem__
    monkeypatch.setattr(safe_writing.Verified, "__setitem__", lambda *call: regions.append(call[1]) or write(*call))
    write_verified(da.from_array(image, chunks=(33, 47)), tmp_path / "a.zarr", chunks=(40, 50))
    assert all(part.start % size == 0 for region in regions for part, size in zip(region, (40, 50)))
    assert len(regions) == 3 * 4


@pytest.mark.parametrize("dtype", ["bool", "int16", "float32", "complex64", ">u2", "longlong", "ulonglong"])
def test_dtypes_and_special_values(tmp_path, dtype):
    image = np.zeros((6, 6), dtype)
    if image.dtype.kind in "fc":
        image[0, :3] = np.nan, np.inf, -0.0
        image[3:, 3:] = -0.0
    array = write_verified(image, tmp_path / "a.zarr", chunks=(3, 3))
    assert np.array_equal(array[:], image, equal_nan=image.dtype.kind in "fc")
    assert np.array_equal(np.signbit(array[:].real.astype(float)), np.signbit(image.real.astype(float)))
    assert check_store(tmp_path / "a.zarr").missing == []  # also where all pixels are zero


@pytest.mark.parametrize(
    "broken",
    [
        lambda tiles: tiles.map_blocks(lambda tile: tile[:1, :1], dtype=np.uint8),
        lambda tiles: tiles.map_blocks(lambda tile: tile / 2, dtype=np.uint8),
        lambda tiles: tiles.map_blocks(lambda tile: tile[np.newaxis], dtype=np.uint8),
    ],
)
def test_blocks_that_break_their_promise_are_noticed(tmp_path, image, broken):
    tiles = da.from_array(image, chunks=(60, 85))
    with pytest.raises(StorageError, match="but the image declares .* uint8"):
        write_verified(broken(tiles), tmp_path / "a.zarr")
    assert names(tmp_path) == []


@pytest.mark.parametrize("flaw", [lambda pixels: np.where(pixels == pixels.max(), 0, pixels), lambda pixels: -pixels])
def test_what_reads_back_differently_is_noticed(tmp_path, monkeypatch, flaw):
    image = np.zeros((120, 170))
    image[60, 110] = 1
    read = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda array, region: flaw(read(array, region)))
    with pytest.raises(StorageError, match="the piece .* does not read back as it was written"):
        write_verified(image, tmp_path / "a.zarr", chunks=(50, 50))
    assert names(tmp_path) == []


def test_an_existing_store_is_replaced_only_by_a_complete_one(tmp_path, image):
    path = tmp_path / "a.zarr"
    write_verified(image, path)

    def fails(tile, block_info):
        if block_info[0]["chunk-location"] == (1, 1):
            raise KeyboardInterrupt
        return tile

    half = da.from_array(255 - image, chunks=60).map_blocks(fails, meta=np.empty((0, 0), np.uint8))
    with pytest.raises(KeyboardInterrupt):
        write_verified(half, path, overwrite=True)
    assert np.array_equal(open_stored(path)[:], image) and names(tmp_path) == ["a.zarr"]
    inverted = 255 - da.from_zarr(open_stored(path))  # reads the store that it replaces
    assert np.array_equal(write_verified(inverted, path, overwrite=True)[:], 255 - image)
    assert names(tmp_path) == ["a.zarr"]


WRITERS = {
    "write_verified": lambda image, path, **options: write_verified(image, path, **options),
    "write_pyramid": lambda image, path, **options: write_pyramid(image, path, 1, **options)[0],
    "convert_tiff": lambda image, path, **options: convert_tiff(tiff_of(image, path), path, **options),
}


def tiff_of(image, path):
    tifffile.imwrite(path.with_suffix(".tif"), image)
    return path.with_suffix(".tif")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_nothing_but_a_store_is_ever_replaced(tmp_path, image, write):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a Zarr store"):
        write(image, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    write(image, tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write(255 - image, tmp_path / "a.zarr")
    assert np.array_equal(write(255 - image, tmp_path / "a.zarr", overwrite=True)[:], 255 - image)
    assert {"a.zarr", "thesis"} <= set(names(tmp_path)) <= {"a.zarr", "a.tif", "thesis", "thesis.tif"}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_only_one_writes_to_a_target(tmp_path, image, write):
    path = tmp_path / "a.zarr"

    def meddling(tile):
        with pytest.raises(FileExistsError, match="is being written by somebody else"):
            write_verified(image, path)
        return tile

    tiles = da.from_array(image, chunks=image.shape).map_blocks(meddling, meta=np.empty((0, 0), np.uint8))
    if write is WRITERS["convert_tiff"]:
        convert_tiff(tiff_of(image, path), path, progress=lambda pieces: map(meddling, pieces))
    else:
        write(tiles, path)
    assert path.is_dir() and set(names(tmp_path)) <= {"a.zarr", "a.tif"}
    write(image, path, overwrite=True)  # whoever has finished holds it no more


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_comes_into_being_meanwhile_is_not_replaced(tmp_path, image, write, overwrite):
    path = tmp_path / "a.zarr"

    def appearing(tile):
        path.mkdir()
        (path / "notes.txt").write_text("mine")
        return tile

    tiles = da.from_array(image, chunks=image.shape).map_blocks(appearing, meta=np.empty((0, 0), np.uint8))
    with pytest.raises(FileExistsError):
        if write is WRITERS["convert_tiff"]:
            write(image, path, overwrite=overwrite, progress=lambda pieces: map(appearing, pieces))
        else:
            write(tiles, path, overwrite=overwrite)
    assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.zarr.partial", ".a.zarr.replaced"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_folder_that_only_has_the_name_of_an_unfinished_store_is_kept(tmp_path, image, write, there, name):
    zarr.create_array(tmp_path / name, data=image)
    if there:
        zarr.create_array(tmp_path / "a.zarr", data=image)
    with pytest.raises(FileExistsError, match="holds no unfinished store"):
        write(image, tmp_path / "a.zarr", overwrite=True)
    assert np.array_equal(open_stored(tmp_path / name)[:], image)
    assert set(names(tmp_path)) <= {"a.zarr", "a.tif", name}


def test_a_file_that_only_has_the_name_of_the_lock_is_kept(tmp_path, image):
    (tmp_path / ".a.zarr.lock").write_text("mine")
    with pytest.raises(FileExistsError, match="a.zarr.lock yours"):
        write_verified(image, tmp_path / "a.zarr")
    assert (tmp_path / ".a.zarr.lock").read_text() == "mine"


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_link_leads_to_what_is_written(tmp_path, image, write):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.zarr").symlink_to(tmp_path / "disk" / "b.zarr", target_is_directory=True)
    write(image, tmp_path / "a.zarr")
    assert np.array_equal(write(255 - image, tmp_path / "a.zarr", overwrite=True)[:], 255 - image)
    assert (tmp_path / "a.zarr").is_symlink() and names(tmp_path / "disk") == ["b.zarr"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_store_that_cannot_be_replaced_stays(tmp_path, image, write, monkeypatch):
    path, replace = tmp_path / "a.zarr", os.replace
    write(image, path)

    def failing(source, target):
        if target == path and not (path.exists() or source.parent.name == ".a.zarr.replaced"):
            raise PermissionError("a virus scanner has a file open")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(PermissionError):
        write(255 - image, path, overwrite=True)
    stored = open_pyramid(path)[0] if write is WRITERS["write_pyramid"] else open_stored(path)
    assert np.array_equal(stored[:], image)
    assert set(names(tmp_path)) <= {"a.zarr", "a.tif", "a.zarr.partial"}


@pytest.mark.skipif(os.name != "posix", reason="Windows locks in another way")
def test_a_lock_holds_only_while_its_file_is_there_and_is_not_needed_where_drives_have_none(
    tmp_path, image, monkeypatch
):
    import fcntl

    def deleted(file, _):  # by another one, who has finished between the two calls
        os.unlink(file.name)

    def made_anew(file, _):  # and by a third one
        os.rename(file.name, f"{file.name}.old")
        open(file.name, "w").close()

    def unknown(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    for change in (deleted, made_anew):
        monkeypatch.setattr(fcntl, "flock", change)
        with pytest.raises(FileExistsError, match="is being written"):
            write_verified(image, tmp_path / "a.zarr")
    monkeypatch.setattr(fcntl, "flock", unknown)
    assert np.array_equal(write_verified(image, tmp_path / "a.zarr")[:], image)


KILLED = """
import os, sys
import numpy as np
from course_helpers._engine import safe_writing
from course_helpers.storage import write_verified

replace, calls = os.replace, []
def dying(source, target):
    if sys.argv[1] in (str(source), str(target)):
        if len(calls) == int(sys.argv[2]):
            os._exit(9)
        calls.append(target)
    replace(source, target)
os.replace = dying
def dying_too(folder):
    (folder / safe_writing.MARK).unlink(missing_ok=True)  # what is deleted first, is by chance
    os._exit(9)
safe_writing.shutil.rmtree = dying_too
write_verified(np.ones((4, 4)), sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_after_a_killed_run_nothing_is_lost_and_the_next_one_cleans_up(tmp_path, image, moves):
    write_verified(image, tmp_path / "a.zarr")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.zarr"), str(moves)]
    assert subprocess.run(command, cwd=Path(__file__).parents[1]).returncode == 9
    assert len(names(tmp_path)) > 1
    with pytest.raises(FileExistsError):
        write_verified(image, tmp_path / "a.zarr")
    if moves < 2:
        assert np.array_equal(open_stored(tmp_path / "a.zarr")[:], image)
    write_verified(255 - image, tmp_path / "a.zarr", overwrite=True)
    assert names(tmp_path) == ["a.zarr"] and np.array_equal(open_stored(tmp_path / "a.zarr")[:], 255 - image)


def test_paths_with_spaces_dots_and_strings(tmp_path, image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_verified(image, "my image.v2.zarr")
    os.mkdir("inner")
    write_verified(image, os.path.join("inner", "..", "Zürich.zarr"))
    assert names(tmp_path) == ["Zürich.zarr", "inner", "my image.v2.zarr"]


def unknown_chunks(image):
    flat = da.from_array(image.ravel(), chunks=100)
    return flat[flat > 9]


REFUSED = [
    (ValueError, "image has shape .* must have known chunks", lambda image: write_verified(unknown_chunks(image), "a")),
    (ValueError, "chunks is .*, but must be", lambda image: write_verified(image, "a", chunks=(10,))),
    (ValueError, "chunks is .*, but must be", lambda image: write_verified(image, "a", chunks=(0, 10))),
    (ValueError, "chunks is 0, but must be", lambda image: write_verified(image, "a", chunks=0)),
    (FileNotFoundError, "there is no folder", lambda image: write_verified(image, os.path.join("nowhere", "a"))),
    (FileNotFoundError, None, lambda image: check_store("nowhere")),
    (ValueError, None, lambda image: check_store("folder")),
    (ValueError, "is in Zarr format 2, but must be in format 3", lambda image: check_store("two.zarr")),
    (ValueError, "must be an array. Open one of them: inner", lambda image: check_store("group.zarr")),
    (FileNotFoundError, None, lambda image: convert_tiff("nowhere.tif", "a")),
    (StorageError, "not a TIFF file", lambda image: convert_tiff("text.tif", "a")),
    (ValueError, "chunks is .*, but must be", lambda image: convert_tiff("tiles.tif", "a", (50, 50, 50))),
    (ValueError, "chunks is .*, but must be", lambda image: convert_tiff("tiles.tif", "a", (0, 50))),
    (TypeError, "chunks is None, but must be", lambda image: convert_tiff("tiles.tif", "a", None)),
    (TypeError, "max_memory is 9.5, but must be", lambda image: convert_tiff("tiles.tif", "a", max_memory=9.5)),
    (
        ValueError,
        "max_memory is 5000, but .* in pieces of .48, 32.",
        lambda image: convert_tiff("tiles.tif", "a", (10, 10), max_memory=5000),
    ),
    (ValueError, "must be two-dimensional", lambda image: create_pyramid("a", (3, 4, 5), "u1", 1)),
    (ValueError, "pixel_size is 0, but must be", lambda image: write_pyramid(image, "a", pixel_size=0)),
    (ValueError, "pixel_size is nan, but must be", lambda image: write_pyramid(image, "a", pixel_size=float("nan"))),
    (ValueError, "pixel_size is inf, but must be", lambda image: write_pyramid(image, "a", pixel_size=float("inf"))),
    (ValueError, "shape is 0, but must be", lambda image: write_pyramid(image[:0], "a", pixel_size=1)),
    (ValueError, "chunks is 0, but must be", lambda image: write_pyramid(image, "a", pixel_size=1, chunks=(0, 9))),
    (ValueError, "zoom is 0, but must be", lambda image: view_window([image], (9, 9), 0)),
    (ValueError, "center is nan, but must be", lambda image: view_window([image], (9, float("nan")), 1)),
    (ValueError, "center is .*, but must be", lambda image: view_window([image], (9, 9, 9), 1)),
    (ValueError, "levels .* two-dimensional", lambda image: view_window(image, (9, 9), 1)),
    (StorageError, "has a mask", lambda image: write_verified(np.ma.masked_less(image, 9), "a")),
    (ValueError, "holds 2 images.*series=0.*0: .*1: ", lambda image: convert_tiff("two.tif", "a")),
    (ValueError, "series is 2, but must be", lambda image: convert_tiff("two.tif", "a", series=2)),
    (ValueError, "unit is 7, but must be", lambda image: write_pyramid(image, "a", pixel_size=1, unit=7)),
    (ValueError, "unit is 'µm', but .* micrometer", lambda image: write_pyramid(image, "a", pixel_size=1, unit="µm")),
    (TypeError, "labels are float64, but must be", lambda image: write_pyramid(image / 2, "a", 1, labels=True)),
    (ValueError, "lists no multiscales", lambda image: open_pyramid("group.zarr")),
]


def test_what_cannot_be_written_or_read_is_refused(tmp_path, image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.tif").write_text("no image")
    write_tiff("tiles.tif", image, "tiles")
    two_images("two.tif", image)
    zarr.create_array("two.zarr", shape=(4,), dtype="u1", zarr_format=2)
    zarr.create_group("group.zarr").create_array("inner", shape=(4,), dtype="u1")
    before = names(tmp_path)
    for error, words, attempt in REFUSED:
        with pytest.raises(error, match=words):
            attempt(image)
        assert names(tmp_path) == before


# Check


@pytest.mark.parametrize("shards", [None, (100, 100)])
def test_missing_and_damaged_chunks_are_named(tmp_path, image, shards):
    path = tmp_path / "a.zarr"
    tiles = {
        "chunks": (50, 50),
        "shards": shards,
        "compressors": storage.CODECS,
        "config": safe_writing.WRITE_ALL_CHUNKS,
    }
    zarr.create_array(path, data=np.tile(image, (2, 2)), **tiles)
    assert check_store(path) == (12 if shards else 35, [], [], True)
    damage(path / "c" / "0" / "2", position=40)
    (path / "c" / "2" / "1").unlink()
    report = check_store(path)
    assert (report.missing, report.damaged) == ([(2, 1)], [(0, 2)])


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, image, monkeypatch):
    write_verified(image, tmp_path / "a.zarr")

    def forbidden(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(zarr.Array, "__getitem__", forbidden)
    with pytest.raises(PermissionError):
        check_store(tmp_path / "a.zarr")


def test_each_single_damaged_byte_is_noticed_with_a_checksum(tmp_path):
    write_verified(np.arange(16, dtype=np.uint8), tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / "c" / "0"
    content = file.read_bytes()
    for position in range(len(content)):
        damage(file, position)
        assert check_store(tmp_path / "a.zarr").damaged == [(0,)], position
        file.write_bytes(content)
    file.write_bytes(content[:-1])
    assert check_store(tmp_path / "a.zarr").damaged == [(0,)]


@pytest.mark.parametrize("size", [0, 1, 10, 500])
def test_a_shard_that_is_cut_off_is_damaged(tmp_path, image, size):
    zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(10, 10), shards=(100, 100))
    os.truncate(tmp_path / "a.zarr" / "c" / "0" / "0", size)
    assert check_store(tmp_path / "a.zarr").damaged == [(0, 0)]


@pytest.mark.parametrize(
    ("compressors", "checksums"),
    [
        (None, False),
        (zarr.codecs.ZstdCodec(), False),
        (zarr.codecs.BloscCodec(), False),
        (zarr.codecs.GzipCodec(), True),
        (zarr.codecs.ZstdCodec(checksum=True), True),
    ],
)
def test_a_report_says_whether_every_damage_is_noticed(tmp_path, image, compressors, checksums):
    write_verified(image, tmp_path / "a", compressors=compressors)
    assert check_store(tmp_path / "a").has_checksums is checksums


def test_without_a_checksum_some_damage_is_not_noticed(tmp_path, image):
    write_verified(image, tmp_path / "raw", compressors=None)
    damage(tmp_path / "raw" / "c" / "0" / "0")
    assert check_store(tmp_path / "raw").damaged == [] and (open_stored(tmp_path / "raw")[:] != image).sum() == 1
    (tmp_path / "raw" / "c" / "0" / "0").write_bytes(b"too short")
    assert check_store(tmp_path / "raw").damaged == [(0, 0)]


# Convert


KINDS = {
    "one run of bytes": {},
    "big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (48, 32), "compression": "zlib", "predictor": True},
    "tiles without compression": {"tile": (48, 32)},
    "BigTIFF": {"tile": (64, 64), "bigtiff": True},
}


def write_tiff(path, image, kind):
    tifffile.imwrite(path, image, photometric="minisblack", **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(300, 211), (5, 90, 100), (2, 3, 70, 80)])
def test_tiffs_are_converted(tmp_path, kind, shape):
    image = np.random.default_rng(1).integers(4096, size=shape, dtype=np.uint16)
    write_tiff(tmp_path / "a.tif", image, kind)
    array = convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", chunks=(50, 40), max_memory=2**18)
    assert array.dtype == image.dtype and np.array_equal(array[:], image)
    assert names(tmp_path / "a.zarr") == ["c", "zarr.json"]
    assert array.chunks == (1,) * (len(shape) - 2) + (50, 40)
    assert check_store(tmp_path / "a.zarr")[1:] == ([], [], True)
    assert names(tmp_path) == ["a.tif", "a.zarr"]


@pytest.mark.parametrize("dtype", ["bool", "i1", "u8", "i8", "f2", "f8", "c8"])
def test_pixels_of_any_type_are_converted(tmp_path, dtype):
    image = np.frombuffer(np.random.default_rng(1).bytes(6 * 7 * 8), "u1").reshape(6, 56) // 128
    image = (image if dtype == "bool" else image * 255).view(dtype)
    for byteorder in "<>":
        tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder, photometric="minisblack")
        array = convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", overwrite=True)
        assert array.dtype == image.dtype and array[:].tobytes() == image.tobytes()


def test_a_stack_can_have_deep_chunks_and_a_pyramid_gives_its_finest_level(tmp_path):
    image = np.random.default_rng(1).integers(256, size=(10, 64, 64), dtype=np.uint8)
    write_tiff(tmp_path / "stack.tif", image, "strips")
    array = convert_tiff(tmp_path / "stack.tif", tmp_path / "stack.zarr", chunks=(4, 32, 32))
    assert array.chunks == (4, 32, 32) and np.array_equal(array[:], image)
    with tifffile.TiffWriter(tmp_path / "levels.tif") as file:
        file.write(image[0], subifds=1, tile=(16, 16))
        file.write(image[0, ::2, ::2], subfiletype=1, tile=(16, 16))
    array = convert_tiff(tmp_path / "levels.tif", tmp_path / "levels.zarr")
    assert np.array_equal(array[:], image[0])


@pytest.mark.parametrize("kind", ["one run of bytes", "tiles", "strips"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_stay_together(tmp_path, kind, planar):
    image = np.random.default_rng(1).integers(256, size=(2, 150, 170, 3), dtype=np.uint8)
    expected = image if planar == "contig" else np.moveaxis(image, -1, 1)
    tifffile.imwrite(tmp_path / "a.tif", expected, photometric="rgb", planarconfig=planar, **KINDS[kind])
    array = convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", chunks=(50, 60))
    assert array.chunks == ((1, 50, 60, 3) if planar == "contig" else (1, 3, 50, 60))
    assert np.array_equal(array[:], expected)


def two_images(path, image):
    with tifffile.TiffWriter(path) as file:
        file.write(image[:16, :16], metadata={"axes": "YX"})
        file.write(image, metadata={"axes": "YX"})


def test_one_of_several_images_is_chosen(tmp_path, image):
    two_images(tmp_path / "a.tif", image)
    for number, expected in enumerate([image[:16, :16], image]):
        assert np.array_equal(convert_tiff(tmp_path / "a.tif", tmp_path / f"{number}", series=number)[:], expected)
    twins = tmp_path / "twins.tif"
    with tifffile.TiffWriter(twins) as file:
        for pixels in (image, 255 - image):
            file.write(pixels, metadata={"axes": "YX"})
    with pytest.raises(KeyboardInterrupt):
        convert_tiff(twins, tmp_path / "b", (50, 50), max_memory=2**16, series=0, progress=interrupted_after(3))
    array = convert_tiff(twins, tmp_path / "b", (50, 50), max_memory=2**16, series=1)
    assert np.array_equal(array[:], 255 - image), "it went on with another image"


@pytest.fixture
def two_files(tmp_path, image):
    """An OME-TIFF of four planes in two files, with offsets as in one file; the one that is returned lists all of them."""
    planes = np.stack([image, 255 - image, image // 2, image // 3])
    names = ["a.ome.tif", "b.ome.tif"]
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"><UUID FileName="{names[t // 2]}">urn:uuid:{names[t // 2]}</UUID></TiffData>'
        for t in range(4)
    )
    pixels = f'<Pixels ID="P" DimensionOrder="XYCZT" Type="uint8" SizeX="170" SizeY="120" SizeC="1" SizeZ="1" SizeT="4">{data}</Pixels>'
    for number, name in enumerate(names):
        space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
        ome = f'<OME xmlns="{space}" UUID="urn:uuid:{name}"><Image ID="I">{pixels}</Image></OME>'
        part = planes * np.isin(range(4), [2 * number, 2 * number + 1])[:, np.newaxis, np.newaxis]
        tifffile.imwrite(tmp_path / name, part, description=ome, metadata=None, photometric="minisblack")
    return tmp_path / "a.ome.tif", planes


def test_an_image_in_several_files_is_converted_whole_or_not_at_all(tmp_path, two_files):
    path, planes = two_files

    def changing(pieces):
        yield from pieces
        os.utime(tmp_path / "b.ome.tif", ns=(1, 1))

    with pytest.raises(StorageError, match="has changed"):
        convert_tiff(path, tmp_path / "a.zarr", progress=changing)
    assert np.array_equal(convert_tiff(path, tmp_path / "a.zarr")[:], planes)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(StorageError, match="lacks 2 of 4 planes"):
        convert_tiff(path, tmp_path / "b.zarr")


def test_a_part_of_an_image_in_several_files_is_not_taken_for_the_image(tmp_path, image):
    space, part = "http://www.openmicroscopy.org/Schemas/OME/2016-06", tmp_path / "b.ome.tif"
    for prefix in ("", "ome:"):
        name = f"xmlns{':' if prefix else ''}{prefix[:-1]}"
        ome = f'<{prefix}OME {name}="{space}"><{prefix}BinaryOnly MetadataFile="a.ome.tif" UUID="urn:uuid:a"/></{prefix}OME>'
        tifffile.imwrite(part, image, description=ome, metadata=None)
        with pytest.raises(StorageError, match="one part of an image in several files"):
            convert_tiff(part, tmp_path / "b.zarr")


def micro_manager_stack(path, planes, number):
    """A part of a recording by Micro-Manager: a header, pages of 13 tags before their pixels, and an index of them."""
    height, width = planes[0].shape
    summary = json.dumps({"MicroManagerVersion": "2", "Frames": number, "Prefix": "a"}).encode()
    size = 162 + height * width
    offsets = [40 + len(summary) + size * plane for plane in range(len(planes))]
    header = [offsets[0], 54773648, offsets[-1] + size, 0, 0, 0, 0, 2355492, len(summary)]
    content = b"II*\0" + np.array(header, "<u4").tobytes() + summary
    for offset, plane in zip(offsets, planes):
        tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: offset + 162, 277: 1, 278: height}
        tags |= {279: height * width, 284: 1, 296: 1, 339: 1, 51123: 40}  # the last one is text: it lies there
        content += np.array([13], "<u2").tobytes()
        for tag, value in tags.items():
            kind, count = (2, len(summary)) if tag == 51123 else (4, 1)
            content += np.array([tag, kind], "<u2").tobytes() + np.array([count, value], "<u4").tobytes()
        content += np.array([offset + size if offset < offsets[-1] else 0], "<u4").tobytes() + plane.tobytes()
    first = int(path.stem[-1]) * len(planes)
    index = [[0, 0, first + plane, 0, offset] for plane, offset in enumerate(offsets)]
    path.write_bytes(content + np.array([3453623, len(planes), *np.ravel(index)], "<u4").tobytes())


@pytest.mark.parametrize("planes", [1, 3])
def test_a_recording_of_which_files_are_missing_is_refused(tmp_path, image, planes):
    stack = np.stack([image // (plane + 1) for plane in range(2 * planes)])
    for part in (0, 1):
        micro_manager_stack(tmp_path / f"a_MMStack_{part}.tif", stack[part * planes :][:planes], 2 * planes)
    assert np.array_equal(convert_tiff(tmp_path / "a_MMStack_0.tif", tmp_path / "a.zarr")[:], stack)
    (tmp_path / "a_MMStack_1.tif").unlink()
    with pytest.raises(StorageError, match=f"lacks {planes} of {2 * planes} planes"):
        convert_tiff(tmp_path / "a_MMStack_0.tif", tmp_path / "b.zarr")


@pytest.mark.parametrize(
    "tag, change",
    [
        ("TileOffsets", lambda places: [0, *places[1:]]),
        ("TileOffsets", lambda places: [places[1] + 5, *places[1:]]),
        ("TileByteCounts", lambda sizes: [0, *sizes[1:]]),
        ("TileByteCounts", lambda sizes: [sizes[0] + 5, *sizes[1:]]),
    ],
)
def test_tiles_that_lie_nowhere_or_in_each_other_are_refused(tmp_path, image, tag, change):
    write_tiff(tmp_path / "a.tif", image, "tiles without compression")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        values = file.pages[0].tags[tag]
        values.overwrite(change(values.value))
    with pytest.raises(StorageError, match="does not say where its pixels are"):
        convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr")


def peak_of(work):
    """The most bytes that work needs at a time; a first run, which loads libraries, does not count."""
    work("first")
    gc.collect()
    tracemalloc.start()
    try:
        work("second")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["one run of bytes", "strips", "tiles"])
def test_memory_stays_below_the_limit(tmp_path, kind):
    image = nuclei_slide((2000, 2500), chunks=(1000, 1000)).compute()
    write_tiff(tmp_path / "a.tif", image, kind)
    limit = 2**22 - 2**20  # where the whole image takes 5 MB; less than half of the limit was measured
    peak = peak_of(lambda name: convert_tiff(tmp_path / "a.tif", tmp_path / name, (128, 128), max_memory=limit))
    assert peak < limit < image.nbytes, peak
    assert np.array_equal(open_stored(tmp_path / "second")[:], image)


def interrupted_after(number):
    """A progress bar that stops like Ctrl+C after a number of pieces."""

    def pieces_until(pieces):
        yield from pieces[:number]
        raise KeyboardInterrupt

    return pieces_until


def interrupted_conversion(tmp_path, image, pieces=5):
    write_tiff(tmp_path / "a.tif", image, "tiles without compression")
    with pytest.raises(KeyboardInterrupt):
        convert_tiff(
            tmp_path / "a.tif", tmp_path / "a.zarr", (50, 50), max_memory=2**16, progress=interrupted_after(pieces)
        )
    assert names(tmp_path) == ["a.tif", "a.zarr.partial"]
    return tmp_path / "a.zarr.partial"


@pytest.fixture
def reads(monkeypatch):
    """A list that grows by one entry for each piece that is read from a TIFF file."""
    regions = []
    original = tiff.tiff_reader

    def watched(series):
        read, *description = original(series)
        return (lambda region: regions.append(region) or read(region)), *description

    monkeypatch.setattr(tiff, "tiff_reader", watched)
    return regions


def test_an_interrupted_conversion_goes_on_where_it_stopped(tmp_path, reads):
    image = np.random.default_rng(2).integers(256, size=(400, 300), dtype=np.uint8)
    partial = interrupted_conversion(tmp_path, image)
    assert len(reads) == 5
    damage(partial / "c" / "0" / "0")  # as after a power failure
    array = convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", (50, 50), max_memory=2**16)
    assert np.array_equal(array[:], image) and names(tmp_path) == ["a.tif", "a.zarr"]
    assert len(reads) == len(set(map(str, reads))) + 1  # each piece once, and the damaged one again


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b'{"zarr_format": 3, "node_type": "group"}'])
def test_damaged_metadata_of_an_unfinished_store_are_made_anew(tmp_path, content):
    image = np.random.default_rng(2).integers(256, size=(400, 300), dtype=np.uint8)
    (interrupted_conversion(tmp_path, image) / "zarr.json").write_bytes(content)
    array = convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", (50, 50))
    assert np.array_equal(array[:], image) and names(tmp_path) == ["a.tif", "a.zarr"]


@pytest.mark.parametrize("change", ["size", "time", "chunks"])
def test_another_source_or_other_chunks_start_anew(tmp_path, reads, change):
    image = np.random.default_rng(2).integers(256, size=(400, 300), dtype=np.uint8)
    interrupted_conversion(tmp_path, image)
    status = os.stat(tmp_path / "a.tif")
    chunks = (50, 50)
    if change == "size":  # same shape, same time
        image = 255 - image
        write_tiff(tmp_path / "a.tif", image, "tiles")
        os.utime(tmp_path / "a.tif", ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(tmp_path / "a.tif", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    else:  # as many pixels, so that the chunks that are there can be decoded
        chunks = (25, 100)
    reads.clear()
    array = convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", chunks, max_memory=2**16)
    assert np.array_equal(array[:], image)
    assert sum(np.prod([part.stop - part.start for part in region]) for region in reads) == image.size


def test_a_source_that_changes_under_way_is_noticed(tmp_path, image):
    write_tiff(tmp_path / "a.tif", image, "tiles without compression")

    def changing(pieces):
        for number, piece in enumerate(pieces):
            if number == 1:
                os.utime(tmp_path / "a.tif", ns=(1, 1))
            yield piece

    with pytest.raises(StorageError, match="has changed"):
        convert_tiff(tmp_path / "a.tif", tmp_path / "a.zarr", (50, 50), max_memory=2**15, progress=changing)
    assert not (tmp_path / "a.zarr").exists()


def test_damaged_and_undecodable_tiffs_are_reported(tmp_path, image):
    tiff, target = tmp_path / "a.tif", tmp_path / "a.zarr"
    write_tiff(tiff, image, "tiles")
    with tifffile.TiffFile(tiff) as file:
        last = file.pages[0].dataoffsets[-1]
    damage(tiff, last + 5)
    with pytest.raises(StorageError, match="cannot be read at .* damaged"):
        convert_tiff(tiff, target)
    with tifffile.TiffFile(tiff, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(34927)  # a compression that tifffile cannot read
    with pytest.raises(StorageError, match="cannot be read at .* save the file again"):
        convert_tiff(tiff, target)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["strips", "tiles", "tiles without compression"])
def test_a_flipped_bit_outside_the_pixels_gives_an_error_or_what_tifffile_reads(tmp_path, kind):
    """Among others those in the list of offsets; what tifffile itself reads may be wrong, but is no gap filled by us."""
    image = np.random.default_rng(3).integers(1, 256, size=(64, 64), dtype=np.uint8)
    write_tiff(tmp_path / "a.tif", image, kind)
    content = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[0].dataoffsets[0]
    flips = np.random.default_rng(4).choice(8 * start, size=150, replace=False)
    for position, bit in zip(*divmod(flips, 8)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        (tmp_path / "b.tif").write_bytes(damaged)
        try:
            array = convert_tiff(tmp_path / "b.tif", tmp_path / "b.zarr", overwrite=True)
        except (StorageError, ValueError):
            shutil.rmtree(tmp_path / "b.zarr.partial", ignore_errors=True)
        else:
            assert np.array_equal(array[:], tifffile.imread(tmp_path / "b.tif")), (position, bit)


# Pyramids


@pytest.fixture
def pyramid(tmp_path):
    return write_pyramid(
        nuclei_slide((701, 1000), chunks=(100, 100)), tmp_path / "a.ome.zarr", pixel_size=0.5, chunks=(128, 128)
    )


def transformations(path):
    """Scale and translation of each level, as they are stored."""
    [multiscale] = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"]
    steps = [level["coordinateTransformations"] for level in multiscale["datasets"]]
    return [[step[step["type"]] for step in level] for level in steps]


def test_the_pyramid_is_valid_and_has_the_right_pixel_sizes(tmp_path, pyramid):
    multiscale = yaozarrs.validate_zarr_store(tmp_path / "a.ome.zarr").ome_metadata().multiscales[0]
    axes = [(axis.name, axis.type, axis.unit) for axis in multiscale.axes]
    assert axes == [("y", "space", "micrometer"), ("x", "space", "micrometer")]
    assert transformations(tmp_path / "a.ome.zarr") == [
        [[0.5] * 2, [0] * 2],
        [[1] * 2, [0.25] * 2],
        [[2] * 2, [0.75] * 2],
    ]
    assert [level.shape for level in pyramid] == [(701, 1000), (351, 500), (176, 250)]


def test_a_level_shows_what_lies_at_its_physical_position(tmp_path):
    """A spot has the same centre of mass in micrometres on every level."""
    image = np.zeros((2048, 2048))
    image[200:232, 96:104] = 1
    levels = write_pyramid(image, tmp_path / "a.ome.zarr", pixel_size=0.5)
    for level, (scale, shift) in zip(levels, transformations(tmp_path / "a.ome.zarr")):
        centre = [(axis * level[:]).sum() / level[:].sum() for axis in np.indices(level.shape)]
        assert np.allclose(np.multiply(centre, scale) + shift, [0.5 * 215.5, 0.5 * 99.5])
    assert len(levels) == 4


def test_levels_are_means_of_the_level_below(pyramid):
    for below, level in zip(pyramid, pyramid[1:]):
        padded = np.pad(below[:], [(0, size % 2) for size in below.shape], mode="edge").astype(int)
        expected = np.rint(padded.reshape(level.shape[0], 2, level.shape[1], 2).mean(axis=(1, 3)))
        assert np.array_equal(level[:], expected) and level.dtype == below.dtype


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", ">i2", "i4", "u8", "i8", "f2", "f4", "f8", "Q"])
def test_means_are_exact_up_to_the_limits_of_the_dtype(tmp_path, dtype):
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    rng, image = np.random.default_rng(0), np.full((2, 600), limits.max, dtype)
    image[:, 100:200] = limits.min
    image[:, 200:400] = rng.choice(np.array([limits.min, limits.max], dtype), size=(2, 200))
    image[:, 400:] = rng.integers(max(limits.min, -9), 10, size=(2, 200)).astype(dtype)
    if dtype in ("f2", "f4"):  # whose sums are exact in float64
        image[:, 500:] = rng.normal(size=(2, 100))
    fours = np.array(image.reshape(2, 300, 2).tolist(), object).swapaxes(0, 1).reshape(300, 4)
    means = [sum(map(Fraction, four)) / 4 for four in fours]
    expected = [round(mean) if np.dtype(dtype).kind in "iu" else float(mean) for mean in means]
    level = write_pyramid(image, tmp_path / "a", 1)[1]
    assert np.array_equal(level[0], np.array(expected, dtype))


@pytest.mark.parametrize("dtype", ["u2", "i8", "bool"])
def test_levels_of_labels_hold_the_labels_of_the_level_below(tmp_path, dtype):
    labels = np.random.default_rng(0).choice([0, 5, 9], size=(301, 520)).astype(dtype)
    levels = write_pyramid(labels, tmp_path / "a", 1, chunks=(25, 35), labels=dtype != "bool")
    assert len(levels) == 3 and levels[2].shape == (76, 130)
    for below, level in zip(levels, levels[1:]):
        assert np.array_equal(level[:], below[::2, ::2])
    described = yaozarrs.validate_zarr_store(tmp_path / "a").ome_metadata()
    assert isinstance(described, yaozarrs.v05.LabelImage) == (dtype != "bool")


def test_a_side_of_one_pixel_keeps_its_pixel_size(tmp_path):
    levels = write_pyramid(np.arange(2100.0).reshape(3, 700), tmp_path / "a", pixel_size=0.5)
    assert [level.shape for level in levels] == [(3, 700), (2, 350), (1, 175)]
    line = write_pyramid(np.arange(700.0).reshape(1, 700), tmp_path / "b", pixel_size=0.5)
    assert transformations(tmp_path / "b") == [[[0.5, 0.5], [0, 0]], [[0.5, 1], [0, 0.25]], [[0.5, 2], [0, 0.75]]]
    assert view_window(line, (0, 350), zoom=0.2, screen=(9, 200))[1:] == (2, (0, 700, 1, 0))


def test_the_view_reads_only_what_the_screen_needs(tmp_path, pyramid):
    store = CountingStore(tmp_path / "a.ome.zarr")
    levels = open_pyramid(store)
    pixels, level, extent = view_window(levels, (350, 500), zoom=1, screen=(100, 200))
    assert level == 0 and extent == (400, 600, 400, 300)
    assert np.array_equal(pixels, pyramid[0][300:400, 400:600])
    assert set(store.chunks_read) == {f"0/c/{row}/{column}" for row in (2, 3) for column in (3, 4)}
    pixels, level, _ = view_window(levels, (350, 500), zoom=0.2, screen=(150, 200))
    assert level == 2 and pixels.shape == pyramid[2].shape
    assert view_window(levels, (350, 500), zoom=0.001)[1] == 2  # there is no coarser one
    assert view_window(levels, (350, 500), zoom=0.3)[1] == 1
    assert view_window(levels, (0, 0), zoom=4, screen=(80, 80))[0].shape == (10, 10)  # at the edge
    assert view_window(levels, (0, 0), 1e-320)[0].shape == levels[2].shape
    for center in [(-500, 0), (0, 2000)]:
        with pytest.raises(ValueError, match="shows no pixel"):
            view_window(levels, center, 1)


def test_the_memory_of_a_pyramid_does_not_grow_with_the_image(tmp_path):
    """The image has 12 MiB; with two tasks at a time, less than 3 MiB were measured."""
    image = da.ones((3072, 4096), chunks=(512, 512), dtype=np.uint8)
    with dask.config.set(num_workers=2):
        peak = peak_of(lambda name: write_pyramid(image, tmp_path / name, 0.5, chunks=(512, 512)))
    assert peak < 0.6 * image.nbytes, peak
