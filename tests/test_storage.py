"""Storing: counted reads, verified writing, resuming, damage, pyramids."""

import errno
import json
import math
import os
import shutil
from fractions import Fraction
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from dask.callbacks import Callback
from random_images import DTYPES, for_any_seed, peak_of, random_chunks, random_pixels
from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec

from course_helpers import image_files, pyramids, storage
from course_helpers._engine import safe_writing
from course_helpers._engine.image_formats import Pixels
from course_helpers.image_files import open_image
from course_helpers.pyramids import open_pyramid, view_window, write_labels, write_pyramid
from course_helpers.storage import CountingStore, StorageError, check_store, open_stored, write_verified

IMAGE = np.random.default_rng(0).integers(256, size=(120, 170), dtype=np.uint8)
TILES = da.from_array(IMAGE, 60)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(path, position=-10):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


# Counted reads


@pytest.mark.parametrize("shards", [None, (16, 40)])
def test_each_chunk_that_is_read_is_counted_with_its_bytes(tmp_path, shards):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=IMAGE, chunks=(8, 10), shards=shards, compressors=None)
    array = zarr.open_array(store := CountingStore(path), mode="r")
    assert np.array_equal(array[:8, :10], IMAGE[:8, :10])
    index = 16 * math.prod(shards) // 80 + 4 if shards else 0  # bytes of the list of chunks in a shard
    assert store.bytes_read == 80 + index
    (path / "c/0/0").unlink()
    store.reads.clear()
    assert np.array_equal(array[5:, 40:60:3], IMAGE[5:, 40:60:3]) and array[0, 0] == 0
    rows, columns = shards or array.chunks
    touched = {f"c/{y // rows}/{x // columns}" for y in range(5, 120) for x in range(40, 60)}
    assert store.chunks_read == sorted({"c/0/0", *touched}) and ("c/0/0", 0) in store.reads


# Write


@for_any_seed(40)
def test_any_image_is_stored_bit_by_bit_and_no_two_tasks_write_into_one_file(tmp_path, seed):
    """Misaligned writes lose data in some runs only: so the writes themselves are watched."""
    rng, regions, write = np.random.default_rng(seed), [], safe_writing.Verified.__setitem__
    shape = tuple(rng.integers(1, 14, size=rng.integers(1, 4)).tolist())
    image = random_pixels(rng, shape, rng.choice(DTYPES))
    tiles = da.from_array(image, chunks=random_chunks(rng, shape))
    chunks = tuple(rng.integers(3, 16, size=len(shape)).tolist()) if rng.random() < 0.7 else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safe_writing.Verified, "__setitem__", lambda *call: regions.append(call[1]) or write(*call))
        array = write_verified(tiles, tmp_path / "a.zarr", chunks=chunks, overwrite=True)
    assert array.dtype == image.dtype.newbyteorder("=") and array.read_only
    assert array[:].tobytes() == image.astype(array.dtype).tobytes()
    assert array.chunks == tuple(map(min, chunks or tiles.chunksize, shape))
    assert check_store(tmp_path / "a.zarr") == (len(regions), [], [], True)  # also where all pixels are zero
    assert all(part.start % size == 0 for region in regions for part, size in zip(region, array.chunks))
    assert names(tmp_path) == ["a.zarr"]


@pytest.fixture(params=["write_verified", "write_pyramid", "open_image"])
def write(request, tmp_path_factory):
    """A function that stores an image in one of the ways, calls `meanwhile` under way, and returns the finest level."""

    def write(image, path, meanwhile=bool, **options):
        if request.param == "open_image":
            source = tmp_path_factory.mktemp("tiff") / "a.tif"
            tifffile.imwrite(source, image)
            image = open_image(source).array
        with Callback(start=lambda graph: meanwhile()):
            if request.param == "write_pyramid":
                return write_pyramid(image, path, 1, **options)[0]
            return write_verified(image, path, **options)

    return write


def test_after_an_error_all_is_as_it_was(tmp_path, write, monkeypatch):
    """Also if only the sign of zeros differs, and if a program that looks for viruses has a file open."""
    path, zeros, read, replace = tmp_path / "a.zarr", np.zeros((120, 170)), zarr.Array.__getitem__, os.replace
    write(zeros + 1, path)

    def replace_nothing_new(source, target):
        if target == path and source.parent.name == "a.zarr.partial":
            raise PermissionError
        replace(source, target)

    other_zeros = (zarr.Array, "__getitem__", lambda array, region: -read(array, region))
    for error, change in ((StorageError, other_zeros), (PermissionError, (os, "replace", replace_nothing_new))):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(*change)
            write(zeros, path, overwrite=True)
        assert open_image(path, 0).array.all() and set(names(tmp_path)) <= {"a.zarr", "a.zarr.partial"}


def test_a_store_of_any_name_is_replaced_on_request_also_by_what_is_read_from_it(tmp_path, write):
    path, target = tmp_path / "a link", tmp_path / "disk" / "my Zürich.v2.zarr"
    target.parent.mkdir()
    path.symlink_to(target, target_is_directory=True)
    write(IMAGE, path)
    assert np.array_equal(write(255 - open_image(path, 0).array, path, overwrite=True)[:], 255 - IMAGE)
    for create in (zarr.create_group, lambda path, **options: zarr.create_array(path, data=IMAGE, **options)):
        shutil.rmtree(target)
        create(target, zarr_format=2)
        assert np.array_equal(write(IMAGE, path, overwrite=True)[:], IMAGE)
    assert path.is_symlink() and names(target.parent) == [target.name]


IN_THE_WAY = [
    ("a.zarr/notes.txt", False, True, "not a Zarr store"),
    ("a.zarr/notes.txt", True, True, "not a Zarr store"),
    ("a.zarr/zarr.json", True, False, "say overwrite=True"),
    ("a.zarr.partial/store/notes.txt", False, True, "holds no unfinished store"),
    (".a.zarr.replaced/store/notes.txt", False, True, "holds no unfinished store"),
    (".a.zarr.lock", False, True, "a.zarr.lock yours"),
]


@pytest.mark.parametrize("mine, meanwhile, overwrite, words", IN_THE_WAY)
def test_nothing_but_a_store_is_ever_replaced(tmp_path, write, mine, meanwhile, overwrite, words):
    file = tmp_path / mine

    def get_in_the_way():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")

    if not meanwhile:
        get_in_the_way()
    with pytest.raises(FileExistsError, match=words):
        write(IMAGE, tmp_path / "a.zarr", overwrite=overwrite, meanwhile=get_in_the_way if meanwhile else bool)
    assert file.read_text() == "mine"
    assert set(names(tmp_path)) <= {mine.split("/")[0], "a.zarr.partial" if meanwhile else mine}


@pytest.mark.skipif(os.name != "posix", reason="Windows locks in another way")
def test_a_lock_holds_only_while_its_file_is_there_and_is_not_needed_where_drives_have_none(tmp_path, monkeypatch):
    def made_anew(file, _):  # by others, who have finished and begun between the two calls
        os.rename(file.name, f"{file.name}.old")
        open(file.name, "w").close()

    def unknown(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    for change in (lambda file, _: os.unlink(file.name), made_anew):
        monkeypatch.setattr("fcntl.flock", change)
        with pytest.raises(FileExistsError, match="is being written"):
            write_verified(IMAGE, tmp_path / "a.zarr")
    monkeypatch.setattr("fcntl.flock", unknown)
    assert np.array_equal(write_verified(IMAGE, tmp_path / "a.zarr")[:], IMAGE)


def moments(folder, work, others):
    """Copies of a folder as a kill would leave it while a function works: before it computes, names or deletes one.

    Meanwhile none of the functions of others may write.
    """
    copies = []

    def copied():
        copies.append(shutil.copytree(folder, folder.with_name(f"copy {len(copies)}")))
        for other in others:
            with pytest.raises(FileExistsError, match="is being written by somebody else"):
                other()

    def copied_before(change, path, *others, **options):
        if Path(path).is_dir():
            copied()
            if others == () and len(names(path)) > 1:  # what is deleted first, is by chance
                (copies[-1] / os.path.relpath(path, folder) / safe_writing.MARK).unlink(missing_ok=True)
        change(path, *others, **options)

    with pytest.MonkeyPatch.context() as patch, Callback(start=lambda graph: copied()):
        patch.setattr(os, "replace", partial(copied_before, os.replace))
        patch.setattr(shutil, "rmtree", partial(copied_before, shutil.rmtree))
        work()
    return copies


def test_only_one_writes_and_if_it_is_killed_nothing_is_lost_and_the_next_one_cleans_up(tmp_path, write):
    (folder := tmp_path / "folder").mkdir()
    write(IMAGE, folder / "a.zarr")
    found, again = [], partial(write, 255 - IMAGE, folder / "a.zarr", overwrite=True)
    for copy in moments(folder, again, [partial(write_verified, IMAGE, folder / "a.zarr", overwrite=True)]):
        with pytest.raises(FileExistsError, match="overwrite=True"):
            write(IMAGE, path := copy / "a.zarr")
        pixels = open_image(path, 0).array.compute()
        found.append(pixels[0, 0] == IMAGE[0, 0])
        assert np.array_equal(pixels, IMAGE if found[-1] else 255 - IMAGE)
        assert np.array_equal(write(IMAGE // 2, path, overwrite=True)[:], IMAGE // 2) and names(copy) == ["a.zarr"]
    assert len(found) > 4 and len(set(found)) == 2


REFUSED = [
    (ValueError, "block .* has shape", lambda: write_verified(TILES.map_blocks(np.diff, meta=IMAGE[:0, :0]), "a")),
    (ValueError, "do not fit into uint8", lambda: write_verified(TILES.map_blocks(np.sqrt, meta=IMAGE[:0, :0]), "a")),
    (TypeError, "has a mask", lambda: write_verified(np.ma.masked_less(IMAGE, 9), "a")),
    (FileNotFoundError, "there is no folder", lambda: write_verified(IMAGE, os.path.join("nowhere", "a"))),
    (FileNotFoundError, None, lambda: check_store("nowhere")),
    (ValueError, "is in Zarr format 2, but must be in format 3", lambda: check_store("two.zarr")),
    (ValueError, "must be an array. Open one of them: inner", lambda: check_store("group.zarr")),
    (ValueError, "shows no pixel", lambda: view_window([IMAGE], (-500, 0), 1)),
    (TypeError, "labels are float64, but must be", lambda: write_pyramid(IMAGE / 2, "a", 1, labels=True)),
    (ValueError, "lists no multiscales", lambda: open_pyramid("group.zarr")),
    (ValueError, "axes 'ZCYX', but must be", lambda: write_pyramid(IMAGE[None, None], "a", 1, "ZCYX")),
    (ValueError, "name is '../b', but must be letters", lambda: write_labels(IMAGE, "ome.zarr", "../b")),
    (ValueError, "group.zarr is no OME-Zarr 0.5 image", lambda: write_labels(IMAGE, "group.zarr", "b")),
    (ValueError, "nothing is no OME-Zarr 0.5 image", lambda: write_labels(IMAGE, "nothing", "b")),
    (TypeError, "labels are bool, but must be", lambda: write_labels(IMAGE > 9, "ome.zarr", "b")),
    (ValueError, "shape .9, 170., but must have .120, 170.", lambda: write_labels(IMAGE[:9], "ome.zarr", "b")),
    (FileExistsError, "nuclei exists. .* overwrite=True", lambda: write_labels(IMAGE, "ome.zarr", "nuclei")),
]


def test_what_cannot_be_written_or_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.create_array("two.zarr", shape=(4,), dtype="u1", zarr_format=2)
    zarr.create_group("group.zarr").create_array("inner", shape=(4,), dtype="u1")
    write_pyramid(IMAGE, "ome.zarr", 1)
    write_labels(IMAGE, "ome.zarr", "nuclei")
    before = sorted(tmp_path.rglob("*"))
    for error, words, attempt in REFUSED:
        with pytest.raises(error, match=words):
            attempt()
        assert sorted(tmp_path.rglob("*")) == before


# Resume


def stored_from(folder, number=0, computed=False, **options):
    """Store an image of the file a.tif in folder, with chunks of 64 x 64 unless another is said."""
    image = open_image(folder / "a.tif", number).array
    return write_verified(image + 0 if computed else image, folder / "a.zarr", **{"chunks": (64, 64)} | options)


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """An image in a.tif, the chunks of it in a.zarr when storing was interrupted, and a list of all that are read."""
    places, read = [], Pixels.read

    def watched(pixels, region):
        places.append(tuple(part.start // 64 for part in region))
        return read(pixels, region)

    monkeypatch.setattr(Pixels, "read", watched)
    monkeypatch.setattr(image_files, "JOINED", 64 * 64)
    monkeypatch.setattr(safe_writing, "BATCH", 8)
    image = np.random.default_rng(2).integers(256, size=(400, 300), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for pixels in (image, 255 - image):
            file.write(pixels, metadata={"axes": "YX"})
    with Callback(posttask=Mock(side_effect=[None] * 30 + [KeyboardInterrupt])), pytest.raises(KeyboardInterrupt):
        stored_from(tmp_path)
    files = (tmp_path / "a.zarr.partial").rglob("c/*/*")
    kept = {tuple(map(int, file.parts[-2:])) for file in files if file.name.isdigit()}
    assert names(tmp_path) == ["a.tif", "a.zarr.partial"] and 10 <= len(kept) < 35, len(kept)
    places.clear()
    return image, kept, places


def test_what_was_interrupted_goes_on_with_what_is_missing_or_damaged(tmp_path, interrupted):
    image, kept, places = interrupted
    store, harmed = tmp_path / "a.zarr.partial" / "store", sorted(kept)[:3]
    for (row, column), harm in zip(harmed, (damage, Path.unlink, lambda file: os.truncate(file, 0))):
        harm(store / "c" / f"{row}" / f"{column}")  # as after a power failure
    (store / "c" / f"{harmed[0][0]}" / "0.1f.partial").write_text("so Zarr begins a chunk")
    assert np.array_equal(stored_from(tmp_path)[:], image) and names(tmp_path) == ["a.tif", "a.zarr"]
    assert sum(file.is_file() for file in (tmp_path / "a.zarr").rglob("*")) == 35 + 1
    assert sorted(places) == sorted(set(np.ndindex(7, 5)) - kept | set(harmed))


CHANGES = [{"chunks": (32, 128)}, {"chunks": (16, 16)}, {"number": 1}, {"compressors": Crc32cCodec()}]


@pytest.mark.parametrize("change", ["pixels", "time", *CHANGES], ids=str)
def test_another_source_or_layout_starts_anew_and_reads_few_chunks_of_the_file_twice(tmp_path, interrupted, change):
    """Also with as many pixels in a chunk, where those that are there can be decoded."""
    image, _, places = interrupted
    status = os.stat(tmp_path / "a.tif")
    if change == "pixels":  # same shape, same time
        tifffile.imwrite(tmp_path / "a.tif", image := 255 - image)
    os.utime(tmp_path / "a.tif", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9 * (change == "time")))
    array = stored_from(tmp_path, **(change if isinstance(change, dict) else {}))
    assert np.array_equal(array[:], 255 - image if change == {"number": 1} else image)
    assert set(places) == set(np.ndindex(7, 5)) and len(places) < 2 * 35


@pytest.mark.parametrize("options", [{"compressors": None}, {"computed": True}], ids=str)
def test_what_cannot_be_told_from_another_image_or_from_damage_is_not_kept(tmp_path, interrupted, options):
    with Callback(posttask=Mock(side_effect=KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        stored_from(tmp_path, **options)
    assert names(tmp_path) == ["a.tif"]


# Check


@pytest.mark.parametrize("shards", [None, (100, 100)])
def test_missing_and_damaged_chunks_are_named_and_no_others(tmp_path, shards, monkeypatch):
    path, image = tmp_path / "a.zarr", np.tile(IMAGE, (2, 2))
    codecs, config = storage.CODECS, safe_writing.WRITE_ALL_CHUNKS
    zarr.create_array(path, data=image, chunks=(50, 50), shards=shards, compressors=codecs, config=config)
    assert check_store(path) == (12 if shards else 35, [], [], True)
    damage(path / "c" / "0" / "2", position=40)
    (path / "c" / "2" / "1").unlink()
    cut_off = [(1, 0), (1, 1), (1, 2), (1, 3)]
    for (row, column), size in zip(cut_off, [0, 1, 10, 500]):
        os.truncate(path / "c" / f"{row}" / f"{column}", size)
    assert check_store(path)[1:3] == ([(2, 1)], [(0, 2), *cut_off])
    for error in (PermissionError, ConnectionError):  # say nothing about what is there
        monkeypatch.setattr(zarr.Array, "__getitem__", Mock(side_effect=error))
        with pytest.raises(error):
            check_store(path)


@pytest.mark.parametrize("compressors", [storage.CODECS, None, ZstdCodec(), ZstdCodec(checksum=True), GzipCodec()])
def test_a_report_says_whether_each_single_damaged_byte_is_noticed(tmp_path, compressors):
    path, image = tmp_path / "a.zarr", np.arange(16, dtype=np.uint8)
    write_verified(image, path, compressors=compressors)
    file, harmless = path / "c" / "0", []
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content)
        damage(file, position)
        damaged = check_store(path).damaged
        harmless.append(damaged == [(0,)] or np.array_equal(open_stored(path)[:], image))
    assert check_store(path).has_checksums == all(harmless)


# Pyramids


def transformations(path):
    """Scale and translation of each level, as they are stored."""
    [multiscale] = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"]
    steps = [level["coordinateTransformations"] for level in multiscale["datasets"]]
    return [[step[step["type"]] for step in level] for level in steps]


def exact_means(pixels):
    """Means of 2 x 2 pixels of a plane; the last row or column counts twice where their number is odd."""
    even = np.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + [(0, size % 2) for size in pixels.shape[-2:]], mode="edge")
    fours = np.stack([even[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], axis=-1)

    def mean(four):
        return math.fsum(np.divide(four, 4)) if pixels.dtype.kind == "f" else round(Fraction(sum(four), 4))

    return np.array([mean(four) for four in fours.reshape(-1, 4).tolist()], pixels.dtype).reshape(fours.shape[:-1])


def some_pixels(rng, shape, dtype):
    """Pixels of which means in float64 are exact."""
    if dtype.kind != "f":
        return random_pixels(rng, shape, dtype)
    largest = 2.0 ** (np.finfo(dtype).maxexp - 1)
    values = [[-largest, largest], rng.normal(size=99).astype("f4"), [np.nan, np.inf, 1]][rng.integers(3)]
    return rng.choice(values, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.dtype(name) for name in DTYPES if name != "c8"], ids=str)
@for_any_seed(4)
def test_images_and_labels_come_back_with_exact_levels_and_all_that_is_known(tmp_path, dtype, seed):
    """Levels of an image are means; those of labels and masks hold every second pixel."""
    rng, path = np.random.default_rng(seed), tmp_path / "a"
    axes = "".join(axis for axis in "TCZ" if rng.random() < 0.6) + "YX"
    sides = rng.permutation([rng.choice([1, 7, 20]), rng.choice([2, 257, 521])]).tolist()
    shape = (*rng.integers(1, 3, size=len(axes) - 2).tolist(), *sides)
    image = some_pixels(rng, shape, dtype)
    channels = [(name, 900) for name in "abc"][: dict(zip(axes, shape)).get("C", 1)]
    pixel_size = {axis: rng.random() + 0.01 for axis in axes if axis in "ZYX" and rng.random() < 0.7}
    chunks = tuple(rng.integers(60, 600, size=rng.integers(2, len(axes) + 1)).tolist())
    tiles = da.from_array(image, random_chunks(rng, shape, most=2))
    levels = write_pyramid(tiles, path, pixel_size, axes, channels, chunks=chunks, overwrite=True)
    assert levels[0].chunks == tuple(map(min, (1,) * (len(axes) - len(chunks)) + chunks, shape))
    expect(path, image, levels, axes, pixel_size, [name for name, _ in channels])
    if dtype.kind in "iu":
        labels = image.take(0, axes.index("C")) if "C" in axes else image
        levels, axes = write_labels(da.from_array(labels, 99), path, "nuclei"), axes.replace("C", "")
        alone = write_pyramid(labels, tmp_path / "b", pixel_size, axes, overwrite=True, labels=True)
        for place, written in ((path / "labels" / "nuclei", levels), (tmp_path / "b", alone)):
            expect(place, labels, written, axes, pixel_size, [])


def expect(path, pixels, levels, axes, pixel_size, channels):
    """Assert that an image, or labels if there are no channels, and all that is known about it are stored."""
    opened, described = open_image(path, 0), yaozarrs.validate_zarr_store(path).ome_metadata()
    assert (opened.axes, opened.pixel_size, opened.channels) == (axes, pixel_size, channels)
    assert np.array_equal(opened.array.compute(), pixels, equal_nan=True)
    assert isinstance(described, yaozarrs.v05.LabelImage) == (not channels)
    assert [max(level.shape[-2:]) > 256 for level in levels] == [True] * (len(levels) - 1) + [False]
    expected = pixels
    for number, (level, steps) in enumerate(zip(levels, transformations(path), strict=True)):
        assert np.array_equal(level, expected, equal_nan=True) and level.dtype == pixels.dtype.newbyteorder("=")
        expected = exact_means(level[:]) if channels and level.dtype != bool else level[:][..., ::2, ::2]
        sides = [2 ** (size - 1).bit_length() for size in pixels.shape]
        factors = [min(2**number, side) if axis in "YX" else 1 for axis, side in zip(axes, sides)]
        sizes = [pixel_size.get(axis, 1) for axis in axes]
        assert steps[0] == [size * factor for size, factor in zip(sizes, factors)]
        assert steps[1] == [size * (factor - 1) / 2 for size, factor in zip(sizes, factors)]


def listed(path):
    """The labels that an image lists, all of which are there and valid."""
    yaozarrs.validate_zarr_store(path)
    return [name.split()[1] for name in open_image(path, 0).images[1:]]


def test_labels_are_listed_when_they_are_complete(tmp_path, monkeypatch):
    """Also after an error, or when a run was killed; the next one replaces what that left."""
    (folder := tmp_path / "folder").mkdir()
    write_pyramid(ones := np.ones((300, 4), "u1"), path := folder / "a", 1)
    before, read = sorted(path.rglob("*")), zarr.Array.__getitem__
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="does not read back"):
        patch.setattr(zarr.Array, "__getitem__", lambda array, at: read(array, at) + (array.shape == ones.shape))
        write_labels(ones, path, "b")
    assert sorted(path.rglob("*")) == before
    others = partial(write_labels, ones, path, "c"), partial(write_pyramid, ones, path, 1, overwrite=True)
    copies = moments(folder, partial(write_labels, ones, path, "b"), others)
    for copy in copies:
        assert listed(path := copy / "a") == []
        for number, name in enumerate("bcb"):
            assert write_labels(ones * number, path, name, overwrite=True)[0][0, 0] == number
        assert listed(path) == ["labels/b", "labels/c"]
        assert names(path / "labels") == ["b", "c", "zarr.json"] and names(copy) == ["a"]
    assert len(copies) > 4


def test_labels_lie_where_the_image_of_another_program_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramids, "SMALLEST_LEVEL", 10)
    write_pyramid(np.ones((3, 2, 20, 4), "u1"), path := tmp_path / "a", {"Y": 5, "X": 5}, "TCYX", chunks=(8, 3))
    monkeypatch.undo()
    ome = (group := zarr.open_group(path)).attrs["ome"]
    scales = ome["multiscales"][0]
    scales["datasets"][0]["coordinateTransformations"][1]["translation"] = [0, 0, 3, 0]
    both = [{"type": "scale", "scale": [4, 1, 2, 2]}, {"type": "translation", "translation": [0, 0, 0, 1]}]
    group.attrs["ome"] = ome | {"multiscales": [scales | {"coordinateTransformations": both}]}
    written = write_labels(np.ones((3, 20, 4), "u1"), path, "nuclei")
    assert listed(path) == ["labels/nuclei"] and written[0].chunks == (1, 8, 3)
    assert transformations(path / "labels" / "nuclei") == [[[4, 10, 10], [0, 6, 1]], [[4, 20, 20], [0, 11, 6]]]


def test_the_view_reads_only_what_the_screen_needs(tmp_path):
    image = np.random.default_rng(6).integers(256, size=(701, 1000), dtype=np.uint8)
    written = write_pyramid(image, tmp_path / "a", 0.5, chunks=(128, 128))
    levels = open_pyramid(store := CountingStore(tmp_path / "a"))
    for center, zoom, screen, level, extent in [
        ((350, 500), 1, (100, 200), 0, (400, 600, 400, 300)),
        ((350, 500), 0.3, (400, 600), 1, (0, 1000, 702, 0)),
        ((350, 500), 0.2, (150, 200), 2, (0, 1000, 704, 0)),
        ((351, 501), 0.25, (10, 10), 2, (480, 524, 372, 328)),
        ((0, 0), 4, (80, 80), 0, (0, 10, 10, 0)),  # at the edge
        ((0, 0), 1e-320, (400, 600), 2, (0, 1000, 704, 0)),  # there is no coarser one
    ]:
        pixels, *found = view_window(levels, center, zoom, screen)
        left, right, bottom, top = (place >> level for place in extent)
        assert found == [level, extent] and np.array_equal(pixels, written[level][top:bottom, left:right])
        if zoom == 1:
            assert store.chunks_read == [f"0/c/{row}/{column}" for row in (2, 3) for column in (3, 4)]
    line = write_pyramid(image[:1], tmp_path / "b", 0.5)
    assert view_window(line, (0, 602), zoom=0.25, screen=(9, 20))[1:] == (2, (560, 644, 1, 0))


def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "JOINED", 2**19)
    pixels = np.random.default_rng(5).integers(256, size=(4096, 3072), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="zlib", rowsperstrip=7)
    monkeypatch.setattr(safe_writing, "BATCH", 24)
    image, tasks = open_image(tmp_path / "a.tif").array, []
    with dask.config.set(num_workers=2), Callback(start=lambda graph: tasks.append(len(graph))):
        peak = peak_of(lambda: write_pyramid(image, tmp_path / "a", 1, chunks=(256, 512), overwrite=True))
    assert peak < 0.5 * pixels.nbytes, peak
    assert max(tasks) < 0.3 * sum(tasks)  # in two runs: tasks take memory, too


def test_the_plan_of_chunks_that_wait_for_the_same_grows_as_their_number(tmp_path):
    image = da.ones((20, 20), chunks=1)
    peak = peak_of(lambda: write_verified(image - image.mean(), tmp_path / "a", overwrite=True))
    assert peak < 20_000 * image.npartitions, peak
