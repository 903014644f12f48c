"""Checks of lesson 4, "Store an image in chunks"."""

import functools
import gc
import tempfile
import tracemalloc
from math import prod
from pathlib import Path

import dask
import numpy as np
import tifffile
import zarr
from zarr.storage import MemoryStore

from course_helpers.exercises._old import (
    Unanswered,
    Wrong,
    call,
    check_for,
    computed,
    described,
    function,
    is_lazy,
    shown,
)
from course_helpers.exercises.form import Function, pairs, seen
from course_helpers.storage import CODECS, CountingStore, open_stored

EXERCISES = {}
SLIDE, SLIDE_CHUNKS = (2000, 5000), (100, 100)
WINDOW = np.s_[1930:, 80:201]

MOVIE, MOVIE_WINDOW = (64, 512, 512), 32
MOST_BYTES, MOST_REQUESTS = 2**21, 64

SCAN, SCAN_CHUNKS = (3000, 4100), (256, 256)
MOST_MEMORY = 12 * 2**20


def plural(count, word):
    """A number with its noun: 1 chunk, 2 chunks."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def refuse_shortcut(answer, name):
    """Wrong if a function uses the helper that it is to replace."""
    if name in getattr(getattr(answer, "__code__", None), "co_names", ()):
        raise Wrong(f"your function uses {name}. Here you write it yourself.")


def places(answer, what):
    """A list of (row, column) as tuples of int; Wrong with the reason if it is none."""
    if isinstance(answer, set):
        answer = list(answer)
    try:
        pairs = np.asarray(answer)
    except Exception:
        pairs = np.array(None)
    if isinstance(answer, (list, tuple, np.ndarray)) and len(pairs) == 0:
        return []
    if (
        not isinstance(answer, (list, tuple, np.ndarray))
        or pairs.dtype.kind not in "iu"
        or pairs.ndim != 2
        or (pairs.shape[1] != 2)
    ):
        found = "a list of something else" if isinstance(answer, (list, tuple)) else shown(answer)
        raise Wrong(f"{what} is {found}, but a list of (row, column) is asked for, such as [(0, 0), (0, 1)].")
    return [tuple(pair) for pair in pairs.tolist()]


def requests(shape, chunks, selection):
    """Places in the grid of all chunks that reading a selection touches."""
    store = CountingStore(MemoryStore())
    zarr.create_array(store, shape=shape, chunks=chunks, dtype=np.uint8)[selection]
    return {tuple(map(int, name.split("/")[1:])) for name in store.chunks_read}


def number_touched(chunks, bounds):
    """How many chunks a selection touches, given as (start, stop) for each axis: as `requests`, for any number of them."""
    return prod((stop - 1) // size - start // size + 1 for size, (start, stop) in zip(chunks, bounds))


@check_for(
    "4.1",
    hints=[
        "chunk 0 holds the pixels 0 to 99, chunk 1 the pixels 100 to 199, and so on, along each axis. In which chunk is pixel "
        "1930?",
        "a slice that stops at 201 includes pixel 200. For each axis, find the chunk of the first pixel and the chunk of the "
        "last one.",
        "pixel number divided by 100, rounded down, is the chunk number. Do that for the first and the last row, for the "
        "first and the last column, and list all combinations.",
    ],
)
def chunks_touched(answer):
    found = places(computed(answer), "the answer")
    expected = requests(SLIDE, SLIDE_CHUNKS, WINDOW)
    if not found:
        raise Wrong("the list is empty, but pixels are read, and each of them is in a chunk.")
    grid = [size // step for size, step in zip(SLIDE, SLIDE_CHUNKS)]
    if {(column, row) for row, column in found} == expected:
        raise Wrong("rows and columns are swapped. Give the row first.")
    if {(row - 1, column - 1) for row, column in found} == expected:
        raise Wrong("you counted from 1. The first chunk is number 0.")
    for row, column in found:
        if not (0 <= row < grid[0] and 0 <= column < grid[1]):
            remedy = (
                "Are these pixels?"
                if max(row, column) >= min(SLIDE_CHUNKS)
                else (f"Its rows go from 0 to {grid[0] - 1}, its columns from 0 to {grid[1] - 1}.")
            )
            raise Wrong(f"there is no chunk {(row, column)} in a grid of {grid[0]} x {grid[1]}. {remedy}")
    if surplus := sorted(set(found) - expected):
        raise Wrong(f"{len(surplus)} in your list are not touched, for example {surplus[0]}. Which pixels are in it?")
    if missing := expected - set(found):
        raise Wrong(
            f"all in your list are touched, and {len(missing)} more. Look at the first and the last pixel of each axis."
        )
    if len(found) > len(expected):
        raise Wrong("a chunk is in your list twice.")
    return f"A window of {2000 - 1930} x {201 - 80} pixels touches {len(expected)} chunks of 100 x 100."


@check_for(
    "4.2",
    hints=[
        "work out for your chunk shape how many chunks one frame touches, and how many a small window through all time points "
        "touches. Multiply by the bytes of a chunk.",
        "one time point per chunk is best for frames, all time points per chunk is best for following a nucleus. Go between: "
        "several time points, and a part of the frame.",
        "a window that may lie anywhere touches up to 2 x 2 chunks of each layer of chunks, if they are larger than the "
        "window. Cut the frame into 8 x 8 parts, and find out how many time points a chunk may hold then.",
    ],
)
def movie_chunks(answer):
    answer = computed(answer)
    chunks = tuple(answer) if isinstance(answer, (list, tuple)) else ()
    if len(chunks) != 3 or not all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in chunks
    ):
        raise Wrong(f"the answer is {shown(answer)}, but three whole numbers are asked for: (time, rows, columns).")
    if not all(1 <= size <= whole for size, whole in zip(chunks, MOVIE)):
        raise Wrong(f"a chunk of {chunks} does not fit into a movie of {MOVIE}. Sizes are from 1 to that.")
    size, (depth, height, width) = prod(chunks), MOVIE
    frame = number_touched(chunks, [(10, 11), (0, height), (0, width)])
    window = max(
        number_touched(chunks, [(0, depth), (at, at + MOVIE_WINDOW), (at, at + MOVIE_WINDOW)])
        for at in range(height - MOVIE_WINDOW + 1)
    )
    for name, count, other in [("one frame", frame, "window"), ("a window through time", window, "frame")]:
        if count > MOST_REQUESTS:
            raise Wrong(
                f"{name} takes {plural(count, 'request')}, at most {MOST_REQUESTS} are allowed. Chunks of {size} bytes are too "
                f"small or too narrow for this, however good they may be for the {other}."
            )
        if count * size > MOST_BYTES:
            raise Wrong(
                f"{name} takes {plural(count, 'request')} of {size} bytes, together {count * size / 2**20:.1f} MiB. "
                f"Allowed are {MOST_BYTES / 2**20:.0f} MiB. Most of what is read here is thrown away."
            )
    return (
        f"One frame reads {frame} chunks, {frame * size / 2**20:.2f} MiB; a window through time at most {window} chunks, "
        f"{window * size / 2**20:.2f} MiB."
    )


# Shape, chunks and dtype, then the damaged and the missing chunks: of different grids, also one larger on each axis.
STORES = [
    ((90, 100), (50, 70), "uint8", [], []),
    ((230, 470), (50, 70), "uint16", [(0, 2), (2, 2), (2, 5), (4, 6)], [(3, 1)]),
    ((48, 9), (6, 4), "uint16", [(0, 0), (0, 1), (3, 2), (7, 1)], [(5, 0), (6, 2)]),
    ((120, 160), (40, 40), "uint8", [(0, 3), (1, 1)], [(2, 3)]),
]


def damaged_stores(folder):
    """Paths of stores of which some files are damaged and others deleted."""
    for number, (shape, chunks, dtype, damaged, missing) in enumerate(STORES):
        path = folder / f"image_{number}.zarr"
        pixels = np.random.default_rng(4).integers(100, size=shape, dtype=dtype)
        array = zarr.create_array(path, data=pixels, chunks=chunks, compressors=CODECS)
        for place in damaged:
            file = path / array.metadata.encode_chunk_key(place)
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        for place in missing:
            (path / array.metadata.encode_chunk_key(place)).unlink()
        yield (path,)


def damaged_chunks(path, steps=None, grid=None, first=0, only=Exception, skip=False):
    """Places of the chunks that cannot be read, by reading one after the other; the arguments are for mistakes."""
    array = zarr.open_array(path, mode="r")
    height, width = steps(array.chunks) if steps else array.chunks
    rows, columns = grid(array) if grid else (-(-array.shape[0] // height), -(-array.shape[1] // width))
    found = []
    for row in range(first, rows):
        for column in range(first, columns):
            try:
                array[row * height : (row + 1) * height, column * width : (column + 1) * width]
            except only:
                found.append((row, column))
                if skip:
                    break
    return found


def missing_chunks(path):
    """Places of the chunks whose file is not there."""
    array = zarr.open_array(path, mode="r")
    names = {place: array.metadata.encode_chunk_key(place) for place in np.ndindex(array.cdata_shape)}
    return [place for place, name in names.items() if not (path / name).exists()]


def first_missing(found, path):
    missing = sorted(set(found) & set(missing_chunks(path)))
    return {"missing": missing[0]} if missing else None


def first_missed(found, expected):
    missed = sorted(set(expected) - set(found))
    return {"missed": missed[0], "count": len(set(expected) & set(found)), "all": len(expected)} if missed else None


def first_extra(found, expected):
    extra = sorted(set(found) - set(expected))
    return {"extra": extra[0]} if extra else None


def in_words(path):
    array = zarr.open_array(path, mode="r")
    return f"a store of {array.shape} pixels in chunks of {array.chunks}"


EXERCISES["4.3"] = Function(
    right=damaged_chunks,
    cases=damaged_stores,
    given=in_words,
    reads=pairs,
    without=("check_store",),
    mistakes={
        "this stops your loop: catch the error, remember the place, go on.": {"only": ()},
        "rows and columns are swapped. Give the row first.": (
            lambda path: [(column, row) for row, column in damaged_chunks(path)]
        ),
        "these are positions in pixels. Give those in the grid of chunks.": lambda path: (
            np.array(damaged_chunks(path), int).reshape(-1, 2) * zarr.open_array(path, mode="r").chunks
        ),
        "the smaller chunks at the lower and right edge are missing. Round their number up.": {
            "grid": lambda: lambda array: np.floor_divide(array.shape, array.chunks)
        },
        "your loop ends with the first damaged chunk. Does it go on?": lambda path: damaged_chunks(path)[:1],
        "of each row, only the first damaged chunk is there. Does your loop go on?": {"skip": True},
        "chunks are counted from 0. Do your loops begin at 1?": {"first": 1},
        "chunks are counted from 0. Are your places one too large?": (
            lambda path: [(row + 1, column + 1) for row, column in damaged_chunks(path)]
        ),
        "you take the height of a chunk for its width as well.": {"steps": lambda: lambda chunks: (chunks[0],) * 2},
        "you take the width of a chunk for its height as well.": {"steps": lambda: lambda chunks: (chunks[1],) * 2},
        "you go through as many columns as there are rows of chunks. Are grids square?": {
            "grid": lambda: lambda array: (array.cdata_shape[0],) * 2
        },
        "you go through as many rows as there are columns of chunks. Are grids square?": {
            "grid": lambda: lambda array: (array.cdata_shape[1],) * 2
        },
        "you go through 5 x 7 chunks. Take the number from .shape and .chunks of this array.": {
            "grid": lambda: lambda array: (5, 7)
        },
        "your list is empty, but there are chunks that cannot be read. Did you read each of them?": seen(
            lambda path: [], lambda found, expected: None if found else first_missed(found, expected)
        ),
        "a chunk is in your list more than once.": seen(
            lambda path: damaged_chunks(path) * 2, lambda found, expected: sorted(set(found)) == expected
        ),
        "chunk {missing} is missing, not damaged. It can be read: it gives the fill value.": seen(
            lambda path: [*damaged_chunks(path), *missing_chunks(path)], first_missing
        ),
        "chunk {extra} is no damaged one. Where do the sizes in your function come from?": seen(
            lambda path: [*damaged_chunks(path), (0, 5)], first_extra
        ),
        "{count} of {all} damaged chunks are in your list. Chunk {missed} is one that is not.": seen(
            lambda path: damaged_chunks(path)[::3], first_missed
        ),
    },
    also_right=(lambda path: set(damaged_chunks(path)), lambda path: np.array(damaged_chunks(path)).reshape(-1, 2)),
    praise="You found every damaged chunk in {count} stores.",
    hints=[
        "read the array chunk by chunk in two loops, one over the rows of the grid and one over its columns. What happens when "
        "you read the pixels of a damaged chunk?",
        "put the reading between try: and except Exception:. In the except part, remember the place, and go on.",
        "chunk (row, column) holds the pixels array[row * height:(row + 1) * height, column * width:(column + 1) * width]. "
        "The last chunk of an axis may reach beyond the image: round the number of chunks up.",
    ],
)


@functools.cache
def scan():
    """The pixels of the TIFF file of exercise 4.4."""
    return np.random.default_rng(5).integers(1, 4096, size=SCAN, dtype=np.uint16)


@check_for(
    "4.4",
    hints=[
        "three steps: open the file as a Zarr array, as view above; create the target with zarr.create_array(zarr_path, "
        "shape=..., chunks=..., dtype=...); copy one piece after the other.",
        "target[rows, columns] = view[rows, columns] copies a piece. How large may a piece be, and which pieces write each "
        "chunk only once?",
        "a piece that begins at a multiple of 256 and whose sides are multiples of 256 holds whole chunks. Two loops with "
        "range(start, stop, step) give the beginnings. Slices that reach beyond the image are cut off by themselves.",
    ],
)
def convert(answer):
    refuse_shortcut(function(answer), "convert_tiff")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tiff_path = Path(folder) / "scan.tif"
        tifffile.imwrite(tiff_path, scan(), tile=(128, 128))
        # A first run may also load libraries, and other threads of the notebook need memory: the smaller of two peaks counts.
        for attempt in ("first", "second"):
            path = Path(folder) / f"{attempt}.zarr"
            peak = peak_of(answer, tiff_path, path)
            if not path.exists():
                raise Unanswered(
                    "your function wrote nothing at zarr_path. Create the array there, and copy the pixels."
                )
            try:
                array = open_stored(path)
            except ValueError as error:
                raise Wrong(
                    f"what your function wrote cannot be used: {str(error).replace(str(path), 'zarr_path')}"
                ) from None
            compare_converted(array)
            if peak <= MOST_MEMORY:
                return f"{scan().nbytes / 2**20:.1f} MiB converted, with a peak of memory below {MOST_MEMORY / 2**20:.0f} MiB."
    raise Wrong(
        f"the pixels are right, but the peak of memory is {peak / 2**20:.1f} MiB, of an image of "
        f"{scan().nbytes / 2**20:.1f} MiB. Allowed are {MOST_MEMORY / 2**20:.0f}. Copy smaller pieces: one takes its "
        "bytes more than once, as tiles, as pixels and as chunks."
    )


def peak_of(answer, tiff_path, path):
    """Bytes that the learner's function allocates at most; Wrong if it raises."""
    gc.collect()
    was_tracing = tracemalloc.is_tracing()  # a cell that failed half-way may have left it on, with a peak of its own
    tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        with dask.config.set(num_workers=4):  # the peak must not depend on the computer
            answer(tiff_path, path)
        return tracemalloc.get_traced_memory()[1] - before
    except (Exception, SystemExit) as error:
        raise Wrong(f"your function raises {described(error)}.") from None
    finally:
        if not was_tracing:
            tracemalloc.stop()


def compare_converted(array):
    """Say what is wrong with a converted scan."""
    if array.shape != SCAN:
        raise Wrong(f"the stored array has shape {array.shape}, but the TIFF file has {SCAN}.")
    if array.dtype != np.uint16:
        raise Wrong(f"the stored array has dtype {array.dtype}, but the TIFF file has uint16.")
    if array.chunks != SCAN_CHUNKS:
        raise Wrong(f"the chunks are {array.chunks}, but {SCAN_CHUNKS} are asked for.")
    stored = array[:]
    if not stored.any():
        raise Wrong("the array is there, but all its pixels are 0. Copy the pixels, too.")
    different = stored != scan()
    if different.any():
        row, column = np.argwhere(different)[0].tolist()
        where = f"the first at row {row}, column {column}"
        if not stored[-1].any() or not stored[:, -1].any():
            raise Wrong(f"some pixels are 0, {where}. Those at the end of the axes are never copied.")
        if not stored[different].any():
            raise Wrong(
                f"some pixels are 0, {where}. Was each pixel copied? Or did two tasks write into the same chunk?"
            )
        raise Wrong(f"{different.mean():.1%} of the pixels are wrong, {where}.")


LEVELS = 5
# (shape of the finest level, size of the thumbnail): wide, tall, and long but narrow images.
THUMBNAILS = [
    ((800, 1280), 500),
    ((800, 1280), 100),
    ((800, 1280), 320),
    ((800, 1280), 40),
    ((800, 1280), 5000),
    ((1280, 320), 400),
    ((64, 2048), 500),
]


@functools.cache
def pyramid(shape):
    """A store with a pyramid of five levels, not compressed."""
    store = MemoryStore()
    pixels = np.random.default_rng(6).integers(256, size=shape, dtype=np.uint8)
    for level in range(LEVELS):
        zarr.create_array(store, name=str(level), data=pixels, chunks=(100, 100), compressors=None)
        pixels = pixels.reshape(pixels.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)).astype(np.uint8)
    return store


@check_for(
    "4.5",
    hints=[
        "the shape of a level is known without reading it. Which of the levels is the first one that fits?",
        "go through the levels from the finest to the coarsest. The longer side decides.",
        "once a level fits, you need not look at the others. Indexing with [:] reads a level, everything before reads "
        "nothing. What is returned if the loop comes to its end?",
    ],
)
def thumbnail(answer):
    function(answer)
    for shape, size in THUMBNAILS:
        image = f"an image of {shape[0]} x {shape[1]} and size {size}"
        case = f"for {image}"
        store = CountingStore(pyramid(shape))
        levels = [zarr.open_array(store, path=str(level), mode="r") for level in range(LEVELS)]
        result = call(answer, levels, size, given=f"the levels of {image}")
        shapes = [(shape[0] // 2**level, shape[1] // 2**level) for level in range(LEVELS)]
        fitting = [level for level, sides in enumerate(shapes) if max(sides) <= size]
        expected = fitting[0] if fitting else LEVELS - 1
        compare_thumbnail(result, case, size, shapes, expected)
        read = {int(name.split("/")[0]) for name in store.chunks_read}
        if read - {expected}:
            raise Wrong(
                f"{case} the picture is right, but {store.bytes_read} bytes were read, for a picture of "
                f"{result.size}. Decide by the shapes, and read one level only."
            )
        if store.bytes_read > 100 * 100 * len(store.chunks_read):
            raise Wrong(f"{case} you read the same level more than once.")
    return f"The right level in {len(THUMBNAILS)} cases, and not a byte of any other."


def compare_thumbnail(result, case, size, shapes, expected):
    """Say what is wrong with a thumbnail."""
    if isinstance(result, zarr.Array) or is_lazy(result):
        raise Wrong("the level is returned without being read. A NumPy array is asked for: index it with [:].")
    if isinstance(result, (int, np.integer)):
        raise Wrong(f"your function returns {shown(result)}. The pixels of a level are asked for, not its number.")
    if not isinstance(result, np.ndarray):
        raise Wrong(f"your function returns {shown(result)}, but a NumPy array is asked for.")
    if result.shape not in shapes:
        raise Wrong(f"{case} your picture has shape {result.shape}, which is no level's. Return a level as it is.")
    level = shapes.index(result.shape)
    if level < expected:
        side = "its longer side is larger than that" if max(result.shape) > size else "one that is coarser is asked for"
        raise Wrong(f"{case} your picture has shape {result.shape}, but {side}.")
    if level > expected:
        raise Wrong(f"{case} your picture has shape {result.shape}. There is a finer level that fits.")
    if result.dtype != np.uint8:
        raise Wrong(
            f"{case} the shape is right, but the dtype is {result.dtype}, that of the level is uint8. Return it as it is."
        )
    right = zarr.open_array(pyramid(shapes[0]), path=str(expected), mode="r")[:]
    if not np.array_equal(result, right):
        raise Wrong(f"{case} the shape is right, but the pixels are not those of the level. Do not compute them.")
