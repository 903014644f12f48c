"""Where the course keeps its data, and how real images get there: downloaded once, verified before every use."""

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import skimage.data
import tifffile

TIMEOUT = 30  # seconds without a single byte from the server


class DataError(RuntimeError):
    """A data folder or an image file cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class ImageFile:
    """An image on a server: what it is called, what it must contain, and what may be done with it.

    ``checksum`` is ``"sha256:..."`` (or another name `hashlib` knows) or ``"git-blob:..."``, the name git gives to
    a file's content. ``shape`` and ``dtype`` are those of the array; ``channel`` is the plane to read, None for all.
    """

    name: str
    address: str
    checksum: str
    licence: str
    shape: tuple
    dtype: str = "uint8"
    channel: int | None = None


LECTURE_SLIDE = ImageFile(
    name="P1_H_C3H_M004_17-cropped.tif",
    address="https://raw.githubusercontent.com/haesleinhuepf/BioImageAnalysisNotebooks/main/data/"
    "P1_H_C3H_M004_17-cropped.tif",
    checksum="git-blob:317ebead66298d2e1eec022018b44b52c9d5e2ff",
    licence="CC-BY 4.0, Theresa Suckert, OncoRay, University Hospital Carl Gustav Carus, TU Dresden",
    shape=(2000, 5000),
    channel=1,
)
# Name, address and checksum are those of scikit-image's own registry, so that its copy serves as well.
HUMAN_MITOSIS = ImageFile(
    name="mitosis.tif",
    address="https://gitlab.com/scikit-image/data/-/raw/2cdc5ce89b334d28f06a58c9f0ca21aa6992a5ba/"
    "AS_09125_050116030001_D03f00d0.tif",
    checksum="sha256:2751ba667c4067c5d30817cff004aa06f6f6287f1cdbb5b8c9c6a500308cb456",
    licence="CC0, David Root; Moffat et al. 2006, Cell 124:1283",
    shape=(512, 512),
)


def lecture_slide():
    """Return the nuclei channel of the lecture's slide, (2000, 5000) uint8; the first call downloads it.

    Raises DataError where it can neither be found nor downloaded. Origin and licence: data/README.md.
    """
    return load(LECTURE_SLIDE)


def human_mitosis():
    """Return the picture of `skimage.data.human_mitosis`, (512, 512) uint8; the first call downloads it.

    Raises DataError where it can neither be found nor downloaded. Origin and licence: data/README.md.
    """
    return load(HUMAN_MITOSIS)


def data_folder():
    """Return the folder where data lies, as an absolute path; it is created when missing.

    It is the folder named by the environment variable COURSE_DATA, else ``data`` at the top of the project. Where
    course_helpers is installed without the project around it, it is the user's cache folder.

    Raises
    ------
    DataError
        When COURSE_DATA is no absolute path, or the folder is a file or cannot be created.
    """
    project = Path(__file__).resolve().parents[1]
    if chosen := os.environ.get("COURSE_DATA"):
        folder = Path(os.path.expanduser(chosen))
    elif (project / "pyproject.toml").is_file():
        folder = project / "data"
    else:
        folder = Path(pooch.os_cache("course_helpers"))
    if not folder.is_absolute():  # it would be another folder for every notebook
        raise DataError(f"COURSE_DATA is {chosen!r}. Give an absolute path, or one that begins with ~.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise DataError(
            f"{folder} cannot be the data folder: {reason}. Set COURSE_DATA to a folder you may write to."
        ) from None
    return folder


def load(image, timeout=TIMEOUT):
    """Return the pixels of an ImageFile as a NumPy array, downloading the file if necessary.

    Raises DataError when the file cannot be had or read, or does not hold the shape and type expected.
    """
    path = fetch(image, timeout)
    try:
        with tifffile.TiffFile(path) as file:
            planes = file.series[0]
            if image.channel is None:
                pixels = planes.asarray()
            elif len(planes.pages) == planes.shape[0]:  # one page per channel: the others need not be read
                pixels = planes.asarray(key=image.channel)
            else:
                pixels = planes.asarray()[image.channel]
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise _data_error(image, f"tifffile cannot read it: {error}") from None
    if (pixels.shape, pixels.dtype) != (image.shape, image.dtype):
        found, expected = f"{pixels.shape} {pixels.dtype}", f"{image.shape} {image.dtype}"
        raise _data_error(image, f"it holds an array of {found}, expected {expected}")
    return pixels


def fetch(image, timeout=TIMEOUT):
    """Return the path of a verified copy of an ImageFile, downloading it into the data folder if necessary.

    A file of that name which is something else is reported, never used, replaced or deleted. A download gets its
    name when it is complete and verified; several processes may ask at once. ``timeout`` is how many seconds the
    server may stay silent.

    Raises DataError, which names file, cause, address, licence and where to put the file by hand.
    """
    target = data_folder() / image.name
    shared = Path(skimage.data.data_dir) / image.name  # where scikit-image keeps its own downloads
    if not os.path.lexists(target):
        if shared.is_file() and _is_genuine(image, shared):
            return shared
        _download(image, target, timeout)
    if not _is_genuine(image, target):
        reason = f"{target} is damaged, incomplete or another image: its checksum is not {image.checksum}"
        raise _data_error(image, f"{reason}. Move it away and try again")
    return target


def checksum(path, kind):
    """Return ``"kind:hexadecimal digest"`` of a file; kind is ``"git-blob"`` or an algorithm of `hashlib`.

    A git blob id is the SHA-1 of ``b"blob <size in bytes>\\0"`` followed by the content (Pro Git, chapter 10.2).
    """
    with open(path, "rb") as file:
        if kind == "git-blob":
            digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        else:
            digest = hashlib.new(kind)
        return f"{kind}:{hashlib.file_digest(file, lambda: digest).hexdigest()}"


def _is_genuine(image, path):
    """Tell whether a file has exactly the content an ImageFile asks for."""
    try:
        return checksum(path, image.checksum.partition(":")[0]) == image.checksum
    except OSError as error:
        raise _data_error(image, f"{path} cannot be read: {error.strerror}") from None


def _download(image, target, timeout):
    """Download an ImageFile beside the target, verify it, then give it the target's name in one step."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")  # unique: others may download it too
    download = pooch.HTTPDownloader(progressbar=True, chunk_size=2**16, timeout=timeout)
    try:
        download(image.address, partial, None)
        if not _is_genuine(image, partial):
            with open(partial, "rb") as file:
                web_page = file.read(100).lstrip().startswith(b"<")
            came = "a web page came instead, perhaps your network's login" if web_page else "other content came instead"
            raise _data_error(image, f"{came} ({partial.stat().st_size} bytes)")
        try:
            os.replace(partial, target)
        except PermissionError:  # Windows, while another process reads the copy that it finished first
            if not target.is_file():
                raise
    except (OSError, ValueError) as error:  # all errors of requests are OSErrors
        raise _data_error(image, _explain(error, timeout)) from None
    finally:  # also after Ctrl+C or "Interrupt kernel"
        partial.unlink(missing_ok=True)


def _explain(error, timeout):
    """Say in words why a download failed."""
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"the server sent nothing for {timeout} seconds"
    if counts := re.search(r"(\d+) bytes read, (\d+) more expected", str(error)):
        got, missing = map(int, counts.groups())
        return f"the file ended early, got {got} of {got + missing} bytes"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to the server, perhaps no network ({type(error).__name__})"
    if isinstance(error, (requests.RequestException, ValueError)):
        return f"the server's answer makes no sense ({type(error).__name__}: {error})"
    return f"the file cannot be written: {error.strerror or error}"


def _data_error(image, reason):
    """Return a DataError that names file, reason, address, licence and where to put the file by hand."""
    return DataError(
        f"{image.name} cannot be used: {reason}.\nAddress: {image.address}\nLicence: {image.licence}\n"
        f"By hand: save what is at that address as {data_folder() / image.name}"
    )
