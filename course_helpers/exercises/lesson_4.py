"""Checks of lesson 4, "Store an image in chunks"."""

import gc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from itertools import product
from math import ceil
from unittest import mock

import dask
import dask.array as da
import numpy as np
import tifffile
import zarr
from zarr.storage import LocalStore, MemoryStore

from course_helpers.examples import MOVIE, movie_costs
from course_helpers.exercises.form import Function, Value, array, pairs, seen, whole_numbers
from course_helpers.exercises.running import Traced, Unanswered, Wrong, about_notebook, call, described, is_written
from course_helpers.storage import CODECS, CountingStore

EXERCISES = {}


# --- 4.1: predict the chunks ---

SLIDE, SLIDE_CHUNKS = (2000, 5000), (100, 100)
TOUCHED = [(19, 0), (19, 1), (19, 2)]  # by stored[1930:, 80:201]


def pixels_of(place, chunks):
    """Which pixels a chunk holds, as one writes it in brackets."""
    return "[{}:{}, {}:{}]".format(*(end * size for at, size in zip(place, chunks) for end in (at, at + 1)))


def not_touched(found):
    surplus = sorted(set(found) - set(TOUCHED))
    return surplus and {"place": surplus[0], "count": len(surplus), "pixels": pixels_of(surplus[0], SLIDE_CHUNKS)}


EXERCISES["4.1"] = Value(
    right=TOUCHED,
    reads=pairs,
    mistakes={
        "rows and columns are swapped. Give the row first.": [(0, 19), (1, 19), (2, 19)],
        "you counted from 1. The first chunk is number 0.": [(20, 1), (20, 2), (20, 3)],
        "these are the first and the last number along each axis. Hand in (row, column) for each.": [(0, 2), (19, 19)],
        "you divide numbers of pixels by 10, it seems. A chunk has 100 rows and 100 columns of pixels.": [
            (19, column) for column in range(8, 21)
        ],
        "these are pixels. How many chunks lie above and to the left of them?": [(1900, 0), (1900, 100), (1900, 200)],
        "{place} in your list is not touched (such: {count}). It would hold stored{pixels} of 2000 x 5000 pixels.": seen(
            [(19, 0), (19, 3)], not_touched
        ),
        "the pixel in row 1930, column {column} is read, but it is in none of the chunks in your list.": seen(
            [(19, 0)],
            lambda found: next(({"column": at} for at in (80, 100, 200) if (19, at // 100) not in found), None),
        ),
        "a chunk is in your list more than once.": seen([*TOUCHED, (19, 0)], lambda found: len(found) > len(TOUCHED)),
    },
    also_right=(set(TOUCHED), np.array(TOUCHED), tuple(TOUCHED), [list(place) for place in TOUCHED[::-1]]),
    praise="A window of 70 x 121 pixels touches 3 chunks of 100 x 100.",
    hints=[
        "chunk 0 holds the pixels 0 to 99, chunk 1 the pixels 100 to 199, along each axis. In which chunk is pixel 1930?",
        "a slice that stops at 201 includes pixel 200. Find the chunks of the first and of the last pixel along each axis.",
        "chunk = pixel // 100, for the first and the last row, the first and the last column. List all combinations.",
    ],
)


# --- 4.2: choose chunks for two ways of reading ---

MOST_MEBIBYTES, MOST_REQUESTS = 2, 64


def more(cost, most):
    """Recognises chunks that cost more than this in this way."""
    return lambda found: (costs := movie_costs(found))[cost] > most and {**costs, "most": most}


EXERCISES["4.2"] = Value(
    reads=whole_numbers("time, rows, columns"),
    mistakes={
        f"a chunk of {{found}} does not fit into a movie of {MOVIE}. Sizes are from 1 to that.": seen(
            (128, 64, 64), lambda found: not all(1 <= size <= whole for size, whole in zip(found, MOVIE))
        ),
        "as the numbers of chunks along each axis, these are good. How large is each chunk?": (8, 8, 8),
        "these are good in another order. Give the time first.": (64, 64, 8),
        "this is best for frames alone: a window through time reads all of the movie.": (1, *MOVIE[1:]),
        "one frame takes {down} x {across} requests, more than {most}. Chunks of {found[1]} x {found[2]} pixels are too small or too "
        "narrow for this, however good they may be for the window.": seen((7, 60, 60), more("frame", MOST_REQUESTS)),
        "one frame takes {down} x {across} chunks of {size} bytes, {frame_mib:.2f} MiB, more than {most}. They hold {found[0]} frames "
        "of {down} x {found[1]} rows and {across} x {found[2]} columns, more than one of 512 x 512.": seen(
            (8, 96, 96), more("frame_mib", MOST_MEBIBYTES)
        ),
        "a window through time takes {window} requests, more than {most}: there are {layers} layers of chunks with {found[0]} of the 64 time "
        "points, and at its worst place it touches several of {found[1]} x {found[2]} pixels in each.": seen(
            (1, 200, 200), more("window", MOST_REQUESTS)
        ),
        "at its worst place, a window through time takes {window} requests of {size} bytes, {window_mib:.2f} MiB, more than {most}. Most "
        "of what is read here lies beside the window.": seen((8, 128, 128), more("window_mib", MOST_MEBIBYTES)),
    },
    also_right=((4, 64, 64), [8, 64, 64], np.array([8, 64, 64]), (np.int64(8), 64, 64), (8, 64.0, 64), (8, 128, 64)),
    praise=lambda found: (
        "One frame reads {frame} chunks, {frame_mib:.2f} MiB; a window at most {window} chunks, {window_mib:.2f} MiB."
    ).format(**movie_costs(found)),
    hints=[
        "how many chunks does one frame touch, and a small window through all time points? Multiply by the bytes of a chunk.",
        "frames alone want one time point in a chunk, and following a nucleus all of them. Go between, with a part of the frame.",
        "a window touches up to 2 x 2 chunks of each layer, if they are larger than the window. Cut the frame into 8 x 8 "
        "parts, and find out how many time points a chunk may hold then.",
    ],
)


# --- 4.3: find the damaged chunks ---


def damaged_stores(folder):
    """Paths of stores with damaged and missing files. The last chunk may have one row, and one grid more rows than the lesson's."""
    for shape, chunks, dtype, damaged, missing in (
        ((9, 10), (5, 7), "uint8", [], []),
        ((23, 47), (5, 7), "uint16", [(0, 2), (0, 4), (2, 2), (2, 5), (4, 6)], [(3, 1)]),
        ((121, 9), (6, 4), "uint16", [(0, 0), (0, 1), (3, 2), (7, 1), (20, 1)], [(5, 0), (6, 2)]),
        ((12, 23), (6, 2), "uint8", [(0, 3), (1, 1), (1, 11)], [(0, 10)]),
    ):
        path = folder / "image_{}_{}.zarr".format(*shape)
        pixels = np.random.default_rng(4).integers(100, size=shape, dtype=dtype)
        zarr.create_array(path, data=pixels, chunks=chunks, compressors=CODECS)
        for row, column in damaged:
            file = path / f"c/{row}/{column}"
            file.write_bytes(file.read_bytes()[::-1])
        for row, column in missing:
            (path / f"c/{row}/{column}").unlink()
        yield (path,)


def damaged_chunks(path, named=lambda place, chunks: place):
    """Places of the chunks that cannot be read; the last argument is for mistakes."""
    array = zarr.open_array(path, mode="r")
    found = []
    for place in np.ndindex(array.cdata_shape):
        try:
            array.blocks[place]
        except Exception:
            found.append(named(place, array.chunks))
    return found


def first_difference(found, expected, path):
    """A sentence about the first chunk that is in a list and should not be, or the other way round."""
    array, place = zarr.open_array(path, mode="r"), min(set(found) ^ set(expected))
    pixels = f"array{pixels_of(place, array.chunks)}"
    if place not in np.ndindex(array.cdata_shape):
        return f"chunk {place} does not exist: the grid has {array.cdata_shape} of them, counted from 0."
    if place in found:
        return f"chunk {place} is not damaged: reading {pixels} alone raises no error. (A missing chunk raises none, either.)"
    return (
        f"{len(set(found) & set(expected))} of {len(expected)} damaged chunks are in your list. Chunk {place} is not, and reading {pixels} "
        "raises an error. Do your loops begin at 0, read just the pixels of a chunk, go on after an error, and come to the smaller chunks "
        "at the edge? Is there one list, and return behind both loops?"
    )


EXERCISES["4.3"] = Function(
    right=damaged_chunks,
    cases=damaged_stores,
    given=lambda path: "a store of {0.shape} pixels in chunks of {0.chunks}".format(zarr.open_array(path, mode="r")),
    reads=pairs,
    without=("check_store",),
    mistakes={
        "no except of your function catches this error. Catch it, remember the place, go on.": seen(
            lambda path: zarr.open_array(path)[:].tolist()[:0], lambda error: "checksum" in error
        ),
        "rows and columns are swapped. Give the row first.": {"named": lambda: lambda place, chunks: place[::-1]},
        "these are positions in pixels. Give those in the grid.": {"named": lambda: np.multiply},
        "chunks are counted from 0. Are yours one too large?": {
            "named": lambda: lambda place, chunks: np.add(place, 1)
        },
        "your list has one chunk at most. Does return stand behind both loops?": lambda path: damaged_chunks(path)[:1],
        "your list is always empty. Is each chunk read (a slice of a dask array is none before .compute()), and does return "
        "stand behind both loops?": (lambda path: []),
        "every chunk is in your list. Print the error that except catches: is it about a checksum?": (
            lambda path: list(np.ndindex(zarr.open_array(path, mode="r").cdata_shape))
        ),
        "a chunk is in your list more than once.": seen(
            lambda path: damaged_chunks(path) * 2, lambda found, expected: sorted(set(found)) == expected
        ),
    },
    otherwise=first_difference,
    also_right=(lambda path: set(damaged_chunks(path)), lambda path: np.array(damaged_chunks(path)).reshape(-1, 2)),
    praise="You found every damaged chunk in {count} stores.",
    hints=[
        "read chunk by chunk in two loops, over the rows and the columns of the grid. What happens at a damaged chunk?",
        "put the reading between try: and except Exception:. In the except part, remember the place, and go on.",
        "chunk (row, column) holds the pixels array[row * height:(row + 1) * height, column * width:(column + 1) * width]. "
        "The last chunk of an axis may reach beyond the image: round the number of chunks up.",
    ],
)


# --- 4.4: convert with a memory cap ---

SCAN_CHUNKS = (256, 256)
MOST_MEMORY = 6  # MiB
MOST_WRITES = 16  # of one chunk: with single rows it would be 256, and take minutes


def scans(folder):
    """Paths of TIFF files, of which no pixel is 0. Only the last one is larger than the memory allowed."""
    for shape, dtype, tile, compression in (
        ((300, 900), "uint16", (128, 128), None),
        ((257, 1025), "float32", (64, 128), None),  # the last chunks have one row or column
        ((5300, 256), "uint8", (256, 256), "zlib"),  # longer than the lesson's file, and the next one wider
        ((256, 5300), "uint8", (256, 256), None),
        ((4000, 1050), "uint16", (128, 256), None),
    ):
        pixels = np.random.default_rng(shape).integers(1, 200 if dtype == "uint8" else 4096, shape).astype(dtype)
        path = folder / "image_{}_{}.tif".format(*shape)
        tifffile.imwrite(path, pixels, tile=tile, compression=compression)
        yield (path,)


def in_pieces(tiff_path, zarr_path, rows=512, columns=512):
    """A right conversion, with pieces of so many pixels."""
    with tifffile.TiffFile(tiff_path) as file:
        view = zarr.open_array(file.aszarr(), mode="r")
        target = zarr.create_array(zarr_path, shape=view.shape, chunks=SCAN_CHUNKS, dtype=view.dtype)
        for row, column in product(range(0, view.shape[0], rows), range(0, view.shape[1], columns)):
            piece = np.s_[row : row + rows, column : column + columns]
            target[piece] = view[piece]


def with_dask(tiff_path, zarr_path):
    image = da.from_zarr(zarr.open_array(tifffile.imread(tiff_path, aszarr=True), mode="r"))
    image.rechunk(SCAN_CHUNKS).to_zarr(zarr_path)


def stores(change, **layout):
    """A function that stores what `change` makes of all pixels of a file at once."""
    return lambda tiff_path, zarr_path: zarr.create_array(
        zarr_path, data=change(tifffile.imread(tiff_path)), **{"chunks": SCAN_CHUNKS, **layout}
    )


def other_layout(array, expected):
    """The first thing that a stored array has otherwise than asked for; None if there is none."""
    found = array.shape, array.dtype, array.chunks, array.metadata.zarr_format
    asked = expected.shape, expected.dtype, SCAN_CHUNKS, 3
    for name, has, to_have in zip(("shape", "dtype", "chunks", "zarr_format"), found, asked):
        if has != to_have:
            return {"name": name, "has": has, "asked": to_have}


def where_wrong(found, expected):
    """How many pixels are wrong, where, and the first of them."""
    wrong = found != expected
    row, column = first = tuple(np.argwhere(wrong)[0].tolist())
    rows, columns = (wrong.all(axis=axis).sum() for axis in (1, 0))
    where = f"the first at row {row}, column {column}; {rows} rows and {columns} columns from end to end"
    return {"share": wrong.mean(), "where": where, "stored": found[first], "right": expected[first]}


def limited(work):
    """Work with as many threads on every computer; an error for too many writes."""
    store_set, writes = LocalStore.set, Counter()

    async def counting(self, key, value):
        writes[self.root / key] += 1
        if writes[self.root / key] > MOST_WRITES:
            raise OSError(f"{key} is written more than {MOST_WRITES} times")
        await store_set(self, key, value)

    # The end of the pool waits for threads that go on after an error, and write into the folder.
    with ThreadPoolExecutor(4) as pool, dask.config.set(pool=pool), mock.patch.object(LocalStore, "set", counting):
        work()


def peak_of(work):
    """MiB that are allocated at most while this works."""
    gc.collect()
    with Traced() as memory:
        work()
    return memory.peak / 2**20


class Conversion(Function):
    """A function that stores the pixels of a file at a second path; a case is the first one alone."""

    def found(self, answer, own, given):
        @wraps(answer)  # a complaint is about this one
        def convert(*paths):
            answer(*paths)
            return True

        pixels = tifffile.imread(own["tiff_path"])
        is_large = pixels.nbytes > MOST_MEMORY * 2**20  # watching memory takes time
        for attempt in ("first", "second"):  # other threads need memory, too: the smaller of two peaks counts
            zarr_path = own["tiff_path"].with_name(f"{attempt}.zarr")
            work = partial(limited, partial(call, convert, own["tiff_path"], zarr_path, given=f"{given} and zarr_path"))
            own["peak"] = peak_of(work) if is_large else work() or 0
            if own["peak"] <= MOST_MEMORY:
                break
        if not zarr_path.exists():
            reason = Wrong if is_written(answer) else Unanswered
            raise reason("your function wrote nothing at zarr_path. Create the array there, and copy the pixels.")
        try:
            array = zarr.open_array(zarr_path, mode="r")
        except Exception as error:
            says = described(error).replace(str(zarr_path), "zarr_path")
            raise Wrong(f"for {given}, what your function wrote cannot be used: {says}.") from None
        self.refuse({"array": array, "expected": pixels}, f"for {given}, ", about_notebook(answer))
        return array[:]

    def look(self, case):
        self.refuse({"peak": case.own["peak"]}, f"for {case.given} the pixels are right, but ")


EXERCISES["4.4"] = Conversion(
    right=lambda tiff_path: tifffile.imread(tiff_path),
    cases=scans,
    given=lambda tiff_path: "a file of {0.shape} pixels of {0.dtype}".format(tifffile.imread(tiff_path)),
    reads=array,
    without=("open_image", "write_verified"),
    shows=lambda found: "wrong pixels",
    seconds=60,
    mistakes={
        "the stored array has {name} {has}, and not {asked}. Its shape and dtype are those of the file; the last chunks may reach "
        "beyond the image.": seen(stores(np.transpose), other_layout),
        "a piece and its place have different shapes. Are rows and columns swapped in one of them, or in shape, or is "
        "one slice missing?": seen(
            lambda tiff_path, zarr_path: np.zeros((3, 2))[:] + np.zeros((2, 3)), lambda error: "broadcast" in error
        ),
        "the opened file is no array of pixels yet. Index it, piece by piece.": seen(
            lambda tiff_path, zarr_path: zarr.create_array(zarr_path, shape=(9, 9), dtype="uint8").__setitem__(
                np.s_[:], zarr.open_array(tifffile.TiffFile(tiff_path).aszarr(), mode="r")
            ),
            lambda error: "running loop" in error,
        ),
        "to change a part of a chunk, Zarr reads all of it and writes all of it again. Copy larger pieces, each of whole chunks.": seen(
            partial(in_pieces, rows=1, columns=10_000), lambda error: "is written more" in error
        ),
        "all pixels are 0. Is any piece copied?": seen(stores(np.zeros_like), lambda found: not found.any()),
        "{share:.1%} of the image are 0, {where}. Is each piece copied, to the row and column where it begins? Do both loops come to the "
        "end, each of its own axis, also where the last piece is smaller? (With dask, rechunk to (256, 256) before: two of its chunks "
        "must not write into one of Zarr.)": seen(
            stores(lambda pixels: np.where(pixels % 2, pixels, 0)),
            lambda found, expected: not found[found != expected].any() and where_wrong(found, expected),
        ),
        "{share:.1%} of the image, {where}. The first holds {stored} instead of {right}. Do both slices begin at the same pixel, and is nothing "
        "computed on the way?": seen(stores(lambda pixels: pixels // 2), where_wrong),
        f"the peak of memory is {{peak:.1f}} MiB. Allowed are {MOST_MEMORY}. Copy smaller pieces: one takes its "
        "bytes more than once, as tiles, as pixels and as chunks.": seen(
            stores(np.asarray), lambda peak: peak > MOST_MEMORY
        ),
    },
    also_right=(in_pieces, partial(in_pieces, rows=256, columns=10_000), with_dask),
    praise=f"{{count}} files are converted, one of 8 MiB with a peak of memory below {MOST_MEMORY} MiB.",
    hints=[
        "open the file as a Zarr array, as view above; create the target with zarr.create_array(zarr_path, shape=..., chunks=..., "
        "dtype=...); copy one piece after the other.",
        "target[rows, columns] = view[rows, columns] copies a piece. Which pieces write each chunk only once?",
        "a piece whose beginnings and sides are multiples of 256 holds whole chunks. Two loops with range(start, stop, step) "
        "give the beginnings. Slices that reach beyond the image are cut off by themselves.",
    ],
)


# --- 4.5: a thumbnail from the right level ---


def pyramids():
    """Levels of pyramids, and the size of a thumbnail: wide, tall, long but narrow, with odd sides, of one level."""
    for shape, number, dtype, sizes in (
        ((200, 320), 5, np.uint8, (125, 25, 80, 10, 1250)),
        ((320, 80), 4, np.uint16, (100, 80, 319)),
        ((16, 512), 6, np.float32, (125, 32, 8)),
        ((321, 183), 3, np.uint8, (80, 160, 161)),
        ((90, 130), 1, np.uint8, (100,)),
    ):
        store = MemoryStore()
        for level in range(number):  # each of pixels of its own, so that none can be computed from another one
            pixels = np.random.default_rng(level).integers(256, size=[ceil(side / 2**level) for side in shape])
            zarr.create_array(store, name=str(level), data=pixels.astype(dtype), chunks=(100, 100), compressors=None)
        for size in sizes:
            counting = CountingStore(store)
            yield [zarr.open_array(counting, path=str(level), mode="r") for level in range(number)], size


class Frugal(Function):
    """A function that must read only the level that it returns, and only once."""

    def look(self, case):
        if not case.changed:
            store = case.own["levels"][0].store
            read = {name.split("/")[0] for name in store.chunks_read}
            facts = {"store": store, "read": len(read), "bytes": case.found.nbytes}
            self.refuse(facts, f"for {case.given} the picture is right, but ")


def picture(answer):
    """A NumPy array, as it is."""
    if not isinstance(answer, np.ndarray):
        raise Wrong("the pixels of a level are asked for, as a NumPy array: what level[:] gives.")
    return answer


def smaller_picture(levels, size, side=max, without=-1):
    """The pixels of the first level that is small enough; the last arguments are for mistakes."""
    return next((level for level in levels if side(level.shape) <= size), levels[without])[:]


EXERCISES["4.5"] = Frugal(
    right=smaller_picture,
    cases=pyramids,
    given="the levels of an image of {levels[0].shape[0]} x {levels[0].shape[1]} and size {size}",
    reads=picture,
    same=lambda one, other: one.dtype == other.dtype and np.array_equal(one, other),
    mistakes={
        "there is a finer level with a side of exactly {size}, which fits.": {"size": lambda size: size - 1},
        "no level is small enough, and this is the finest. Then the coarsest is asked for.": {"without": 0},
        "the shorter side of this level is small enough, but not the longer one.": {"side": lambda: min},
        "no level is small enough here. Then the coarsest is asked for.": seen(
            lambda levels, size: [level for level in levels if max(level.shape) <= size][0][:],
            lambda error: "list index out of range" in error,
        ),
        "this is always the coarsest level, but a finer one fits.": lambda levels, size: levels[-1][:],
        "no level has this shape. Return a level as it is.": seen(
            lambda *case: smaller_picture(*case).T,
            lambda levels, found: found.shape not in [level.shape for level in levels],
        ),
        "the shape is right, but not the pixels, or their dtype: that of the level is {expected.dtype}. Return it as it is.": seen(
            lambda *case: smaller_picture(*case) // 2, lambda found, expected: found.shape == expected.shape
        ),
        "{read} of the levels and {store.bytes_read} bytes were read, for a picture of {bytes}. Decide by the shapes, and read one "
        "level only, once.": seen(
            lambda levels, size: next((a for a in levels if max(a[:].shape) <= size), levels[-1])[:],
            lambda read, store: read > 1 or len(store.reads) > len(store.chunks_read),
        ),
    },
    otherwise=lambda levels, size: (
        f"the levels have the shapes {', '.join(str(level.shape) for level in levels)}. Which is the "
        f"finest with no side above {size}? If there is none, the coarsest is asked for."
    ),
    also_right=(
        lambda levels, size: next((level for level in levels if max(level.shape) <= size), levels[-1])[...],
        lambda levels, size: np.asarray(levels[min(sum(max(a.shape) > size for a in levels), len(levels) - 1)]),
        lambda levels, size: da.from_zarr(([a for a in levels if max(a.shape) <= size] or levels[-1:])[0]).compute(),
    ),
    praise="The right level in {count} cases, and not a byte of any other.",
    hints=[
        "the shape of a level is known without reading it. Which of the levels is the first one that fits?",
        "go through the levels from the finest to the coarsest. The longer side decides.",
        "once a level fits, return it. Indexing with [:] reads it. What is returned if the loop comes to its end?",
    ],
)
