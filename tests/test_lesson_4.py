"""Lesson 4: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import tempfile
import time
import tracemalloc

import dask.array as da
import numpy as np
import pytest
import zarr
from processes import ROOT
from zarr.storage import MemoryStore

from course_helpers.examples import MOVIE_WINDOW
from course_helpers.exercises import exercise, lesson_4
from course_helpers.image_files import open_image
from course_helpers.storage import CountingStore, write_verified

SOURCE = ROOT / "sources" / "04_zarr_formats.md"


def chunks_counted(shape, chunks, selection):
    """Places of the chunks that a store says were read."""
    store = CountingStore(MemoryStore())
    zarr.create_array(store, shape=shape, chunks=chunks, dtype=np.uint8)[selection]
    return sorted(tuple(map(int, name.split("/")[1:])) for name in store.chunks_read)


def test_checks_use_what_the_lesson_uses():
    lesson = SOURCE.read_text(encoding="utf-8")
    frames, height, width = lesson_4.MOVIE
    for shown in (
        f"nuclei_slide(shape={lesson_4.SLIDE}, chunks={lesson_4.SLIDE_CHUNKS})",
        "You read `stored[1930:, 80:201]`",
        f"A movie of {frames} time points with {height} × {width} pixels of `uint8`",
        f"in a window of {MOVIE_WINDOW} × {MOVIE_WINDOW} pixels",
        f"at most {lesson_4.MOST_REQUESTS} requests and reads at most {lesson_4.MOST_MEBIBYTES} MiB",
        f"chunks of {lesson_4.SCAN_CHUNKS}",
        f"one of 8 MiB, and allows a peak of {lesson_4.MOST_MEMORY} MiB",
    ):
        assert shown in lesson


def test_4_1_expects_what_a_store_counts():
    assert lesson_4.TOUCHED == chunks_counted(lesson_4.SLIDE, (100, 100), np.s_[1930:, 80:201])


@pytest.mark.parametrize("chunks", [(8, 64, 64), (3, 100, 512), (64, 7, 50), (4, 32, 511)])
def test_4_2_expects_what_a_store_counts(chunks):
    costs = lesson_4.movie_costs(chunks)
    row, column = (min(size - 1, 512 - 32) for size in chunks[1:])  # where a window lies across as many as it can
    window = np.s_[:, row : row + 32, column : column + 32]
    assert costs["frame"] == len(chunks_counted(lesson_4.MOVIE, chunks, np.s_[10]))
    assert costs["window"] == len(chunks_counted(lesson_4.MOVIE, chunks, window))


def test_4_3_says_what_a_chunk_too_many_is(line_of):
    states = {(1, 1): "is not damaged: reading array[5:10, 7:14] alone", (5, 0): "does not exist"}
    for place, state in states.items():

        def answer(path, place=place):
            return lesson_4.damaged_chunks(path) + [place] * (zarr.open_array(path).shape == (23, 47))

        assert f"chunk {place} {state}" in line_of("4.3", answer)


scan = np.ones((4000, 5000), np.uint8)


def goes_by_the_notebook(tiff_path, zarr_path):
    zarr.create_array(zarr_path, shape=(300, 900), chunks=(256, 256), dtype="u2")[:] = scan[:256, :512]


def changes_its_file(tiff_path, zarr_path):
    lesson_4.in_pieces(tiff_path, zarr_path)
    tiff_path.write_bytes(b"")


@pytest.mark.parametrize(
    "number, answer, feedback",
    [
        ("4.4", lambda tiff, path: None, "○"),
        (
            "4.4",
            lambda tiff, path: write_verified(open_image(tiff).array, path, (256, 256)),
            "your function uses open_image",
        ),
        ("4.4", lambda tiff, path: zarr.create_group(path), "cannot be used"),
        ("4.4", lesson_4.stores(np.copy, zarr_format=2), "has zarr_format 2, and not 3"),
        ("4.4", lesson_4.stores(lambda pixels: pixels.astype("u1")), "has dtype uint8, and not uint16"),
        (
            "4.4",
            lambda tiff, path: zarr.create_array(path, shape=(10**6, 10**6), dtype="u1"),
            "has shape (1000000, 1000000)",
        ),
        ("4.4", goes_by_the_notebook, "Your function uses scan of the notebook"),
        ("4.4", lambda tiff: None, "takes 1 argument, but is called with 2"),
        ("4.4", lambda tiff, path: print(tiff), "wrote nothing at zarr_path"),
        ("4.4", changes_its_file, "your function changes the files of tiff_path"),
        ("4.5", lambda levels, size: levels[-1], "what level[:] gives"),
        ("4.5", lambda levels, size: da.from_zarr(levels[-1]), "nothing is computed yet"),
        ("4.5", lambda levels, size: 2, "2, but the pixels of a level are asked for"),
        ("4.5", lambda levels, size: lesson_4.smaller_picture(levels, size + 0 * levels[0][0, 0]), "were read"),
        ("4.5", lambda *case: lesson_4.smaller_picture(*case) + 0 * lesson_4.smaller_picture(*case), "1 of the levels"),
    ],
)
def test_mistakes_outside_of_the_tables(line_of, number, answer, feedback):
    line = line_of(number, answer)
    assert line[0] in "✗○" and feedback in line


def test_4_4_measures_the_function_alone(line_of):
    """Neither what was traced before nor a first run that needs more counts."""
    runs = []

    def loads_something_first(tiff_path, path):
        runs.append(np.ones(2**25 if len(runs) == 4 else 0, np.uint8))  # for the only file that is large
        lesson_4.in_pieces(tiff_path, path)

    tracemalloc.start()
    np.ones(2**26, np.uint8)  # a peak of 64 MiB, as of a cell that stopped half-way
    assert "one of 8 MiB with a peak of memory below 6 MiB" in line_of("4.4", loads_something_first)
    assert len(runs) == 5 + 1
    assert not tracemalloc.is_tracing()


def test_4_4_leaves_no_folder_where_dask_goes_on_after_an_error(line_of, tmp_path, monkeypatch):
    def fails(block, block_info):
        if block_info[0]["chunk-location"] == (0, 0):
            raise ValueError
        time.sleep(0.2)
        return block

    def convert(tiff_path, zarr_path):
        image = da.from_array(np.ones((300, 900)), chunks=(256, 256))
        image.map_blocks(fails, dtype=float).to_zarr(zarr_path)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert "your function raises ValueError" in line_of("4.4", convert)
    time.sleep(0.5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number, secret", [("4.1", "(19, 2)"), ("4.2", "(8, 64, 64)"), ("4.5", "levels[")])
def test_hints_do_not_hand_over_the_answer(capsys, number, secret):
    for _ in range(4):
        exercise(number).hint()
    assert secret not in capsys.readouterr().out
