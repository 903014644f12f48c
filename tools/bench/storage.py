"""Storing: throughput beside plain dask and NumPy's memmap in the same run."""

import shutil
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import tifffile
import zarr

from course_helpers.image_files import open_image
from course_helpers.slide import nuclei_slide
from course_helpers.storage import write_verified
from tools.bench._timing import claim

SHAPE, CHUNKS = (8192, 8192), (512, 512)
CODECS = (zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec())
REPETITIONS = 3


def timed(work, folder):
    """Seconds of one call, which gets a path that does not exist."""
    target = folder / "target"
    start = time.perf_counter()
    work(target)
    seconds = time.perf_counter() - start
    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    return seconds


def to_memmap(image, path):
    """Write an image in one run of bytes, dask chunk by dask chunk."""
    da.store(image, np.lib.format.open_memmap(path, "w+", dtype=image.dtype, shape=image.shape), lock=False)


def compare(title, works, folder, megabytes):
    """Run all works in turn, several times; print the best throughput of each, and its ratio to the first."""
    seconds = {name: [] for name in works}
    for _ in range(REPETITIONS):
        for name, work in works.items():
            seconds[name].append(timed(work, folder))
    first = min(next(iter(seconds.values())))
    print(f"\n{title:36}{'MB/s':>8}{'speed':>8}")
    for name, times in seconds.items():
        print(f"  {name:34}{megabytes / min(times):8.0f}{first / min(times):8.2f}")
        if name.startswith("write_verified"):
            claim(f"{title}, and read back", next(iter(works)), first / min(times), ">= 0.5")


def throughput(folder):
    """Write, convert and read one image in several ways."""
    pixels = nuclei_slide(SHAPE, chunks=(1024, 1024)).compute()
    image = da.from_array(pixels, chunks=CHUNKS)
    writing(folder, image)
    converting(folder, pixels)
    reading(folder, image)


def writing(folder, image):
    compare(
        "write",
        {
            "da.to_zarr": lambda path: image.to_zarr(path, compressors=CODECS),
            "write_verified (reads all back)": lambda path: write_verified(image, path),
            "numpy memmap, not compressed": lambda path: to_memmap(image, path),
        },
        folder,
        image.nbytes / 1e6,
    )


def converting(folder, pixels):
    source = folder / "scan.tif"
    tifffile.imwrite(source, pixels, tile=(256, 256), compression="zlib")

    def plainly(path):
        with tifffile.TiffFile(source) as file:
            view = da.from_zarr(zarr.open_array(file.aszarr(), mode="r"))
            view.rechunk(CHUNKS).to_zarr(path, compressors=CODECS)

    compare(
        "convert a tiled TIFF",
        {
            "tifffile's view, da.to_zarr": plainly,
            "write_verified (reads all back)": lambda path: write_verified(open_image(source).array, path, CHUNKS),
            "tifffile.imread, whole image": lambda path: zarr.create_array(
                path, data=tifffile.imread(source), chunks=CHUNKS, compressors=CODECS
            ),
        },
        folder,
        pixels.nbytes / 1e6,
    )


def reading(folder, image):
    image.to_zarr(folder / "image.zarr", compressors=CODECS)
    to_memmap(image, folder / "image.npy")
    corners = np.random.default_rng(0).integers(0, SHAPE[0] - 512, size=(50, 2)).tolist()

    def windows(array):
        return [np.array(array[row : row + 512, column : column + 512]) for row, column in corners]

    compare(
        "read 50 windows of 512 x 512",
        {
            "zarr": lambda _: windows(zarr.open_array(folder / "image.zarr", mode="r")),
            "numpy memmap, not compressed": lambda _: windows(np.load(folder / "image.npy", mmap_mode="r")),
        },
        folder,
        50 * 512 * 512 / 1e6,
    )


def main():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        throughput(Path(folder))


if __name__ == "__main__":
    main()
