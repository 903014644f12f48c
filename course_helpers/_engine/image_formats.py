"""What is in a microscope file, format by format, and how a region of it is read."""

import atexit
import os
import re
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from importlib import import_module
from math import prod
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import zarr
from dask.base import tokenize
from tifffile import FileHandle, natural_sorted, xml2dict
from tifffile.tifffile import svs_description_metadata
from zarr.storage import FsspecStore

from course_helpers._engine.safe_writing import OF_FILES, StorageError
from course_helpers._engine.tiff_images import decoding, images_of, tiff_reader
from course_helpers.buckets import store_at

UNITS = {1: "um µm μm micron microns micrometer", 1e-3: "nm nanometer", 1e3: "mm millimeter", 1e4: "cm centimeter"}
UNITS |= {1e6: "m meter", 1e-4: "å angstrom", 1e-6: "pm picometer", 25400: "inch"}
MICROMETRES = {name: size for size, names in UNITS.items() for name in names.split()}
WORDS = {"T": "t tp time timepoint frame", "C": "c ch channel", "Z": "z slice", "Y": "y", "X": "x"}
LETTERS = {name: letter for letter, names in WORDS.items() for name in names.split()}
# In inches and centimetres, resolutions of prints and screens are stored (72 dpi: 353 micrometres): only finer ones count.
LARGEST_PIXEL = 20


class Details(NamedTuple):
    """What a file says about an image, and a function that reads a region; `pieces` is the shape in which it is stored.

    `files` is a function, too: in which files a region lies. A folder stands for all that is in it. None: in the one opened.
    """

    axes: str
    read: callable
    pieces: tuple
    pixel_size: dict = {}
    channels: list = []
    notes: list = []
    files: callable = None


class Stored(NamedTuple):
    """An image in a file; `details` is a function. What lies `aside` comes with another image, as a thumbnail does."""

    name: str
    shape: tuple
    dtype: np.dtype
    details: callable
    aside: bool = False


def package(module, name, kind):
    """Import a package that is not part of the set-up; raise StorageError with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise StorageError(
            f"{kind} files are read with the package {name}, which is not installed. Run in a cell: %pip install {name}. "
            "If it is not made for your Python, save the image as OME-TIFF with the program of the microscope or Fiji."
        ) from error


def in_micrometres(sizes):
    """Return a dict axis -> micrometres of (axis, size, unit), without those whose size or unit says nothing."""
    units = [str(unit).strip().lower().replace("\\u00b5", "µ").replace("metre", "meter") for _, _, unit in sizes]
    known = [(axis, float(size or 0), MICROMETRES.get(unit, 0)) for (axis, size, _), unit in zip(sizes, units)]
    limits = {1e4: LARGEST_PIXEL, 25400: LARGEST_PIXEL}
    return {axis: size * unit for axis, size, unit in known if 0 < size * unit < limits.get(unit, np.inf)}


def listed(value):
    """Return what XML holds at a place, once, more than once or not at all, as a list."""
    return value if isinstance(value, list) else [value] if value else []


def lengths(region):
    """Return the shape of a region."""
    return tuple(part.stop - part.start for part in region)


@contextmanager
def tiff(path):
    """TIFF, BigTIFF, OME-TIFF, ImageJ, SVS."""
    with images_of(path) as images:
        yield [
            Stored(image.name, image.shape, image.dtype, partial(tiff_details, image, number), is_aside(image, images))
            for number, image in enumerate(images)
        ]


def is_aside(image, images):
    """Tell whether an image of a TIFF file is a thumbnail, a label, an overview, or another one made smaller."""
    if re.fullmatch("(?i)thumbnail|label|macro|overview|map", image.name) or image.keyframe.is_reduced:
        return True
    for other in images:
        same_kind = (image.axes, image.dtype) == (other.axes, other.dtype)
        pairs = [(large, small) for axis, large, small in zip(image.axes, other.shape, image.shape) if axis in "YX"]
        factor = max((large / small for large, small in pairs), default=0) if same_kind else 0
        if factor > 1.5 and all(abs(large / factor - small) <= 1 for large, small in pairs):
            return True
    return False


def tiff_details(image, number):
    """Return the details of an image of a TIFF file."""
    read, pieces = tiff_reader(image)
    files = sorted({part.parent.filehandle.path for part in [image, *image]})
    notes = [f"It has {len(image.levels)} levels; this is the finest."] if len(image.levels) > 1 else []
    colours = {"PALETTE": "It brings a colour table; these are its numbers.", "MINISWHITE": "Pixels of 0 are white."}
    notes += [text for name, text in colours.items() if image.keyframe.photometric.name == name]
    sizes, channels = tiff_sizes(image), []
    if image.kind == "ome":
        described = listed(xml2dict(image.parent.ome_metadata)["OME"]["Image"])
        same_name = [one for one in described if one.get("Name") == image.name]
        pixels = (same_name[0] if len(same_name) == 1 else described[number])["Pixels"]
        said = {axis: f"PhysicalSize{axis}" for axis in "ZYX"}
        sizes = [(axis, pixels.get(name), pixels.get(f"{name}Unit", "um")) for axis, name in said.items()]
        channels = [str(one.get("Name", "")) for one in listed(pixels.get("Channel"))]
    axes = image.axes.replace("I", "Q")
    return Details(axes, read, pieces, in_micrometres(sizes), channels, notes, lambda region: files)


def tiff_sizes(image):
    """Return (axis, size, unit) as tags, ImageJ or Aperio say them."""
    page, said = image.keyframe, image.parent.imagej_metadata
    tags = {axis: page.tags.valueof(f"{axis}Resolution") or (0, 1) for axis in "YX"}
    lengths = [(axis, per / count if count else 0) for axis, (count, per) in tags.items()]
    if image.kind == "svs":
        return [(axis, svs_description_metadata(page.description).get("MPP"), "um") for axis in "YX" if page.index == 0]
    if said:
        lengths.append(("Z", said.get("spacing")))
        return [(axis, size, said.get(f"{axis.lower()}unit", said.get("unit"))) for axis, size in lengths]
    unit = {2: "inch", 3: "cm"}.get(page.tags.valueof("ResolutionUnit", default=2))
    return [(axis, size, unit) for axis, size in lengths]


def numbered_files(path):
    """Return of a folder of TIFF files whose names differ in numbers alone: a dict place -> name, numbers and words per axis."""
    names = natural_sorted(name for name in os.listdir(path) if re.search(r"(?i)^[^.].*\.tiff?$", name))
    parts = [re.split(r"(\d+)", name) for name in names]  # text and numbers in turn
    if len({tuple(part[::2]) for part in parts}) != 1:
        raise StorageError(
            f"the folder holds {', '.join(names[:3]) or 'no TIFF file'}, but must be a Zarr store, or hold TIFF files whose "
            "names differ in numbers alone. Choose one file, or move the others elsewhere."
        )
    varying = [place for place in range(1, len(parts[0]), 2) if len({int(part[place]) for part in parts}) > 1]
    values = [sorted({int(part[place]) for part in parts}) for place in varying]
    places = [tuple(numbers.index(int(part[place])) for numbers, place in zip(values, varying)) for part in parts]
    file_at = dict(zip(places, names))
    if (
        len(file_at) != len(names)
        or prod(map(len, values)) != len(names)
        or any(len(set(np.diff(one))) > 1 for one in values)
    ):
        raise StorageError(
            f"between {names[0]} and {names[-1]} a file is missing, or a number is twice. Complete them."
        )
    return file_at, values, [re.search(r"[a-z]*(?=[^a-z]*$)", parts[0][place - 1].lower())[0] for place in varying]


@contextmanager
def folder(path):
    """A folder of TIFF files of one shape, whose names differ in numbers alone: an axis for each number that varies."""
    file_at, values, words = numbered_files(path)
    names, counts, outer = list(file_at.values()), tuple(map(len, values)), len(values)

    def layout(name):
        with tiff(f"{path}/{name}") as images:
            return [(image.shape, image.dtype, image.details().axes) for image in images]

    first = layout(names[0])
    others = [name for name in names if layout(name) != first or len(first) > 1]
    if others:
        raise StorageError(f"{others[0]} holds {layout(others[0])}, but must hold one image like {names[0]}: {first}.")
    shape, dtype, _ = first[0]

    def files(region):
        places = np.ndindex(lengths(region[:outer]))
        return [f"{path}/{file_at[tuple(part.start + n for part, n in zip(region, place))]}" for place in places]

    def read(region):
        result = np.empty(lengths(region), dtype)
        for place, file in zip(np.ndindex(result.shape[:outer]), files(region)):
            with tiff(file) as images:
                result[place] = images[0].details().read(region[outer:])
        return result

    def details():
        with tiff(f"{path}/{names[0]}") as images:
            one = images[0].details()
        axes, pieces = "".join(LETTERS.get(word, "Q") for word in words) + one.axes, (1,) * outer + tuple(one.pieces)
        steps = [", ".join(map(str, numbers[:3])) + " ..." * (len(numbers) > 3) for numbers in values]
        note = f"It is made of {len(names)} files, {names[0]} to {names[-1]}, numbers {'; '.join(steps)}."
        return one._replace(axes=axes, read=read, pieces=pieces, notes=[note, *one.notes], files=files)

    yield [Stored(Path(path).name, counts + shape, dtype, details)]


@contextmanager
def zarr_store(path):
    """Arrays in Zarr 2 or 3, and OME-Zarr from 0.1 to 0.5."""
    yield list(zarr_images(zarr.open(store_at(path), mode="r"), ""))


def zarr_images(node, name, aside=False):
    """Yield the images at and below a node of a Zarr store."""
    if isinstance(node, zarr.Array):
        if node.ndim >= 2 and node.dtype.kind in "biuf":
            yield Stored(name, node.shape, node.dtype, partial(zarr_details, node, {}, {}), aside)
        return
    said = ome_of(node)
    for scales in said.get("multiscales", []):
        finest = node[scales["datasets"][0]["path"]]
        details = partial(zarr_details, finest, scales, said.get("omero", {}), "image-label" in said)
        yield Stored(name or scales.get("name", ""), finest.shape, finest.dtype, details, aside)
    if "multiscales" in said:
        below = ["labels"] if "labels" in node else []
    elif "plate" in said:
        wells = natural_sorted(well["path"] for well in said["plate"]["wells"])
        below = [f"{well}/{image['path']}" for well in wells for image in ome_of(node[well])["well"]["images"]]
    else:
        below = said.get("labels") or natural_sorted(key for key, _ in node.members())
    for path in below:
        yield from zarr_images(node[path], f"{name}/{path}".strip("/"), aside or path == "labels")


def ome_of(group):
    """Return what OME-Zarr says about a group: in 0.5 at a place of its own."""
    return group.attrs.get("ome", group.attrs)


def zarr_details(array, scales, omero, are_labels=False):
    """Return the details of a Zarr array, with what OME-Zarr says about it. Where labels have no object, no chunk is stored."""
    datasets = scales.get("datasets", [{}])
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    names = list("tczyx"[-array.ndim :]) if scales else names or [""] * array.ndim  # for OME-Zarr 0.1 and 0.2
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scales.get("axes", names)]
    letters = [LETTERS.get(str(axis["name"]).lower(), "Q") for axis in axes]
    steps = scales.get("coordinateTransformations", []) + datasets[0].get("coordinateTransformations", [])
    scale = np.prod([np.ones(array.ndim), *(step["scale"] for step in steps if "scale" in step)], axis=0)
    sizes = in_micrometres([(letter, size, axis.get("unit")) for letter, size, axis in zip(letters, scale, axes)])
    notes = [f"It has {len(datasets)} levels; this is the finest."] if len(datasets) > 1 else []
    lost = 0 if are_labels else chunks_lost(array)
    if lost:
        notes.append(f"{lost} of {array.nchunks} chunks are not stored and read as {array.fill_value}: empty, or lost.")
    channels = [str(channel.get("label", "")) for channel in omero.get("channels", [])]
    return Details("".join(letters), array.__getitem__, array.shards or array.chunks, sizes, channels, notes)


def chunks_lost(array):
    """Return how many chunks are not stored; 0 where it cannot be told, as a server need not list its files."""
    with suppress(PermissionError):
        return 0 if isinstance(array.store, FsspecStore) else array.nchunks - array.nchunks_initialized
    return 0


@contextmanager
def hdf5(path):
    """HDF5: each data set of numbers with at least two axes is an image."""
    h5py, found = package("h5py", "h5py", "HDF5"), []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: found.append(node) if isinstance(node, h5py.Dataset) else None)
        images = [node for node in found if node.ndim >= 2 and node.dtype.kind in "biuf"]
        yield [Stored(node.name[1:], node.shape, node.dtype, partial(hdf5_details, node)) for node in images]


def hdf5_details(node):
    """Return the details of a data set; `element_size_um`, as Fiji and others write it, is in the order z, y, x."""
    names, sizes = [one.label for one in node.dims], list(node.attrs.get("element_size_um", []))
    axes = "".join(LETTERS.get(name.lower(), "Q") for name in names)
    if set(axes) == {"Q"} and 2 <= len(sizes) <= min(3, node.ndim):
        axes = axes[: -len(sizes)] + "ZYX"[-len(sizes) :]
    pairs = zip([axis for axis in axes if axis in "ZYX"][::-1], sizes[::-1])
    pieces = node.chunks or (1,) * node.ndim
    needed = prod(-(-size // piece) for size, piece in zip(node.shape, pieces)) if node.chunks else 1
    stored = node.id.get_num_chunks() if node.chunks else node.id.get_storage_size()
    notes = [f"Parts are not stored and read as {node.fillvalue}: empty, or lost."] if stored < needed else []
    sizes, elsewhere = in_micrometres([(*pair, "um") for pair in pairs]), node.is_virtual or node.external
    files = [node.file.filename, *[os.path.dirname(node.file.filename)] * bool(elsewhere)]
    return Details(axes, node.__getitem__, pieces, sizes, [], notes, lambda region: files)


@contextmanager
def nd2(path):
    """Nikon's ND2: each position of the stage is an image."""
    library = package("nd2", "nd2", "ND2")
    # From a handle the file is read, not mapped: all that was read so far would count as memory in use.
    with FileHandle(path) as handle, library.ND2File(handle) as file:

        def missing(index=0):
            raise StorageError("the ND2 file lacks a plane that it announces. Copy it again, or choose others.")

        file._rdr._missing_frame = missing  # which gives zeros otherwise
        axes = [axis for axis in file.sizes if axis != "P"]
        shape = tuple(file.sizes[axis] for axis in axes)
        yield [
            Stored(f"position {number}", shape, file.dtype, partial(nd2_details, file, axes, number))
            for number in range(file.sizes.get("P", 1))
        ]


def nd2_details(file, axes, position):
    """Return the details of a position in an ND2 file."""
    loops = [axis for axis in file.sizes if axis not in "CYXS"]  # a frame has the other axes
    outer, counts = [axis for axis in loops if axis != "P"], [file.sizes[axis] for axis in loops]
    frames = np.arange(prod(counts)).reshape(counts)

    def read(region):
        result = np.empty(lengths(region), file.dtype)
        for place in np.ndindex(result.shape[: len(outer)]):
            at = {axis: part.start + step for axis, part, step in zip(outer, region, place)} | {"P": position}
            result[place] = file.read_frame(frames[tuple(at[axis] for axis in loops)])[region[len(outer) :]]
        return result

    known = file.metadata.channels[0].volume.axesCalibrated
    sizes = [(axis, size * is_known, "um") for axis, size, is_known in zip("XYZ", file.voxel_size(), known)]
    channels = [channel.channel.name for channel in file.metadata.channels]
    pieces = tuple(1 if axis in outer else file.sizes[axis] for axis in axes)
    return Details("".join(axes), read, pieces, in_micrometres(sizes), channels)


@contextmanager
def czi(path):
    """Zeiss' CZI: each scene is an image; tiles of a mosaic are put together."""
    with package("pylibCZIrw.czi", "pylibCZIrw", "CZI").open_czi(path) as file:
        blocks = []
        file.enumerate_subblocks(lambda index, block: blocks.append(block) or True)
        scenes = file.scenes_bounding_rectangle_no_pyramid or {None: file.total_bounding_rectangle_no_pyramid}
        images = []
        for scene, place in scenes.items():
            axes, starts, shape, dtype = czi_layout(file, place)
            details = partial(czi_details, file, scene, blocks, axes, starts, shape, place)
            images.append(Stored(f"scene {scene or 0}", shape, dtype, details))
        yield images


def czi_layout(file, place):
    """Return axes, their first numbers, shape and dtype of a scene."""
    kinds, box = sorted(set(file.pixel_types.values())), file.total_bounding_box_no_pyramid
    dtypes = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4", "Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4"}
    if len(kinds) > 1 or kinds[0] not in dtypes:
        raise StorageError(
            f"the CZI file has pixels of {kinds}, but must have one kind of {list(dtypes)}. Export it as OME-TIFF."
        )
    axes = [axis for axis in "VHIRBTZC" if axis == "C" or box.get(axis, (0, 1))[1] > 1]
    starts, counts = zip(*(box.get(axis, (0, 1)) for axis in axes))
    colours = (3,) * kinds[0].startswith("Bgr")
    return "".join(axes) + "YXS"[: 2 + len(colours)], starts, (*counts, place.h, place.w, *colours), dtypes[kinds[0]]


def czi_details(file, scene, blocks, axes, starts, shape, place):
    """Return the details of a scene in a CZI file."""
    outer, lock = axes[: len(starts)], Lock()
    blocks = [(block.coordinate.to_dict(), block.logicalRect) for block in blocks if block.get_zoom() == 1]
    blocks = [(at, box) for at, box in blocks if scene is None or at.get("S", 0) == scene]
    tiles = [tuple(at.get(axis, 0) for axis in outer) for at, _ in blocks]
    planes = prod(shape[: len(outer)])
    if len(set(tiles)) < planes:
        raise StorageError(
            f"the CZI file lacks {planes - len(set(tiles))} of {planes} planes. Copy or export it again."
        )

    def read(region):
        columns, rows = region[len(outer) + 1], region[len(outer)]
        roi = (place.x + columns.start, place.y + rows.start, columns.stop - columns.start, rows.stop - rows.start)
        numbers = np.ndindex(lengths(region[: len(outer)]))
        at = [[part.start + first + n for part, first, n in zip(region, starts, number)] for number in numbers]
        with lock:
            planes = np.stack([file.read(roi, dict(zip(outer, one)), scene) for one in at])
        planes = planes[..., ::-1][..., region[-1]] if axes[-1] == "S" else planes  # stored blue, green, red
        return planes.reshape(lengths(region))

    said = file.metadata["ImageDocument"]["Metadata"]
    distances = listed(((said.get("Scaling") or {}).get("Items") or {}).get("Distance"))
    sizes = in_micrometres([(one["@Id"], one.get("Value"), "m") for one in distances])
    channels = (said["Information"]["Image"].get("Dimensions") or {}).get("Channels") or {}
    channels = [one.get("@Name", "") for one in listed(channels.get("Channel"))]
    notes = ["A mosaic: where tiles overlap, one is shown; where there is none, 0."] if len(tiles) > planes else []
    pieces = max(box.h for _, box in blocks), max(box.w for _, box in blocks)
    return Details(axes, read, (*[1] * len(outer), *pieces, *shape[len(outer) + 2 :]), sizes, channels, notes)


def format_of(path):
    """Return the function that opens a file or folder; raise FileNotFoundError or ValueError if there is none."""
    if is_address(path):
        return zarr_store
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file or folder {path}. Check the name, and the folder you are in.")
    if os.path.isdir(path):
        is_zarr = any(os.path.exists(f"{path}/{name}") for name in ("zarr.json", ".zarray", ".zgroup"))
        return zarr_store if is_zarr else folder
    known = {b"II*\0": tiff, b"MM\0*": tiff, b"II+\0": tiff, b"MM\0+": tiff, b"\x89HDF": hdf5, b"ZISR": czi}
    known |= {b"\xda\xce\xbe\x0a": nd2, b"\0\0\0\x0c": nd2}  # whatever the name is
    with open(path, "rb") as file:
        beginning = file.read(4)
    if beginning not in known:
        raise ValueError(
            f"{path} begins with {beginning}, but must be TIFF, OME-TIFF, SVS, CZI, ND2, HDF5, Zarr or a folder of TIFF files. "
            "Save it as OME-TIFF with the program of the microscope or Fiji, or load PNG and JPEG with skimage.io.imread."
        )
    return known[beginning]


def is_address(path):
    """Tell whether a text is an address of something far away."""
    return str(path).startswith(("s3://", "https://", "http://"))


@lru_cache(maxsize=32)
def kept_open(path, opening, process):
    """Return the images of a file, details known so far, a lock, and what closes the file when nobody keeps it."""
    keep = ExitStack()
    return keep.enter_context(format_of(path)(path)), {}, Lock(), keep


atexit.register(kept_open.cache_clear)  # Windows deletes no open file


class Pixels:
    """An image on disk, of which regions are read; it can be sent to other processes, each of which opens the file."""

    def __init__(self, path, number, shape, dtype, files):
        self.path, self.number, self.shape, self.dtype, self.ndim = path, number, shape, dtype, len(shape)
        whole = [slice(0, size) for size in shape]
        self.stamps, self.opening = {file: stamp(file) for file in (files(whole) if files else [path])}, uuid4().hex

    def read(self, region):
        """Return a region, given as slices, as a NumPy array; raise StorageError if it cannot be read."""
        where, files = ", ".join(f"{part.start}:{part.stop}" for part in region), self.stamps
        with decoding(f" at [{where}]", self.path):
            try:
                stored, known, lock, keep = kept_open(self.path, self.opening, os.getpid())
                with lock:
                    if self.number not in known:
                        known[self.number] = stored[self.number].details()
                details = known[self.number]
                files = details.files(region) if details.files else files
                pixels = np.asarray(details.read(region), self.dtype)
            finally:  # whatever came of it: what has changed may look damaged, or be read half old, half new
                changed = [file for file in files if stamp(file) != self.stamps.get(file)]
                if changed:
                    raise StorageError(f"{changed[0]} has changed since it was opened. Call open_image again.")
            if pixels.shape != lengths(region):
                raise StorageError(f"{self.path} has shape {pixels.shape} at [{where}]. It may be damaged.")
        return pixels

    def name(self, chunks):
        """Return a name for a dask array: the same in each process, as long as the files are the same, where that is known."""
        known = None not in self.stamps.values()
        kept = self.path, self.number, self.shape, self.dtype.str, chunks, sorted(self.stamps.items())
        return OF_FILES + (tokenize(kept) if known else self.opening)


def stamp(path):
    """Return what changes with a file; of a folder, and of what is far away, it is not known."""
    return None if is_address(path) or os.path.isdir(path) else (os.stat(path).st_size, os.stat(path).st_mtime_ns)
