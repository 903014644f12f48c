"""The exercises of lesson 4: solutions, typical mistakes, hostile answers."""

import tracemalloc

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from course_helpers.storage import convert_tiff


def test_4_1_right(line_of):
    line = line_of("4.1", [(19, 0), (19, 1), (19, 2)])
    assert line == "✓ Exercise 4.1: correct. A window of 70 x 121 pixels touches 3 chunks of 100 x 100.\n"
    assert line_of("4.1", {(19, 2), (19, 0), (19, 1)}).startswith("✓")
    assert line_of("4.1", np.array([[19, 0], [19, 1], [19, 2]])).startswith("✓")


@pytest.mark.parametrize(
    "answer, feedback",
    [
        ([(0, 19), (1, 19), (2, 19)], "swapped"),
        ([(20, 1), (20, 2), (20, 3)], "counted from 1"),
        ([(1900, 0), (1900, 100), (1900, 200)], "no chunk (1900, 0) in a grid of 20 x 50. Are these pixels?"),
        (
            [(19, 0), (20, 0)],
            "no chunk (20, 0) in a grid of 20 x 50. Its rows go from 0 to 19, its columns from 0 to 49.",
        ),
        ([(19, 0), (19, 1)], "and 1 more. Look at the first and the last pixel"),
        ([(19, 1), (19, 2)], "and 1 more"),
        ([(19, 0), (19, 1), (19, 2), (19, 3)], "1 in your list are not touched, for example (19, 3)"),
        ([(18, 0), (19, 0), (19, 1), (19, 2)], "for example (18, 0)"),
        ([(19, 0), (19, 0), (19, 1), (19, 2)], "twice"),
        ([(-1, 0)], "no chunk (-1, 0)"),
        ([], "the list is empty"),
        (3, "is 3, but a list of (row, column)"),
        ([19, 0], "a list of (row, column)"),
        ([(19.5, 0)], "a list of (row, column)"),
        (["c/19/0"], "a list of (row, column)"),
        (None, "the answer is None"),
        (da.zeros((3, 2), dtype=int), "nothing is computed yet"),
    ],
)
def test_4_1_mistakes(line_of, answer, feedback):
    line = line_of("4.1", answer)
    assert line.startswith("✗") and feedback in line


@pytest.mark.parametrize("answer", [(8, 64, 64), (4, 64, 64), [8, 64, 64], (np.int64(16), 64, 64)])
def test_4_2_right(line_of, answer):
    line = line_of("4.2", answer)
    right = answer[0] != 16
    assert line.startswith("✓" if right else "✗")
    if right:
        assert "One frame reads 64 chunks" in line


@pytest.mark.parametrize(
    "answer, feedback",
    [
        ((1, 512, 512), "a window through time takes 64 requests of 262144 bytes, together 16.0 MiB"),
        ((64, 512, 512), "one frame takes 1 request of 16777216 bytes"),
        ((64, 32, 32), "one frame takes 256 requests"),
        ((1, 64, 64), "a window through time takes 256 requests"),
        ((8, 128, 128), "a window through time takes 32 requests of 131072 bytes, together 4.0 MiB"),
        ((1, 1, 1), "one frame takes 262144 requests"),
        ((128, 64, 64), "does not fit into a movie"),
        ((8, 0, 64), "does not fit"),
        ((8, 64), "three whole numbers"),
        ((8.0, 64, 64), "three whole numbers"),
        ((True, 64, 64), "three whole numbers"),
        (64, "three whole numbers"),
        ("8, 64, 64", "three whole numbers"),
    ],
)
def test_4_2_mistakes(line_of, answer, feedback):
    line = line_of("4.2", answer)
    assert line.startswith("✗") and feedback in line


@pytest.mark.parametrize("chunks", [(8, 64, 64), (3, 100, 512), (64, 7, 50)])
@pytest.mark.parametrize("start", [0, 31, 480])
def test_the_calculated_number_of_chunks_is_what_a_store_counts(chunks, start):
    from course_helpers.exercises.lesson_4 import MOVIE, number_touched, requests

    stop = start + 32
    counted = requests(MOVIE, chunks, np.s_[:, start:stop, start:stop])
    assert number_touched(chunks, [(0, 64), (start, stop), (start, stop)]) == len(counted)


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


def pick(levels, size, side=max):
    fitting = [level for level in levels if side(level.shape) <= size]
    return fitting[0] if fitting else levels[-1]


def test_4_5_right(line_of):
    line = line_of("4.5", lambda levels, size: pick(levels, size)[:])
    assert line == "✓ Exercise 4.5: correct. The right level in 7 cases, and not a byte of any other.\n"


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (
            lambda levels, size: pick(levels, size, lambda shape: shape[1])[:],
            "1280 x 320 and size 400 your picture has shape (1280, 320)",
        ),
        (lambda levels, size: pick(levels, size, lambda shape: shape[0])[:], "its longer side is larger than that"),
        (
            lambda levels, size: pick(levels, size, lambda shape: (shape[0] * shape[1]) ** 0.5)[:],
            "its longer side is larger",
        ),
        (lambda levels, size: pick(levels, size)[:].astype(float), "the dtype is float64, that of the level is uint8"),
        (lambda levels, size: levels[-1][:], "size 500 your picture has shape (50, 80). There is a finer level"),
        (lambda levels, size: levels[0][:], "its longer side is larger than that"),
        (lambda levels, size: pick(levels, size, min)[:], "its longer side is larger than that"),
        (lambda levels, size: pick(levels, size), "without being read"),
        (lambda levels, size: da.from_zarr(pick(levels, size)), "without being read"),
        (lambda levels, size: [level[:] for level in levels if max(level[:].shape) <= size][0], "were read"),
        (lambda levels, size: levels[0][:][::4, ::4], "the pixels are not those of the level"),
        (lambda levels, size: pick(levels, size)[:] + pick(levels, size)[:] * 0, "more than once"),
        (lambda levels, size: pick(levels, size)[:100], "which is no level's"),
        (lambda levels, size: 2, "not its number"),
        (lambda levels, size: levels[size], "your function raises"),
        (lambda levels, size: [level for level in levels if max(level.shape) <= size][0][:], "raises IndexError"),
        ([1], "a function is asked for"),
    ],
)
def test_4_5_mistakes(line_of, answer, feedback):
    line = line_of("4.5", answer)
    assert line.startswith("✗") and feedback in line


def not_written(*arguments): ...


def test_4_5_nothing_returned(line_of):
    assert line_of("4.5", not_written).startswith("○ Exercise 4.5: your function returns nothing yet")
    line = line_of("4.5", lambda levels, size: pick(levels, size)[:] if size > 40 else None)
    assert (
        line.startswith("✗")
        and "your function returns None for the levels of an image of 800 x 1280 and size 40" in line
    )


@pytest.mark.parametrize("number", ["4.1", "4.2", "4.3", "4.4", "4.5"])
def test_hostile(line_of, hostile, number):
    assert line_of(number, hostile)[0] in "✗○"


@pytest.mark.parametrize("number", ["4.3", "4.4", "4.5"])
def test_functions_that_return_hostile_things(line_of, hostile, number):
    assert line_of(number, lambda *arguments: hostile)[0] in "✗○"


@pytest.mark.parametrize("number, secret", [("4.1", "(19, 2)"), ("4.2", "(8, 64, 64)"), ("4.5", "levels[")])
def test_hints_do_not_hand_over_the_answer(capsys, number, secret):
    from course_helpers.exercises import exercise

    for _ in range(4):
        exercise(number).hint()
    assert secret not in capsys.readouterr().out
