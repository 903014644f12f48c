"""Microscope files of all formats are opened as they are, or refused with a sentence."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cloudpickle
import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from course_helpers._engine.safe_writing import StorageError
from course_helpers.image_files import open_image

REAL = Path(os.environ.get("COURSE_TEST_IMAGES", "")) / "real"
FACTS = json.loads((REAL / "facts.json").read_text()) if "COURSE_TEST_IMAGES" in os.environ else []
# What differs from the letters, sizes and sums in facts.json, or is written differently there.
AXES = {"mosaic_two_tiles.czi": "CYX", "time_z_channels.nd2": "TZCYX", "heart_zarr2_no_ome.zarr/": "QQQ"}
SIZES = {
    "nuclei_zyx_8bit.tif": {"Z": 4.0, "Y": 0.82864, "X": 0.82864},
    "mito_zcyx_8bit.tif": {"Z": 0.054455, "Y": 0.27228, "X": 0.27228},
    "mitosis_tzcyx.tif": {"Y": 0.0885, "X": 0.0885},
    "histology_jpeg.svs": {"Y": 0.499, "X": 0.499},
    "mosaic_two_tiles.czi": {"Y": 1.0833, "X": 1.0833},
    "time_z_channels.nd2": {"Z": 0.5, "Y": 0.16781, "X": 0.16781},
    "ovule_raw_and_labels.h5": {"Z": 0.235, "Y": 0.15, "X": 0.15},
    "plate_v04.zarr/": {"Y": 2.7336, "X": 2.7336},
}
CHANNELS = {
    "mosaic_two_tiles.czi": ["EGFP"],
    "time_z_channels.nd2": ["5-FAM/pH 9.0", "FM 4-64/2% CHAPS"],
    "plate_v04.zarr/": [
        f"{kind}_FITC_05" for kind in ("Maximum-Projection", "Best-Focus-Projection", "Maximum-Projection")
    ],
    "tczyx_v05.ome.zarr/": ["lynEGFP", "NLStdTomato", "lynEGFP"],
}
SEVERAL = {"ovule_raw_and_labels.h5": ["label", "raw"], "plate_v04.zarr/": ["facts", "facts_E08"]}
NOTES = {
    "mito_zcyx_8bit.tif": "colour table",
    "migration_time_qyx.tif": r"axis 0 \(Q\)",
    "mosaic_two_tiles.czi": "mosaic",
}
NOTES |= {"mitosis_tzcyx.tif": "No pixel size is stored along Z", "histology_jpeg.svs": "image 0 of 4"}


def total(image):
    return image.array.sum(dtype="f8" if image.array.dtype.kind == "f" else None).compute(num_workers=4)


@pytest.mark.parametrize("file", FACTS, ids=lambda file: file["file"])
def test_real_files(file):
    name = file["file"]
    for number, key in enumerate(SEVERAL.get(name, ["facts"])):
        image = open_image(REAL / name, number if name in SEVERAL else None)
        facts = file.get(key) or file["facts"].get(key) or file["facts"]
        assert image.array.shape == tuple(facts["shape"]) and image.array.dtype == facts["dtype"]
        assert image.axes == AXES.get(name, file["axes"].split()[0])
        assert total(image) == pytest.approx(facts["sum"], rel=1e-12 if image.array.dtype.kind == "f" else 0)
        assert image.pixel_size == pytest.approx(SIZES.get(name, {}), rel=1e-4)
        assert image.channels == CHANNELS.get(name, [])
        assert re.search(NOTES.get(name, ""), repr(image))
        assert set("ZYX") & set(image.axes) <= set(SIZES.get(name, {})) or "No pixel size is stored" in repr(image)
    if name in SEVERAL:
        with pytest.raises(ValueError, match="holds 2 images. Choose one, such as number=0, of 0: "):
            open_image(REAL / name)
        with pytest.raises(ValueError, match="number is 2, but must be a whole number from 0 to 1"):
            open_image(REAL / name, 2)


@pytest.mark.parametrize("name", [file["file"] for file in FACTS if file["file"][-1] != "/" and file["size"] > 1000])
def test_real_files_that_are_cut_off_are_refused(name, tmp_path):
    path = tmp_path / name
    path.write_bytes((REAL / name).read_bytes()[: int(0.6 * (REAL / name).stat().st_size)])
    with pytest.raises(StorageError, match="damaged|cut off"):
        total(open_image(path, 0))


PIXELS = np.random.default_rng(0).integers(0, 60000, (3, 2, 40, 50), np.uint16)


def tiff(path, pixels=PIXELS, **options):
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)


def ome(path):
    said = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
    tiff(path, compression="lzw", tile=(16, 16), metadata=said | {"PhysicalSizeY": 0.25, "PhysicalSizeZ": 2})


def imagej(path):
    tiff(path, imagej=True, resolution=(4, 4), metadata={"axes": "ZCYX", "unit": "um", "spacing": 2})


def folder(path):
    path.mkdir()
    for z in range(3):
        tiff(path / f"a_z{z + 9}.tif", PIXELS[z], metadata={"axes": "CYX"}, compression="zstd")


def ome_zarr(path, version, units=True):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    array = group.create_array("0", data=PIXELS, chunks=(1, 1, 40, 25))
    assert array.shape == PIXELS.shape
    axes = [
        {"name": "z", "type": "space"},
        {"name": "c", "type": "channel"},
        *({"name": n, "type": "space"} for n in "yx"),
    ]
    axes = [axis | {"unit": "nanometer"} if units and axis["name"] != "c" else axis for axis in axes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2000, 1, 250, 250]}]}
    said = {
        "multiscales": [{"axes": axes, "datasets": [dataset]}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]},
    }
    group.attrs.update(said if version == "0.4" else {"ome": said})
    labels = group.create_group("labels")
    labels.attrs.update({"labels": ["nuclei"]} if version == "0.4" else {"ome": {"labels": ["nuclei"]}})
    labels.create_array("nuclei", data=PIXELS // 2, chunks=(1, 1, 40, 25))


def hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a/b", data=PIXELS, chunks=(1, 1, 20, 50), compression="gzip")
        data.attrs["element_size_um"] = [2, 0.25, 0.25]
        for dimension, name in zip(data.dims, "zcyx"):
            dimension.label = name


def czi(path, scenes=1, without=()):
    writer = pytest.importorskip("pylibCZIrw.czi")
    with writer.create_czi(str(path)) as file:
        for scene, z, c in np.ndindex(scenes, 3, 2):
            if (scene, z, c) not in without:
                file.write(
                    PIXELS[z, c, ..., None], plane={"Z": z, "C": c, "T": 0}, scene=scene, location=(scene * 99, 0)
                )
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata("a", channel_names=names, scale_x=0.25e-6, scale_y=0.25e-6, scale_z=2e-6)


WRITERS = {"a.ome.tif": ome, "imagej.tif": imagej, "series": folder, "a.h5": hdf5, "a.czi": czi}
WRITERS |= {f"a{version}.zarr": partial(ome_zarr, version=version) for version in ("0.4", "0.5")}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    WRITERS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def test_all_formats_say_the_same(written):
    image = open_image(written)
    assert image.axes == "ZCYX" and image.array.dtype == np.uint16 and np.array_equal(image.array, PIXELS)
    assert np.array_equal(image.array[1, ::-1, 7, ::3], PIXELS[1, ::-1, 7, ::3])
    assert image.pixel_size == ({} if written.name == "series" else pytest.approx({"Z": 2, "Y": 0.25, "X": 0.25}))
    assert image.channels == ([] if written.name in ("imagej.tif", "series", "a.h5") else ["DAPI", "GFP"])


def test_another_process_reads_the_same(written, tmp_path):
    (tmp_path / "pickled").write_bytes(cloudpickle.dumps(open_image(written)))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).array.sum().compute())"
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pickled"], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.stdout.strip() == str(PIXELS.sum()), run.stderr


def test_what_changes_after_opening_is_refused(tmp_path):
    tiff(tmp_path / "a.tif")
    image = open_image(tmp_path / "a.tif")
    tiff(tmp_path / "a.tif", PIXELS[:2])
    with pytest.raises(StorageError, match="has changed since it was opened"):
        image.array.compute()


@pytest.mark.parametrize(
    ("shape", "options", "chunks"),
    [
        ((40, 100, 100), {}, (40, 100, 100)),  # small planes together
        ((40, 1000, 1000), {"compression": "zlib", "rowsperstrip": 1}, (1, 1000, 1000)),  # no task for a row
        ((9000, 4000), {"compression": "zlib", "rowsperstrip": 100}, (3200, 4000)),
        ((9000, 9000, 3), {"compression": "zlib", "tile": (256, 256), "photometric": "rgb"}, (2048, 2048, 3)),
        ((9000, 9000), {"compression": "zlib", "rowsperstrip": 9000}, (9000, 9000)),
    ],
)
def test_chunks_are_made_of_whole_pieces(shape, options, chunks, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), **options)
    image = open_image(tmp_path / "a.tif")
    assert (
        image.array.chunksize == chunks and (prod_note := "pieces of 77 MiB") in repr(image) or chunks != (9000, 9000)
    ), prod_note


@pytest.mark.parametrize(
    ("unit", "count", "size"), [("INCH", 72, {}), ("CENTIMETER", 20000, {"Y": 0.5, "X": 0.5}), ("NONE", 2, {})]
)
def test_resolutions_of_screens_are_no_pixel_sizes(unit, count, size, tmp_path):
    tiff(tmp_path / "a.tif", PIXELS[0, 0], resolution=(count, count), resolutionunit=unit)
    assert open_image(tmp_path / "a.tif").pixel_size == pytest.approx(size)


def test_companions_need_not_be_chosen_and_several_images_must(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for step in (2, 1):
            file.write(PIXELS[0, 0, ::step, ::step], metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.array.shape == (40, 50) and "image 1 of 2" in repr(image) and len(image.images) == 2
    assert open_image(tmp_path / "a.tif", 0).array.shape == (20, 25)
    czi(tmp_path / "a.czi", scenes=2)
    with pytest.raises(ValueError, match="a.czi holds 2 images. .*1: scene 1"):
        open_image(tmp_path / "a.czi")
    assert np.array_equal(open_image(tmp_path / "a.czi", 1).array, PIXELS)


def test_labels_lie_aside_and_lost_chunks_are_noted(tmp_path):
    ome_zarr(tmp_path / "a.zarr", "0.4", units=False)
    image = open_image(tmp_path / "a.zarr")
    assert image.pixel_size == {} and len(image.images) == 2 and not re.search("chunks", repr(image))
    assert np.array_equal(open_image(tmp_path / "a.zarr", 1).array, PIXELS // 2)
    (tmp_path / "a.zarr/0/0.0.0.0").unlink()
    assert "1 of 12 chunks are not stored" in repr(open_image(tmp_path / "a.zarr", 0))
    (tmp_path / "a.zarr/0/1.0.0.0").write_bytes(b"no")
    with pytest.raises(StorageError, match=r"a.zarr cannot be read at \[0:3, .*damaged"):
        da.max(open_image(tmp_path / "a.zarr", 0).array).compute()


def break_folder(path, how):
    folder(path)
    if how == "gap":
        (path / "a_z11.tif").rename(path / "a_z12.tif")
    else:
        tiff(path / {"mixed": "a_z10.tif", "name": "b.tif"}[how], PIXELS[:, 0, :20])


def break_ome(path):
    pages = [f"{path.parent}/{n}.ome.tif" for n in range(2)]
    tifffile.imwrite(pages[0], PIXELS[0, :1], metadata={"axes": "CYX"})
    text = tifffile.TiffFile(pages[0]).ome_metadata.replace('SizeC="1"', 'SizeC="2"')
    tifffile.imwrite(path, PIXELS[0, :1], description=text.encode(), metadata=None)


REFUSED = {
    "gone.tif": (lambda path: None, FileNotFoundError, "there is no file or folder .*gone.tif. Check"),
    "text.tif": (lambda path: path.write_text("text"), ValueError, "begins with b'text', but must be TIFF"),
    "empty": (lambda path: path.mkdir(), StorageError, "holds no TIFF file, but must be"),
    "gap": (lambda path: break_folder(path, "gap"), StorageError, "a file is missing"),
    "mixed": (
        lambda path: break_folder(path, "mixed"),
        StorageError,
        "a_z10.tif holds .* but must hold one image like a_z9.tif",
    ),
    "name": (lambda path: break_folder(path, "name"), StorageError, "differ in numbers alone"),
    "part.ome.tif": (break_ome, StorageError, "lacks 1 of 2 planes"),
    "a.czi": (lambda path: czi(path, without=[(0, 1, 1)]), StorageError, "lacks 1 planes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_opened_is_refused_with_a_remedy(name, tmp_path):
    make, error, message = REFUSED[name]
    make(tmp_path / name)
    with pytest.raises(error, match=message):
        open_image(tmp_path / name)


@pytest.mark.parametrize(
    ("module", "package", "beginning"),
    [("h5py", "h5py", b"\x89HDF"), ("nd2", "nd2", b"\xda\xce\xbe\n"), ("pylibCZIrw.czi", "pylibCZIrw", b"ZISR")],
)
def test_missing_packages_are_named_with_the_line_that_installs_them(module, package, beginning, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a").write_bytes(beginning)
    with pytest.raises(
        StorageError, match=f"the package {package}, which is not installed. Run in a cell: %pip install {package}"
    ):
        open_image(tmp_path / "a")


def test_nd2_planes_that_are_missing_are_no_zeros(tmp_path, monkeypatch):
    library = pytest.importorskip("nd2")
    if not FACTS:
        pytest.skip("COURSE_TEST_IMAGES is not set")
    path = shutil.copy(REAL / "time_z_channels.nd2", tmp_path)
    image = open_image(path)
    reader = sys.modules[library.ND2File(path)._rdr.__class__.__module__].ModernReader
    monkeypatch.setattr(reader, "_frame_offsets", {})
    with pytest.raises(StorageError, match="lacks planes"):
        image.array.compute()
