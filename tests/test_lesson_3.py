"""Lesson 3: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import re

import dask
import dask.array as da
import numpy as np
import pytest
from processes import ROOT

from course_helpers._engine.tiled import tiled
from course_helpers.background import remove_background
from course_helpers.exercises import lesson_3
from course_helpers.tiling import overlap_needed, smallest_overlap, tiling_error

SOURCE = ROOT / "sources" / "03_overlapping_tiles.md"


def test_checks_use_what_the_lesson_uses():
    """The region, the tile, the sizes and the limit are those that the learner reads: change them in lesson_3.py, too."""
    lesson = " ".join(SOURCE.read_text(encoding="utf-8").split())
    rows, columns = lesson_3.REGION
    for said in (
        f"image = slide[{rows.start}:{rows.stop}, {columns.start}:{columns.stop}].compute()",
        f"tiles = da.from_array(image, chunks={lesson_3.TILE})",
        f"`remove_background(tile, radius={lesson_3.RADIUS})`",
        f"margin of {lesson_3.COST_MARGIN} pixels",
        f"tiles of {lesson_3.COST_TILE} × {lesson_3.COST_TILE} pixels",
        f"at most {lesson_3.COST_LIMIT}",
    ):
        assert said in lesson, f"lesson 3 does not say {said!r}"
    assert re.search(rf"def broken.*radius={lesson_3.NUCLEUS_RADIUS}\)", lesson)


def test_3_1_knows_what_a_search_finds():
    found = smallest_overlap(lesson_3.top_hat, lesson_3.lesson_image(), lesson_3.TILE, maximum=24)
    assert lesson_3.PASSES_HERE == found
    assert 10 < found < lesson_3.ALWAYS_ENOUGH  # else the exercise would not show that a search is not a proof


@pytest.mark.parametrize("radius", [5, 6, 7, 10])
def test_broken_disks_need_all_of_the_reach(radius):
    """In both directions one pixel less than 2 * radius fails, and 2 * radius passes."""

    def top_hat(tile):
        return remove_background(tile, radius)

    image = lesson_3.broken_disks(radius, 32)
    wrong = tiled(top_hat, image, 32, 2 * radius - 1) != top_hat(image)
    assert all(half.any() for half in np.split(wrong, 2))
    assert tiling_error(top_hat, image, 32, 2 * radius) == 0


def test_3_2_needs_what_overlap_needed_says():
    """One pixel less fails along each axis; the right function has no more."""
    needed = overlap_needed(("gaussian", 1.5), ("maximum", 5))
    for (tiles,) in lesson_3.noise():
        whole = lesson_3.smooth_and_widen(tiles.compute())
        assert np.allclose(lesson_3.in_tiles(tiles, needed), whole, rtol=0, atol=1e-9)
        for axis in (0, 1):
            less = lesson_3.in_tiles(tiles, {axis: needed - 1, 1 - axis: needed})
            assert tiles.numblocks[axis] == 1 or not np.allclose(less, whole, rtol=0, atol=1e-9)


def test_3_4_expects_in_tiles_what_the_whole_gives():
    for (tiles,) in lesson_3.EXERCISES["3.4"].cases():
        tiled, whole = lesson_3.find_nuclei(tiles), lesson_3.find_nuclei(tiles.rechunk(-1))
        assert np.array_equal(tiled.compute(), whole.compute())


def test_3_4_one_number_does_not_fit_all_images(line_of):
    """A threshold that is right for one of the images is wrong for another."""
    for (tiles,) in lesson_3.images_for_nuclei():
        fixed = lesson_3.otsu_of(da.from_array(remove_background(tiles.compute(), 6))).compute()
        assert line_of("3.4", lambda tiles: lesson_3.find_nuclei(tiles, lambda flat: fixed)).startswith("✗")


def whole_at_once(procedure):
    """The whole image in one tile, in two ways."""
    yield lambda tiles: tiles.rechunk(-1).map_overlap(procedure, 12, boundary="none", dtype=float).rechunk(tiles.chunks)
    yield lambda tiles: da.from_delayed(dask.delayed(procedure)(tiles), tiles.shape, float).rechunk(tiles.chunks)


@pytest.mark.parametrize("number, procedure", [("3.2", lesson_3.smooth_and_widen), ("3.4", lesson_3.one_tile)])
def test_no_whole_image(line_of, number, procedure):
    for at_once in whole_at_once(procedure):
        answer = at_once if number == "3.2" else lambda tiles, at_once=at_once: at_once(tiles) > 0
        assert "the result is right, but your function puts the whole image into one piece" in line_of(number, answer)


def assigns(tiles):
    result = lesson_3.in_tiles(tiles)
    tiles[tiles > 100] = 0
    return result


def writes_into_blocks(tiles):
    def one_tile(tile):
        result = tile.copy()
        tile[:] = 0
        return result

    return lesson_3.in_tiles(tiles.map_blocks(one_tile, dtype=tiles.dtype))


@pytest.mark.parametrize("changes", [assigns, writes_into_blocks])
def test_tiles_stay_as_they_are(line_of, changes):
    line = line_of("3.2", changes)
    assert line.startswith("✗") and "the result is right" in line and "your function changes tiles" in line


threshold = 20  # a number of the notebook


def test_3_4_goes_by_the_notebook(line_of):
    def find_nuclei(tiles):
        return lesson_3.find_nuclei(tiles, lambda flat: threshold)

    assert "Your function uses threshold of the notebook" in line_of("3.4", find_nuclei)
