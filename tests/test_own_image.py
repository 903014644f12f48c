"""From any image to a result: axes in order, one histogram for all tiles, blobs in tiles, a record."""

import hashlib
import json
import re
from functools import partial

import dask.array as da
import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tifffile
from processes import ROOT
from random_images import for_any_seed, random_chunks
from scipy import ndimage as ndi
from test_objects import largest, names_of

from course_helpers.image_files import Image, open_image
from course_helpers.nuclei import segment_blobs
from course_helpers.objects import label_in_tiles
from course_helpers.own_image import mean_in_objects, summed_histogram, write_record
from course_helpers.stack import VOXEL_SIZE, nuclei_stack
from course_helpers.tiling import overlap_needed
from tools import build as builder


def image_of(pixels, axes, pixel_size=()):
    return Image(da.from_array(pixels, chunks=2), axes, dict(pixel_size), [], [], [])


@for_any_seed(20)
def test_axes_come_in_order_whatever_the_file_has(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)
    lacks = [n for n in order if n not in (3, 4) and rng.random() < 0.3]  # not Y and X
    whole = rng.random([1 if n in lacks else rng.integers(1, 5) for n in range(6)])
    pixels = whole.transpose(order).squeeze(tuple(place for place, n in enumerate(order) if n in lacks))
    image = image_of(pixels, "".join("TCZYXS"[n] for n in order if n not in lacks))
    found = image.tczyx(**({} if 5 in lacks else {"S": whole.shape[5] - 1}))
    assert np.array_equal(found.compute(), whole[..., -1]) and {*found.chunks[0], *found.chunks[1]} == {1}


def test_axes_that_do_not_fit_are_refused():
    for axes, chosen, says in [
        ("QYX", {}, r"tczyx\(Q=0\)"),
        ("YXS", {"S": 3}, "S is 3, but must be a whole number from 0 to 2"),
        ("YXS", {"Z": 0}, "no axis Z, but YXS"),
        ("ZYX", {"Y": 0}, "but must be 2 letters, each once, Y and X among them"),
        ("TZYX", {}, "but must be 3 letters"),
        ("YYX", {}, "each once"),
    ]:
        with pytest.raises(ValueError, match=says):
            image_of(np.zeros((3, 3, 3)), axes).tczyx(**chosen)


def test_spacing_is_known_or_refused():
    sizes = {"Z": 2, "Y": 0.5, "X": 0.25}
    assert image_of(np.zeros((3, 3, 3)), "ZYX", sizes).spacing == (2.0, 0.5, 0.25)
    assert image_of(np.zeros((3, 3)), "YX", {"Y": 0.5, "X": 0.25}).spacing == (1.0, 0.5, 0.25)
    for wrong in ({"Y": 1, "X": 1}, {**sizes, "Z": 0}, {**sizes, "Z": np.nan}):
        with pytest.raises(ValueError, match="must hold the micrometres along Z, too"):
            image_of(np.zeros((3, 3, 3)), "ZYX", wrong).spacing


@for_any_seed(40)
def test_summed_histogram_counts_every_pixel_once(seed):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(str(rng.choice(["u1", "i1", "u2", ">i2", "u4", "i8", "f2", "f4", ">f8"])))
    shape = tuple(rng.integers(1, 12, size=rng.integers(1, 4)).tolist())
    low, high = (-120, 120) if dtype.kind in "if" else (0, 250)
    pixels = rng.integers(low, rng.choice([low + 1, high]), shape).astype(dtype)  # also all equal
    counts, levels = summed_histogram(da.from_array(pixels, random_chunks(rng, shape)))
    assert counts.sum() == pixels.size and np.all(np.diff(levels) > 0)
    width = levels[1] - levels[0]
    if dtype.kind != "f" and dtype.itemsize <= 2:
        assert width == 1 and (levels[0], levels[-1]) == (np.iinfo(dtype).min, np.iinfo(dtype).max)
    error = np.abs(np.repeat(levels, counts) - np.sort(pixels, axis=None).astype(float))
    assert error.max() <= (0 if width == 1 and dtype.kind != "f" else 0.501 * width)


@for_any_seed(20)
def test_means_in_objects_are_those_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, size=rng.integers(1, 5)).tolist())
    labels, pixels = rng.integers(0, 7, shape) * 10**9, rng.integers(0, 65536, shape).astype("u2")
    tiles = [da.from_array(array, chunks=random_chunks(rng, shape)) for array in (labels, pixels)]
    expected = pd.Series(pixels.ravel()).groupby(labels.ravel()).mean().drop(0, errors="ignore")
    pd.testing.assert_series_equal(mean_in_objects(*tiles), expected, check_names=False)


@for_any_seed(25)
def test_blobs_are_the_same_in_tiles(seed):
    """Also with plateaus of equal grey levels, without any blur, and in one to four dimensions."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(1, 5))
    shape = tuple(rng.integers(3, [0, 200, 60, 24, 12][ndim], size=ndim).tolist())
    pixels = ndi.gaussian_filter(rng.random(shape), 1.5)
    pixels = np.round((pixels - pixels.min()) / np.ptp(pixels) * rng.choice([5, 200, 60_000]))
    pixels = pixels.astype(rng.choice(["u2", "f4"]))
    outline, spot = (tuple((rng.choice([0, 0.4, 0.8], ndim) * rng.integers(2)).tolist()) for _ in range(2))
    segment = partial(segment_blobs, threshold=float(np.quantile(pixels, 0.8)), outline_sigma=outline, spot_sigma=spot)
    whole = segment(pixels)
    reach = tuple(overlap_needed(("gaussian", sigma)) + 1 for sigma in np.maximum(outline, spot))
    overlap = tuple(np.add(largest(whole), reach).tolist())
    tiles = da.from_array(pixels, chunks=random_chunks(rng, shape, most=3))
    assert np.array_equal(label_in_tiles(segment, tiles, overlap, reach).compute(), names_of(whole))


def test_each_blob_has_one_spot_and_each_spot_one_blob():
    pixels = ndi.gaussian_filter(np.random.default_rng(8).random((12, 50, 60)), 2).astype("f4")
    labels = segment_blobs(pixels, np.median(pixels), 0, 1)
    assert np.array_equal(labels > 0, pixels > np.median(pixels))
    light = np.where(labels > 0, ndi.gaussian_filter(pixels, 1, mode="nearest"), -1)
    spots = (labels > 0) & (light == ndi.maximum_filter(light, footprint=ndi.generate_binary_structure(3, 1)))
    assert np.array_equal(np.sort(labels[spots]), np.arange(1, labels.max() + 1))


def test_record_holds_what_repeats_a_result_and_notices_every_change(tmp_path):
    image, seen, store = image_of(np.zeros((2, 3)), "YX"), set(), tmp_path / "store" / "a"
    settings = {"threshold": np.float32(2.5), "overlap": (1, np.int64(2)), "tile": np.arange(2)}
    store.mkdir(parents=True)
    for name, content in [("0", b"1"), ("1", b""), ("0", b"2"), ("b", b""), ("b", None)]:
        (store / name).rename(store / "c") if content is None else (store / name).write_bytes(content)
        record = write_record(path := tmp_path / f"{len(seen)}.json", store.parent, image, **settings)
        assert record["source"]["bytes"] == 1 and record["source"]["sha256"] not in seen
        seen.add(record["source"]["sha256"])
    assert record == json.loads(path.read_text(encoding="utf-8"))
    assert record["settings"] == {"threshold": 2.5, "overlap": [1, 2], "tile": [0, 1]}
    first = (tmp_path / "0.json").read_bytes()
    assert record["results"]["0.json"] == {"bytes": len(first), "sha256": hashlib.sha256(first).hexdigest()}
    assert record["image"]["axes"] == "YX" and record["image"]["shape"] == [2, 3]
    assert record["versions"]["numpy"] == np.__version__
    for error, name, setting in ((FileExistsError, "0.json", 1), (TypeError, "new.json", len)):
        with pytest.raises(error, match="exists|a setting is .*, but must be"):
            write_record(tmp_path / name, "nowhere", image, f=setting)  # before any file is read
    assert (tmp_path / "0.json").read_bytes() == first and not (tmp_path / "new.json").exists()


def run_core(path):
    """Run the core of the lesson with another file, without what draws the recording, exercises and truth."""
    cells, values = builder.parts(jupytext.read(ROOT / "sources" / "08_your_own_image.md").cells)[0], {}
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        left_out = re.search(r"\.check\(|tifffile\.imwrite|true_stack_nuclei\(", cell.source)
        if not left_out and not {"stub", "solution"} & set(builder.tags(cell)):
            exec(re.sub("^PATH = .*", f"PATH = {str(path)!r}", cell.source), values)
    return values


@pytest.mark.parametrize(
    "axes, part, dtype", [("CZYX", np.s_[0], "u1"), ("TYX", np.s_[:, 0, 8], "u2"), ("YX", np.s_[0, 0, 8], "f4")]
)
def test_the_lesson_measures_ones_own_file(axes, part, dtype, tmp_path, monkeypatch):
    """Labels, table and record agree."""
    pixels = nuclei_stack((2, 2, 20, 130, 170))[part].compute() // 6
    sizes = {f"PhysicalSize{axis}": size for axis, size in VOXEL_SIZE.items()}
    tifffile.imwrite(tmp_path / "own.ome.tif", pixels.astype(dtype), metadata={"axes": axes, **sizes})
    monkeypatch.setattr(plt, "show", plt.close)
    values = run_core(tmp_path / "own.ome.tif")
    results, found = values["RESULTS"], values["objects"]
    assert len(found) > 10 and len(pd.read_csv(results / "nuclei.csv")) == (~values["small"]).sum()
    labels = open_image(results / "recording.ome.zarr", number=1).array.compute()
    volumes = pd.DataFrame([np.bincount(volume.ravel(), minlength=labels.max() + 1)[1:] for volume in labels]).stack()
    assert np.allclose(volumes[volumes > 0] * np.prod(values["spacing"]), found.filter(regex="_um[23]").squeeze())
    channel = values["recording"][:, values["MARKER"]].compute()
    expected = [ndi.mean(channel[t], labels[t], n) for t, n in zip(found["time"], found["label"])]
    assert np.allclose(found["marker"], expected)
    record = json.loads((results / "record.json").read_text(encoding="utf-8"))
    assert record["settings"]["objects"] == len(found)
    assert set(record["results"]) == {"nuclei.csv", "recording.ome.zarr"}
