"""What is in a microscope file, format by format, and how a region of it is read."""

import json
import os
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from math import prod
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import zarr
from tifffile import FileHandle, natural_sorted, xml2dict
from tifffile.tifffile import svs_description_metadata

from course_helpers._engine.safe_writing import StorageError
from course_helpers._engine.tiff_pieces import decoding, images_of, tiff_reader

UNITS = {1: "um µm μm micron micrometer micrometre", 1e-3: "nm nanometer nanometre", 1e3: "mm millimeter millimetre"}
UNITS |= {1e4: "cm centimeter centimetre", 1e6: "m meter metre", 1e-4: "å angstrom", 1e-6: "pm picometer picometre"}
MICROMETRES = {name: size for size, names in UNITS.items() for name in names.split()} | {"inch": 25400}
ALONG = {"t": "T", "time": "T", "c": "C", "ch": "C", "channel": "C", "z": "Z", "slice": "Z", "y": "Y", "x": "X"}
# Resolutions per inch or centimetre are those of a print or a screen (72 dpi: 353 micrometres) unless as fine as this.
LARGEST_PIXEL = 20  # micrometres


class Details(NamedTuple):
    """How an image is read, and what its file says about it; `pieces` is the shape of what is stored in one piece."""

    axes: str
    read: callable
    pieces: tuple
    pixel_size: dict = {}
    channels: list = []
    notes: list = []


class Stored(NamedTuple):
    """An image in a file; `details` is a function. What lies `aside` goes with another image, as a thumbnail does."""

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
            f"{kind} files are read with the package {name}, which is not installed. Run this in a cell: %pip install {name}. "
            "Where it is not made for your Python, save the image as OME-TIFF with the program of the microscope or Fiji."
        ) from error


def sizes_in_micrometres(sizes):
    """Return a dict axis -> micrometres of (axis, size, unit), without those whose size or unit says nothing."""
    known = ((axis, size, MICROMETRES.get(re.sub(r"\\u00b5", "µ", str(unit).strip().lower()))) for axis, size, unit in sizes)
    return {axis: float(size) * unit for axis, size, unit in known if unit and size and 0 < float(size) < np.inf}


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
    named = re.fullmatch(r"thumbnail|label|macro|overview|map", image.name, re.IGNORECASE)
    return bool(named or image.keyframe.is_reduced or any(is_smaller(image, other) for other in images))


def is_smaller(image, other):
    """Tell whether an image has the axes of another one and its sides divided by about the same number."""
    if image.axes != other.axes or image.dtype != other.dtype or "YX" not in image.axes:
        return False
    sides = [[size for axis, size in zip(one.axes, one.shape) if axis in "YX"] for one in (image, other)]
    factor = max(large / small for small, large in zip(*sides))
    return factor > 1.5 and all(abs(large / factor - small) <= 1 for small, large in zip(*sides))


def tiff_details(image, number):
    """Return the details of an image of a TIFF file."""
    read, _, _, pieces = tiff_reader(image)
    notes = [f"It has {len(image.levels)} levels; this is the finest."] if len(image.levels) > 1 else []
    colours = {"PALETTE": "It brings a colour table; these are its numbers.", "MINISWHITE": "Pixels of 0 are white."}
    notes += [text for name, text in colours.items() if image.keyframe.photometric.name == name]
    sizes, channels = tiff_sizes(image), []
    if image.kind == "ome":
        described = xml2dict(image.parent.ome_metadata)["OME"]["Image"]
        described = described if isinstance(described, list) else [described]
        same_name = [one for one in described if one.get("Name") == image.name]
        pixels = (same_name[0] if len(same_name) == 1 else described[number])["Pixels"]
        sizes = [(axis, pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um")) for axis in "ZYX"]
        channels = pixels.get("Channel", [])
        channels = [str(one.get("Name", "")) for one in (channels if isinstance(channels, list) else [channels])]
    sizes = {axis: size for axis, size in sizes_in_micrometres(sizes).items() if axis in image.axes}
    return Details(image.axes.replace("I", "Q"), read, pieces, sizes, channels if any(channels) else [], notes)


def tiff_sizes(image):
    """Return (axis, size, unit) as tags, ImageJ or Aperio say them; a resolution of a print is left out."""
    page, file = image.keyframe, image.parent
    tags = {axis: page.tags.valueof(f"{axis}Resolution") or (0, 1) for axis in "YX"}
    lengths = {axis: per / count if count else 0 for axis, (count, per) in tags.items()}
    if image.kind == "svs":
        size = svs_description_metadata(page.description).get("MPP") if page.index == 0 else None
        return [(axis, size, "um") for axis in "YX"]
    if file.is_imagej:
        said = file.imagej_metadata
        units = {axis: said.get(f"{axis.lower()}unit", said.get("unit")) for axis in "ZYX"}
        return [("Z", said.get("spacing"), units["Z"]), *((axis, lengths[axis], units[axis]) for axis in "YX")]
    unit = {2: "inch", 3: "cm"}.get(page.tags.valueof("ResolutionUnit", default=2))
    sizes = sizes_in_micrometres([(axis, lengths[axis], unit) for axis in "YX"])
    return [(axis, size, "um") for axis, size in sizes.items() if max(sizes.values()) < LARGEST_PIXEL]


@contextmanager
def folder(path):
    """A folder of TIFF files of one shape, whose names differ in numbers alone: one number for each further axis."""
    names = natural_sorted(name for name in os.listdir(path) if re.search(r"(?i)^[^.].*\.tiff?$", name))
    parts = [re.split(r"(\d+)", name) for name in names]  # text and numbers in turn
    if not names or len({tuple(part[::2]) for part in parts}) > 1:
        found = ", ".join(names[:3]) or "no TIFF file"
        raise StorageError(
            f"the folder holds {found}, but must be a Zarr store, or hold TIFF files whose names differ in numbers alone. "
            "Choose one file, or move the others elsewhere."
        )
    varying = [place for place in range(1, len(parts[0]), 2) if len({int(part[place]) for part in parts}) > 1]
    values = [sorted({int(part[place]) for part in parts}) for place in varying]
    file_at = {tuple(int(part[place]) for place in varying): name for part, name in zip(parts, names)}
    gaps = any(len(set(np.diff(numbers))) > 1 for numbers in values)
    if gaps or not len(file_at) == len(names) == prod(map(len, values)):
        raise StorageError(f"of the files {names[0]} to {names[-1]} some are missing, or two have one number. Complete them.")
    letters = [re.search(r"[a-z]*(?=[^a-z]*$)", parts[0][place - 1].lower())[0] for place in varying]
    axes, first = "".join(ALONG.get(letter, "Q") for letter in letters), None
    for name in names:
        with tiff(f"{path}/{name}") as images:
            found = [(image.shape, image.dtype, image.details().axes) for image in images]
            first = first or found
            if len(found) > 1 or found != first:
                raise StorageError(f"{name} holds {found}, but must hold one image like {names[0]}: {first[0]}.")
    (shape, dtype, inner), lengths = first[0], tuple(map(len, values))

    def read(region):
        starts = [part.start for part in region[: len(axes)]]
        result = np.empty([part.stop - part.start for part in region], dtype)
        for place in np.ndindex(result.shape[: len(axes)]):
            name = file_at[tuple(numbers[start + step] for numbers, start, step in zip(values, starts, place))]
            with tiff(f"{path}/{name}") as images:
                if (images[0].shape, images[0].dtype) != (shape, dtype):
                    raise StorageError(f"{name} has changed since it was opened. Open the folder again.")
                result[place] = images[0].details().read(region[len(axes) :])
        return result

    def details():
        with tiff(f"{path}/{names[0]}") as images:
            one, notes = images[0].details(), [f"It is made of {len(names)} files, {names[0]} to {names[-1]}."]
            pieces = (1,) * len(axes) + tuple(one.pieces)
            return one._replace(axes=axes + one.axes, read=read, pieces=pieces, notes=notes + one.notes)

    yield [Stored(Path(path).name, lengths + shape, dtype, details)]


@contextmanager
def zarr_store(path):
    """Arrays in Zarr 2 or 3, and OME-Zarr from 0.1 to 0.5."""
    yield list(zarr_images(zarr.open(path, mode="r"), ""))


def zarr_images(node, name, aside=False):
    """Yield the images at and below a node of a Zarr store."""
    if isinstance(node, zarr.Array):
        if node.ndim >= 2 and node.dtype.kind in "biuf":
            yield Stored(name or Path(node.name).name, node.shape, node.dtype, partial(zarr_details, node), aside)
        return
    said, below = node.attrs.get("ome", node.attrs), []
    for scales in said.get("multiscales", []):
        finest = node[scales["datasets"][0]["path"]]
        details = partial(zarr_details, finest, scales, said.get("omero"))
        yield Stored(name or scales.get("name", "image"), finest.shape, finest.dtype, details, aside)
    if "multiscales" in said:
        below = ["labels"] if "labels" in node else []
    elif "plate" in said:
        wells = sorted(well["path"] for well in said["plate"]["wells"])
        known = [(well, node[well].attrs.get("ome", node[well].attrs)["well"]["images"]) for well in wells]
        below = [f"{well}/{image['path']}" for well, images in known for image in images]
    else:
        below = said.get("labels") or natural_sorted(key for key, _ in node.members())
    for path in below:
        yield from zarr_images(node[path], f"{name}/{path}".strip("/"), aside or path == "labels")


def zarr_details(array, scales=None, omero=None):
    """Return the details of a Zarr array, with what OME-Zarr says about it."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or []
    scales, notes = scales or {}, []
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scales.get("axes", names)]
    if scales and not axes:  # OME-Zarr 0.1 and 0.2
        axes = [{"name": name} for name in "tczyx"[-array.ndim :]]
    letters = [ALONG.get(str(axis["name"]).lower(), "Q") for axis in axes] or ["Q"] * array.ndim
    steps = [*scales.get("coordinateTransformations", []), *(scales.get("datasets") or [{}])[0].get("coordinateTransformations", [])]
    scale = np.prod([step["scale"] for step in steps if "scale" in step], axis=0) * np.ones(array.ndim)
    sizes = [(letter, size, axis.get("unit")) for letter, size, axis in zip(letters, scale, axes) if letter in "ZYX"]
    if len(scales.get("datasets", [])) > 1:
        notes.append(f"It has {len(scales['datasets'])} levels; this is the finest.")
    if array.nchunks_initialized < array.nchunks:
        notes.append(
            f"{array.nchunks - array.nchunks_initialized} of {array.nchunks} chunks are not stored, and read as "
            f"{array.fill_value}: empty parts, or lost ones."
        )
    channels = [str(channel.get("label", "")) for channel in (omero or {}).get("channels", [])]
    pieces, channels = array.shards or array.chunks, channels if any(channels) else []
    return Details("".join(letters), array.__getitem__, pieces, sizes_in_micrometres(sizes), channels, notes)


@contextmanager
def hdf5(path):
    """HDF5: each data set of numbers with at least two axes is an image."""
    h5py, found = package("h5py", "h5py", "HDF5"), []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: found.append(node) if isinstance(node, h5py.Dataset) else None)
        images = [node for node in found if node.ndim >= 2 and node.dtype.kind in "biuf"]
        yield [Stored(node.name[1:], node.shape, node.dtype, partial(hdf5_details, node)) for node in images]


def hdf5_details(node):
    """Return the details of a data set; `element_size_um` (of Fiji, ilastik, PlantSeg) is in the order z, y, x."""
    names = [dimension.label for dimension in node.dims]
    if "axistags" in node.attrs:  # of ilastik
        names = [axis["key"] for axis in json.loads(node.attrs["axistags"])["axes"]]
    sizes, axes = list(node.attrs.get("element_size_um", [])), "".join(ALONG.get(name.lower(), "Q") for name in names)
    if set(axes) == {"Q"} and 2 <= len(sizes) <= min(3, node.ndim):
        axes = axes[: -len(sizes)] + "ZYX"[-len(sizes) :]
    space, notes = [axis for axis in axes if axis in "ZYX"], []
    stored = node.id.get_num_chunks() if node.chunks else node.id.get_storage_size()
    if stored < (prod(-(-size // step) for size, step in zip(node.shape, node.chunks)) if node.chunks else 1):
        notes.append(f"Parts are not stored, and read as {node.fillvalue}: empty ones, or lost ones.")
    sizes = sizes_in_micrometres([(axis, size, "um") for axis, size in zip(space[-len(sizes) :], sizes[-len(space) :])])
    return Details(axes, node.__getitem__, node.chunks or (1,) * node.ndim, sizes, [], notes)


@contextmanager
def nd2(path):
    """Nikon's ND2: each position of the stage is an image."""
    library = package("nd2", "nd2", "ND2")
    with FileHandle(path) as handle, library.ND2File(handle) as file:  # not mapped, as that would count as memory in use

        def missing(index=0):
            raise StorageError("the ND2 file lacks planes that it announces. Was the recording stopped, or the copy?")

        file._rdr._missing_frame = missing  # which else are zeros
        axes = [axis for axis in file.sizes if axis != "P"]
        shape = tuple(file.sizes[axis] for axis in axes)
        loops = [axis for axis in file.sizes if axis not in "CYXS"]
        yield [
            Stored(f"position {p}", shape, file.dtype, partial(nd2_details, file, axes, loops, p))
            for p in range(file.sizes.get("P", 1))
        ]


def nd2_details(file, axes, loops, position):
    """Return the details of a position in an ND2 file."""
    outer, letters = [axis for axis in axes if axis in loops], "".join(axes)

    def read(region):
        result = np.empty([part.stop - part.start for part in region], file.dtype)
        for place in np.ndindex(result.shape[: len(outer)]):
            at = {axis: part.start + step for axis, part, step in zip(outer, region, place)} | {"P": position}
            index = np.ravel_multi_index([at[axis] for axis in loops], [file.sizes[axis] for axis in loops]) if loops else 0
            result[place] = file.read_frame(index)[region[len(outer) :]]
        return result

    volume = file.metadata.channels[0].volume
    known = {axis: size for axis, size, is_known in zip("XYZ", file.voxel_size(), volume.axesCalibrated) if is_known}
    sizes = sizes_in_micrometres((axis, known.get(axis), "um") for axis in "ZYX" if axis in axes)
    channels = [channel.channel.name for channel in file.metadata.channels]
    pieces = tuple(1 if axis in outer else file.sizes[axis] for axis in axes)
    return Details(letters, read, pieces, sizes, channels)


@contextmanager
def czi(path):
    """Zeiss' CZI: each scene is an image; overlapping tiles of a mosaic are put together."""
    with package("pylibCZIrw.czi", "pylibCZIrw", "CZI").open_czi(str(path)) as file:
        blocks, box = [], file.total_bounding_box_no_pyramid
        file.enumerate_subblocks(lambda index, block: blocks.append(block) or True)
        scenes = file.scenes_bounding_rectangle_no_pyramid or {None: file.total_bounding_rectangle_no_pyramid}
        kinds = set(file.pixel_types.values())
        if len(kinds) > 1:
            raise StorageError(f"the CZI file has channels of {sorted(kinds)}, but they must be of one kind. Export them singly.")
        kind, axes = kinds.pop(), [axis for axis, (_, size) in box.items() if axis not in "XYSMC" and size > 1]
        axes, lock = sorted(axes, key="VHIRBTZ".index) + ["C"], Lock()
        dtype = np.dtype({"8": "u1", "24": "u1", "16": "u2", "48": "u2"}.get(re.search(r"\d+", kind)[0], "f4"))
        colours = ["S"] if kind.startswith("Bgr") else []
        lengths = [box.get(axis, (0, 1))[1] for axis in axes]
        yield [
            Stored(
                f"scene {scene or 0}",
                (*lengths, place.h, place.w, *([3] if colours else [])),
                dtype,
                partial(czi_details, file, blocks, axes, colours, scene, place, lock),
            )
            for scene, place in scenes.items()
        ]


def czi_details(file, blocks, axes, colours, scene, place, lock):
    """Return the details of a scene in a CZI file."""

    def read(region):
        rows, columns = region[len(axes) : len(axes) + 2]
        roi = (place.x + columns.start, place.y + rows.start, columns.stop - columns.start, rows.stop - rows.start)
        outer = [range(part.start, part.stop) for part in region[: len(axes)]]
        with lock:
            planes = [
                file.read(roi, dict(zip(axes, (numbers[n] for numbers, n in zip(outer, index)))), scene)
                for index in np.ndindex(*map(len, outer))
            ]
        planes = [plane[..., ::-1][..., region[-1]] if colours else plane[..., 0] for plane in planes]
        return np.reshape(planes, [part.stop - part.start for part in region])

    said = file.metadata["ImageDocument"]["Metadata"]
    lengths = ((said.get("Scaling") or {}).get("Items") or {}).get("Distance") or []
    lengths = lengths if isinstance(lengths, list) else [lengths]
    sizes = sizes_in_micrometres((one["@Id"], float(one.get("Value") or 0), "m") for one in lengths)
    sizes = {axis: sizes[axis] for axis in "ZYX" if axis in sizes and axis in [*axes, "Y", "X"]}
    image = said["Information"]["Image"]
    channels = ((image.get("Dimensions") or {}).get("Channels") or {}).get("Channel") or []
    channels = [one.get("@Name", "") for one in (channels if isinstance(channels, list) else [channels])]
    tiles = int(image.get("SizeM") or 1)
    notes = [f"A mosaic of {tiles} tiles: where they overlap, one is shown, where there is none, 0."] if tiles > 1 else []
    largest = max(blocks, key=lambda block: block.logicalRect.w * block.logicalRect.h).logicalRect
    pieces = (*[1] * len(axes), largest.h, largest.w, *([3] if colours else []))
    return Details("".join([*axes, "Y", "X", *colours]), read, pieces, sizes, channels if any(channels) else [], notes)


# How a file begins tells its format, whatever its name is.
BEGINNINGS = {b"II*\0": tiff, b"MM\0*": tiff, b"II+\0": tiff, b"MM\0+": tiff, b"\x89HDF": hdf5, b"ZISR": czi}
BEGINNINGS |= {b"\xda\xce\xbe\x0a": nd2, b"\0\0\0\x0c": nd2}


def format_of(path):
    """Return the function that opens a file or folder; raise FileNotFoundError or ValueError if there is none."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file or folder {path}. Check the name, and the folder you are in.")
    if os.path.isdir(path):
        is_zarr = any(os.path.exists(f"{path}/{name}") for name in ("zarr.json", ".zarray", ".zgroup"))
        return zarr_store if is_zarr else folder
    with open(path, "rb") as file:
        beginning = file.read(4)
    if beginning not in BEGINNINGS:
        raise ValueError(
            f"{path} begins with {beginning}, but must be TIFF, OME-TIFF, SVS, CZI, ND2, HDF5, Zarr or a folder of TIFF files. "
            "Save it as OME-TIFF with the program of the microscope or Fiji, or load PNG and JPEG with skimage.io.imread."
        )
    return BEGINNINGS[beginning]


def stamp(path):
    """Return what changes with a file."""
    return None if os.path.isdir(path) else (os.stat(path).st_size, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=8)
def _kept_open(path, stamp, process):
    keep = ExitStack()
    return keep.enter_context(format_of(path)(path)), {}, keep


OPENING = Lock()


@contextmanager
def opened(path, stamp):
    """Give the images of a file, and a function that returns the details of one; the file stays open for the next call."""
    with OPENING:
        stored, known, keep = _kept_open(path, stamp, os.getpid())

    def details(number):
        with OPENING:
            if number not in known:
                known[number] = stored[number].details()
        return known[number]

    yield stored, details
    del keep


@dataclass(frozen=True)
class Pixels:
    """An image on disk, of which regions are read; it can be sent to other processes, each of which opens the file."""

    path: str
    number: int
    shape: tuple
    dtype: np.dtype
    stamp: tuple

    @property
    def ndim(self):
        return len(self.shape)

    def read(self, region):
        """Return a region, given as slices, as a NumPy array; raise StorageError if it cannot be read."""
        with decoding(f" at {region}", self.path):
            if stamp(self.path) != self.stamp:
                raise StorageError(f"{self.path} has changed since it was opened. Call open_image again.")
            with opened(self.path, self.stamp) as (_, details):
                pixels = np.asarray(details(self.number).read(region), self.dtype)
            if pixels.shape != tuple(part.stop - part.start for part in region):
                raise StorageError(f"{self.path} has shape {pixels.shape} at {region}. It may be damaged.")
        return pixels
