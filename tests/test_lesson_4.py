"""The exercises of lesson 4: solutions, typical mistakes, hostile answers."""

import tracemalloc
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from zarr.storage import MemoryStore

from course_helpers.exercises import lesson_4
from course_helpers.storage import CountingStore, convert_tiff

SOURCE = Path(__file__).parents[1] / "notebooks" / "source" / "04_zarr_formats.md"


def chunks_counted(shape, chunks, selection):
    """Places of the chunks that a store says were read."""
    store = CountingStore(MemoryStore())
    zarr.create_array(store, shape=shape, chunks=chunks, dtype=np.uint8)[selection]
    return sorted(tuple(map(int, name.split("/")[1:])) for name in store.chunks_read)


def test_checks_use_what_the_lesson_uses():
    lesson = SOURCE.read_text(encoding="utf-8")
    for shown in (
        "nuclei_slide(shape=(2000, 5000), chunks=(100, 100))",
        "You read `stored[1930:, 80:201]`",
        "A movie of 64 time points with 512 × 512 pixels of `uint8`",
        "in a window of 32 × 32 pixels",
        "at most 64 requests and reads at most 2 MiB",
    ):
        assert shown in lesson
    assert (lesson_4.SLIDE, lesson_4.SLIDE_CHUNK, lesson_4.ROWS, lesson_4.COLUMNS) == (
        (2000, 5000),
        100,
        (1930, 2000),
        (80, 201),
    )
    assert (lesson_4.MOVIE, lesson_4.MOVIE_WINDOW, lesson_4.MOST_REQUESTS, lesson_4.MOST_BYTES) == (
        (64, 512, 512),
        32,
        64,
        2 * 2**20,
    )


def test_4_1_expects_what_a_store_counts():
    assert lesson_4.touched() == chunks_counted(lesson_4.SLIDE, (100, 100), np.s_[1930:, 80:201])


@pytest.mark.parametrize("chunks", [(8, 64, 64), (3, 100, 512), (64, 7, 50), (4, 32, 511)])
def test_4_2_expects_what_a_store_counts(chunks):
    costs = lesson_4.costs(chunks)
    row, column = (min(size - 1, 512 - 32) for size in chunks[1:])  # where a window lies across as many as it can
    window = np.s_[:, row : row + 32, column : column + 32]
    assert costs["frame"] == len(chunks_counted(lesson_4.MOVIE, chunks, np.s_[10]))
    assert costs["window"] == len(chunks_counted(lesson_4.MOVIE, chunks, window))


def test_4_2_tries_rows_and_columns_apart(line_of):
    """With these chunks, no window that begins at (i, i) lies across four of them, but others do."""
    assert "where a window lies across chunks" in line_of("4.2", (4, 32, 511))


def copy(tiff_path, path, step=512, stop=None, chunks=(256, 256), dtype=None, read=lambda view, region: view[region]):
    """A conversion in pieces, with mistakes to choose from."""
    with tifffile.TiffFile(tiff_path) as file:
        view = zarr.open_array(file.aszarr(), mode="r")
        target = zarr.create_array(path, shape=view.shape, chunks=chunks, dtype=dtype or view.dtype, compressors=None)
        for row in range(0, stop or view.shape[0], step):
            for column in range(0, view.shape[1], step):
                region = np.s_[row : row + step, column : column + step]
                target[region] = read(view, region)


def whole(tiff_path, path):
    zarr.create_array(path, data=tifffile.imread(tiff_path), chunks=(256, 256), compressors=None)


def test_4_4_right(line_of):
    line = line_of("4.4", copy)
    assert line == "✓ Exercise 4.4: correct. 23.5 MiB converted, with a peak of memory below 12 MiB.\n"


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (lambda tiff, path: convert_tiff(tiff, path, (256, 256)), "your function uses convert_tiff"),
        (whole, "the pixels are right, but the peak of memory is"),
        (lambda tiff, path: copy(tiff, path, chunks=(512, 512)), "the chunks are (512, 512)"),
        (lambda tiff, path: copy(tiff, path, dtype="u1"), "dtype uint8"),
        (lambda tiff, path: copy(tiff, path, stop=2560), "Those at the end of the axes are never copied"),
        (
            lambda tiff, path: copy(tiff, path, read=lambda view, region: view[region] // 2),
            "% of the pixels are wrong, the first at row 0",
        ),
        (lambda tiff, path: copy(tiff, path, stop=-1), "all its pixels are 0"),
        (lambda tiff, path: zarr.create_array(path, data=np.ones((4, 4))), "has shape (4, 4)"),
        (lambda tiff, path: zarr.create_group(path), "a group of arrays"),
        (
            lambda tiff, path: zarr.create_array(path, data=np.ones((4, 4)), zarr_format=2),
            "zarr_path is in Zarr format 2",
        ),
        (lambda tiff, path: copy(path, tiff), "your function raises"),
        (lambda tiff: None, "raises TypeError"),
        ("scan.zarr", "a function is asked for"),
    ],
)
def test_4_4_mistakes(line_of, answer, feedback):
    line = line_of("4.4", answer)
    assert line.startswith("✗") and feedback in line


def test_4_4_with_dask_is_fine_if_chunks_are_aligned(line_of):
    def with_dask(tiff_path, path, chunks=(256, 256)):
        with tifffile.TiffFile(tiff_path) as file:
            da.from_zarr(zarr.open_array(file.aszarr(), mode="r")).rechunk(chunks).to_zarr(path)

    assert line_of("4.4", with_dask).startswith("✓")


def test_4_4_says_that_tasks_may_have_overwritten_each_other(line_of):
    def lossy(tiff_path, path):
        copy(tiff_path, path)
        zarr.open_array(path, mode="r+")[256:384, 128:256] = 0  # as when two tasks write the same chunk

    line = line_of("4.4", lossy)
    assert (
        line.startswith("✗")
        and "the first at row 256, column 128" in line
        and "two tasks write into the same chunk" in line
    )


def test_4_4_measures_the_function_alone(line_of):
    """Neither what was traced before nor a first run that needs more counts."""
    tracemalloc.start()
    try:
        np.ones(2**26, np.uint8)  # a peak of 64 MiB, as of a cell that stopped half-way
        kept = np.ones(2**25, np.uint8)
        assert line_of("4.4", copy).startswith("✓")
        assert tracemalloc.is_tracing() and kept.all()
    finally:
        tracemalloc.stop()
    runs = []

    def loads_something_first(tiff_path, path):
        runs.append(np.ones(0 if runs else 2**25, np.uint8))
        copy(tiff_path, path)

    assert line_of("4.4", loads_something_first).startswith("✓") and len(runs) == 2
    assert not tracemalloc.is_tracing()


def test_4_4_not_written(line_of):
    assert line_of("4.4", lambda tiff, path: None).startswith("○")


first_that_fits = lesson_4.smaller_picture


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (lambda levels, size: next((a for a in levels if max(a.shape) <= size), levels[-1]), "not read yet"),
        (lambda levels, size: da.from_zarr(levels[-1]), "nothing is computed yet"),
        (lambda levels, size: 2, "2, but the pixels of a level are asked for, not its number"),
        (
            lambda levels, size: [a for a in levels if max(a[:].shape) <= size][0][:],
            "5 levels and 140000 bytes were read",
        ),
        (lambda levels, size: first_that_fits(levels, size) + 0 * first_that_fits(levels, size), "more than once"),
        (lambda levels, size: levels[size], "raises IndexError"),
        (lambda levels, size: levels[-1][:] if levels[0][0, 0] < 0 else first_that_fits(levels, size), "were read"),
        (lambda levels, size: None if size == 10 else first_that_fits(levels, size), "200 x 320 and size 10"),
    ],
)
def test_4_5_looks_at_what_is_read_and_returned(line_of, answer, feedback):
    line = line_of("4.5", answer)
    assert line.startswith("✗") and feedback in line


@pytest.mark.parametrize("number", ["4.4"])
def test_hostile(line_of, hostile, number):
    assert line_of(number, hostile)[0] in "✗○"


@pytest.mark.parametrize("number", ["4.4"])
def test_functions_that_return_hostile_things(line_of, hostile, number):
    assert line_of(number, lambda *arguments: hostile)[0] in "✗○"


@pytest.mark.parametrize("number, secret", [("4.1", "(19, 2)"), ("4.2", "(8, 64, 64)"), ("4.5", "levels[")])
def test_hints_do_not_hand_over_the_answer(capsys, number, secret):
    from course_helpers.exercises import exercise

    for _ in range(4):
        exercise(number).hint()
    assert secret not in capsys.readouterr().out
