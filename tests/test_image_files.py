"""Microscope files of all formats are opened as they are, or refused with a sentence."""

import json
import os
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from random_images import DTYPES, for_any_seed, random_pixels

from course_helpers import image_files
from course_helpers._engine import image_formats
from course_helpers._engine.safe_writing import StorageError
from course_helpers.image_files import open_image

REAL = Path(os.environ.get("COURSE_TEST_IMAGES", "")) / "real"
FACTS = json.loads((REAL / "facts.json").read_text()) if (REAL / "facts.json").is_file() else []
PROJECTIONS = [f"{kind}-Projection_FITC_05" for kind in ("Maximum", "Best-Focus", "Maximum")]
# Of each real file, as facts.json says in words: axes, pixel sizes, channels, a sentence in its notes.
SAID = {
    "nuclei_zyx_8bit": ("ZYX", {"Z": 4.0, "Y": 0.82864, "X": 0.82864}, [], ""),
    "mito_zcyx_8bit": ("ZCYX", {"Z": 0.054455, "Y": 0.27228, "X": 0.27228}, [], "colour table"),
    "mitosis_tzcyx": ("TZCYX", {"Y": 0.0885, "X": 0.0885}, [], "No pixel size is stored along Z."),
    "migration_time_qyx": ("QYX", {}, [], r"along axis 0 \(Q\) is not stored"),
    "histology_jpeg": ("YXS", {"Y": 0.499, "X": 0.499}, [], "image 0 of 4"),
    "mosaic_two_tiles": ("CYX", {"Y": 1.0833, "X": 1.0833}, ["EGFP"], "mosaic"),
    "time_z_channels": ("TZCYX", {"Z": 0.5, "Y": 0.16781, "X": 0.16781}, ["5-FAM/pH 9.0", "FM 4-64/2% CHAPS"], ""),
    "ovule_raw_and_labels": ("ZYX", {"Z": 0.235, "Y": 0.15, "X": 0.15}, [], "of 2"),
    "plate_v04": ("CYX", {"Y": 2.7336, "X": 2.7336}, PROJECTIONS, "3 levels"),
    "tczyx_v05": ("TCZYX", {}, ["lynEGFP", "NLStdTomato", "lynEGFP"], "No pixel size is stored along Z, Y, X."),
    "heart_zarr2_no_ome": ("QQQ", {}, [], "No pixel size is stored."),
}
SEVERAL = {"ovule_raw_and_labels": ["label", "raw"], "plate_v04": ["facts", "facts_E08"]}


def total(image):
    return image.array.sum(dtype="f8" if image.array.dtype.kind == "f" else None).compute(num_workers=4)


@pytest.mark.parametrize("file", FACTS, ids=lambda file: file["file"])
def test_real_files_are_opened_and_those_that_are_cut_off_refused(file, tmp_path):
    path, name = REAL / file["file"], file["file"].split(".")[0].strip("/")
    unknown = file["axes"].split()[0], {}, [], "No pixel size is stored along"
    axes, pixel_size, channels, note = SAID.get(name, unknown)
    for number, key in enumerate(SEVERAL.get(name, [None])):
        image = open_image(path, number if key else None)
        facts = file.get(key) or file["facts"].get(key) or file["facts"]
        assert (image.array.shape, image.array.dtype, image.axes) == (tuple(facts["shape"]), facts["dtype"], axes)
        assert total(image) == pytest.approx(facts["sum"], rel=1e-12 if image.array.dtype.kind == "f" else 0, abs=0)
        assert image.pixel_size == pytest.approx(pixel_size, rel=1e-4) and image.channels == channels
        assert re.search(note, repr(image))
    if path.is_file() and (size := path.stat().st_size) > 1000:
        (tmp_path / path.name).write_bytes(path.read_bytes()[: size * 6 // 10])
        with pytest.raises(StorageError, match="damaged|cut off"):
            total(open_image(tmp_path / path.name, 0))


PIXELS = np.random.default_rng(0).integers(0, 60000, (3, 2, 40, 50), np.uint16)
PLANE = np.random.default_rng(1).integers(1, 256, size=(120, 170), dtype=np.uint8)


def tiff(path, pixels=PIXELS, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack"} | options)


def ome(path):
    said = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
    tiff(path, compression="lzw", tile=(16, 16), metadata=said | {"PhysicalSizeY": 0.25, "PhysicalSizeZ": 2})


def imagej(path):
    tiff(path, imagej=True, resolution=(4, 4), metadata={"axes": "ZCYX", "unit": "um", "spacing": 2})


def folder(path, change=None):
    path.mkdir()
    for z in range(3):
        tiff(path / f"a_z{z + 9}.tif", PIXELS[z], metadata={"axes": "CYX"}, compression="zstd")
    if change == "gap":
        (path / "a_z11.tif").rename(path / "a_z12.tif")
    elif change == "pairs":
        for file in path.iterdir():
            tiff(file, PLANE, append=True)
    elif change:
        tiff(path / change, PIXELS[0, :, :20], metadata={"axes": "CYX"})


def ome_zarr(path, version):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=PIXELS, chunks=(1, 1, 40, 25))
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zcyx"]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2000, 1, 250, 250]}]}
    said = {"multiscales": [{"axes": axes, "datasets": [dataset]}]}
    said |= {"omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}}
    group.attrs.update(said if version == "0.4" else {"ome": said})
    labels = group.create_group("labels", attributes={"labels": ["nuclei"]})
    labels.create_array("nuclei", data=PIXELS // 2, chunks=(1, 1, 40, 25))


def hdf5(path):
    with pytest.importorskip("h5py").File(path, "w") as file:
        data = file.create_dataset("a/b", data=PIXELS, chunks=(1, 1, 20, 50), compression="gzip")
        data.attrs["element_size_um"] = [2, 0.25, 0.25]
        for dimension, name in zip(data.dims, "zcyx"):
            dimension.label = name


def czi(path, pixels=PIXELS[..., None], scenes=1, without=()):
    with pytest.importorskip("pylibCZIrw.czi").create_czi(str(path)) as file:
        for scene, z, c in set(np.ndindex(scenes, *pixels.shape[:2])) - set(without):
            file.write(pixels[z, c], plane={"Z": z, "C": c, "T": 0}, scene=scene, location=(99 * scene, 0))
        file.write_metadata("a", {0: "DAPI", 1: "GFP"}, scale_x=0.25e-6, scale_y=0.25e-6, scale_z=2e-6)


WRITERS = {"a.ome.tif": ome, "imagej.tif": imagej, "series": folder, "a.h5": hdf5, "a.czi": czi}
WRITERS |= {f"a{version}.zarr": partial(ome_zarr, version=version) for version in ("0.4", "0.5")}


@pytest.fixture(scope="module")
def elsewhere():
    """A process that knows nothing but what it is sent."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.mark.parametrize("name", WRITERS)
def test_all_formats_say_the_same_also_in_another_process(name, tmp_path, elsewhere):
    WRITERS[name](tmp_path / name)
    image = open_image(tmp_path / name)
    assert image.axes == "ZCYX" and image.array.dtype == np.uint16 and (image.array.compute() == PIXELS).all()
    assert (image.array[1, ::-1, 7, ::3].compute() == PIXELS[1, ::-1, 7, ::3]).all()
    assert image.pixel_size == ({} if name == "series" else pytest.approx({"Z": 2, "Y": 0.25, "X": 0.25}))
    assert image.channels == ([] if name in ("imagej.tif", "series", "a.h5") else ["DAPI", "GFP"])
    assert elsewhere(image.array.sum().compute) == PIXELS.sum()
    again = elsewhere(open_image, tmp_path / name)
    assert (again.array.name == image.array.name) == ("zarr" not in name)  # who goes on with a copy asks for it


# Shapes, options, chunks and pixel sizes.
WRITTEN = [
    ((40, 100, 100), {}, (40, 100, 100), {}),  # small planes together
    ((40, 1000, 1000), {"rowsperstrip": 1}, (1, 1000, 1000), {}),  # no task for a row
    ((9000, 9000, 3), {"tile": (256, 256), "photometric": "rgb"}, (512, 512, 3), {}),
    ((3, 2000, 2000), {"planarconfig": "separate", "photometric": "rgb"}, (3, 131, 2000), {}),
    ((9000, 9000), {"rowsperstrip": 9000}, (9000, 9000), {}),
    ((40, 50), {"resolution": (72, 72), "resolutionunit": "INCH"}, (40, 50), {}),  # of a screen
    ((40, 50), {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}, (40, 50), {"Y": 0.5, "X": 0.5}),
    ((40, 50), {"resolution": (2, 2), "resolutionunit": "NONE"}, (40, 50), {}),
]


@pytest.mark.parametrize("shape, options, chunks, pixel_size", WRITTEN)
def test_chunks_are_whole_pieces_and_resolutions_of_screens_no_pixel_sizes(
    shape, options, chunks, pixel_size, tmp_path
):
    tiff(tmp_path / "a.tif", np.zeros(shape, np.uint8), compression="zlib", **options)
    image = open_image(tmp_path / "a.tif")
    assert image.array.chunksize == chunks and image.pixel_size == pytest.approx(pixel_size)
    assert ("in pieces of 77 MiB" in repr(image)) == (chunks == (9000, 9000))


def test_companions_need_not_be_chosen_and_several_images_must(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for step in (2, 1):
            file.write(PIXELS[0, 0, ::step, ::step], metadata=None)
        file.write(PLANE[:5, :5], subfiletype=1, metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.array.shape == (40, 50) and "image 1 of 3" in repr(image) and len(image.images) == 3
    assert open_image(tmp_path / "a.tif", 0).array.shape == (20, 25)
    with tifffile.TiffWriter(tmp_path / "levels.tif") as file:
        file.write(PLANE, subifds=1, tile=(16, 16))
        file.write(PLANE[::2, ::2], subfiletype=1, tile=(16, 16))
    assert np.array_equal(open_image(tmp_path / "levels.tif").array.compute(), PLANE)
    ome_zarr(tmp_path / "a.zarr", "0.5")
    assert (open_image(tmp_path / "a.zarr", 1).array.compute() == PIXELS // 2).all()
    czi(tmp_path / "a.czi", scenes=2)
    assert (open_image(tmp_path / "a.czi", 1).array.compute() == PIXELS).all()
    for number, words in ((None, "a.czi holds 2 images. .*1: scene 1"), (2, "number is 2, but must be .* from 0 to 1")):
        with pytest.raises(ValueError, match=words):
            open_image(tmp_path / "a.czi", number)


def test_colours_of_czi_are_red_green_blue(tmp_path):
    czi(tmp_path / "a.czi", np.full((3, 2, 40, 50, 3), (1, 2, 3), np.uint8))  # blue, green, red
    image = open_image(tmp_path / "a.czi")
    assert image.axes == "ZCYXS" and (image.array.compute() == (3, 2, 1)).all()


def test_what_is_lost_or_changes_is_no_silent_zero(tmp_path, monkeypatch):
    ome_zarr(tmp_path / "a.zarr", "0.4")
    (tmp_path / "a.zarr/0/0.0.0.0").unlink()
    assert "1 of 12 chunks are not stored" in repr(open_image(tmp_path / "a.zarr"))
    (tmp_path / "a.zarr/0/1.0.0.0").write_bytes(b"no")
    with pytest.raises(StorageError, match=r"a.zarr cannot be read at \[0:3, .*damaged"):
        open_image(tmp_path / "a.zarr").array.compute()
    zarr.create_array(tmp_path / "b.zarr", data=PIXELS, dimension_names=[*"zcyx"])
    image = open_image(tmp_path / "b.zarr")
    assert image.axes == "ZCYX"
    zarr.create_array(tmp_path / "b.zarr", data=PIXELS[:2], overwrite=True)
    with pytest.raises(StorageError, match=r"has shape .* at \[0:3, "):
        image.array.compute()
    if FACTS and pytest.importorskip("nd2"):
        image = open_image(shutil.copy(REAL / "time_z_channels.nd2", tmp_path))
        reader = sys.modules["nd2._readers"].ModernReader
        monkeypatch.setattr(reader, "_frame_offsets", {})
        with pytest.raises(StorageError, match="lacks a plane"):
            image.array.compute()


# One run of bytes, strips, tiles, tiles without compression.
KINDS = [{}, {"rowsperstrip": 7, "compression": "zlib"}, {"tile": (48, 32), "compression": "zlib"}, {"tile": (48, 32)}]


@for_any_seed(60)
def test_any_tiff_comes_back_bit_by_bit_with_the_colours_of_a_pixel_in_one_chunk(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shape = [*rng.integers(2, 4, size=rng.integers(3)), *rng.integers(20, 80, size=2)]
    dtype = np.dtype(rng.choice(DTYPES))
    planar = None if dtype == "?" else rng.choice([None, None, "contig", "separate"])
    colours = {None: [], "contig": len(shape), "separate": len(shape) - 2}[planar]
    pixels = random_pixels(rng, np.insert(shape, colours, 3), dtype)
    options = {"photometric": "rgb", "planarconfig": planar} if planar else {}
    options |= {"byteorder": rng.choice(["<", ">"]), "bigtiff": rng.random() < 0.5}
    tiff(tmp_path / "a.tif", pixels, **rng.choice(KINDS) | options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_files, "JOINED", 2 ** rng.integers(6, 20))
        image = open_image(tmp_path / "a.tif")
    assert image.array.dtype == dtype.newbyteorder("=")
    assert image.array.compute().tobytes() == pixels.astype(image.array.dtype).tobytes()
    chunks_of_colours = [sizes for axis, sizes in zip(image.axes, image.array.chunks) if axis == "S"]
    assert chunks_of_colours == ([(3,)] if planar else [])


def ome_in_two_files(folder):
    """Write four planes, with offsets as in one file; the first file lists all of them."""
    planes, files = np.stack([PLANE // n for n in (1, 2, 3, 4)]), [folder / "a.ome.tif", folder / "b.ome.tif"]
    for file, part in zip(files, ([[[1]], [[1]], [[0]], [[0]]], [[[0]], [[0]], [[1]], [[1]]])):
        tiff(file, planes * np.array(part, np.uint8), metadata={"axes": "TYX"}, ome=True)
    there = '<TiffData FirstT="2" IFD="2" PlaneCount="2"><UUID FileName="b.ome.tif">urn:uuid:b</UUID></TiffData>'
    said = tifffile.tiffcomment(files[0]).replace('PlaneCount="4"/>', f'PlaneCount="2"/>{there}')
    tifffile.tiffcomment(files[0], said)
    return planes, files


def recording_by_micro_manager(folder):
    """Write a plane into each of three files: a header where another page was, and an index of planes at the end."""
    planes, files = [PLANE, PLANE // 2, PLANE // 3], [folder / f"a_MMStack_{part}.tif" for part in range(3)]
    for part, (path, plane) in enumerate(zip(files, planes)):
        tiff(path, [PLANE, plane], metadata=None, extratags=[(51123, 2, 0, "{}", False)])
        with tifffile.TiffFile(path) as file:
            offset = file.pages[1].offset
        content, summary = path.read_bytes(), b'{"MicroManagerVersion": "2", "Frames": 3, "Prefix": "a"}'
        header = np.array([offset, 54773648, len(content), 0, 0, 0, 0, 2355492, len(summary)], "<u4")
        index = np.array([3453623, 1, 0, 0, part, 0, offset], "<u4")
        header = header.tobytes() + summary
        path.write_bytes(content[:4] + header + content[4 + len(header) :] + index.tobytes())
    return np.stack(planes), files


@pytest.mark.parametrize("write", [ome_in_two_files, recording_by_micro_manager])
def test_an_image_in_several_files_is_read_whole_or_not_at_all(tmp_path, write):
    planes, files = write(tmp_path)
    assert np.array_equal(open_image(files[0]).array.compute(), planes)
    for file in files[1:]:
        file.unlink()
        with pytest.raises(StorageError, match="lacks [12] of [34] planes"):
            open_image(files[0])


@pytest.mark.parametrize("write", [tiff, folder, ome_in_two_files])
def test_a_file_that_changes_is_noticed_also_while_it_is_read_and_has_another_name(tmp_path, monkeypatch, write):
    if write == ome_in_two_files:
        path, other = write(tmp_path)[1]
    else:
        write(path := tmp_path / "a")
        other = path / "a_z10.tif" if write == folder else path
    image = open_image(path)
    assert image.array.name == open_image(path).array.name
    image.array.compute()
    asarray = np.asarray
    monkeypatch.setattr(image_formats.np, "asarray", lambda *pixels: os.utime(other, ns=(1, 1)) or asarray(*pixels))
    with pytest.raises(StorageError, match=f"{other.name} has changed since it was opened"):
        image.array.compute()
    assert image.array.name != open_image(path).array.name


def test_what_may_change_unseen_never_has_the_same_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:  # its pixels are in other files
        file.create_virtual_dataset("a", h5py.VirtualLayout((40, 50), np.uint16))
    assert open_image(tmp_path / "a.h5").array.name != open_image(tmp_path / "a.h5").array.name


# Refused


def without_the_others(path, prefix):
    said = f'<{prefix}OME><{prefix}BinaryOnly MetadataFile="a.ome.tif" UUID="urn:uuid:a"/></{prefix}OME>'
    tiff(path, PLANE, description=said, metadata=None)


def cut_off(path):
    tiff(path, compression="zlib")
    os.truncate(path, path.stat().st_size * 6 // 10)


def lying(path, tag, lie):
    """Write a file whose first tile lies nowhere, or in the second one."""
    tiff(path, PLANE, tile=(48, 32))
    with tifffile.TiffFile(path, mode="r+b") as file:
        values = file.pages[0].tags[tag]
        values.overwrite([lie and values.value[1] + lie, *values.value[1:]])


REFUSED = {
    "gone.tif": (lambda path: None, FileNotFoundError, "there is no file or folder .*gone.tif. Check"),
    "text.tif": (lambda path: path.write_text("text"), ValueError, "begins with b'text', but must be TIFF"),
    "empty": (lambda path: path.mkdir(), StorageError, "holds no TIFF file, but must be"),
    "size.zarr": (lambda path: zarr.create_array(path, shape=(0, 4), dtype="u1"), StorageError, "of shape .0, 4."),
    "short.tif": (lambda path: path.write_bytes(b"II*\0\0\0\0\0"), StorageError, "holds no image"),
    "cut.tif": (cut_off, StorageError, "is damaged or cut off"),
    "gap": (partial(folder, change="gap"), StorageError, "a file is missing"),
    "pairs": (partial(folder, change="pairs"), StorageError, "must hold one image"),
    "mixed": (partial(folder, change="a_z10.tif"), StorageError, "a_z10.tif holds .* one image like a_z9.tif"),
    "name": (partial(folder, change="b.tif"), StorageError, "differ in numbers alone"),
    "part.czi": (partial(czi, without=[(0, 1, 1)]), StorageError, "lacks 1 of 6 planes"),
    "b.ome.tif": (partial(without_the_others, prefix=""), StorageError, "one part of an image in several files"),
    "c.ome.tif": (partial(without_the_others, prefix="ome:"), StorageError, "one part of an image in several files"),
}
for tag, lie in product(("TileOffsets", "TileByteCounts"), (0, 5)):
    broken = partial(lying, tag=tag, lie=lie)
    REFUSED[f"{tag}_{lie}.tif"] = broken, StorageError, "does not say where its pixels are"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_opened_is_refused_with_a_remedy(name, tmp_path):
    make, error, message = REFUSED[name]
    make(tmp_path / name)
    with pytest.raises(error, match=message):
        open_image(tmp_path / name)


def test_missing_packages_are_named_with_the_line_that_installs_them(tmp_path, monkeypatch):
    for package, beginning in (("h5py", b"\x89HDF"), ("nd2", b"\xda\xce\xbe\n"), ("pylibCZIrw", b"ZISR")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.czi", None)
        (tmp_path / "a").write_bytes(beginning)
        with pytest.raises(StorageError, match=f"not installed. Run in a cell: %pip install {package}. If"):
            open_image(tmp_path / "a")
