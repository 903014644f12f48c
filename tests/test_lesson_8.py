"""Lesson 8: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import re

import jupytext
import numpy as np
import pytest
from processes import ROOT
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from course_helpers.exercises import lesson_8
from course_helpers.image_files import open_image

SOURCE = ROOT / "sources" / "08_your_own_image.md"
TEXT = " ".join(SOURCE.read_text(encoding="utf-8").split())
MINUTES = 40  # of file A


@pytest.fixture
def opened():
    """The files of exercise 8.1 as its cell writes them, opened."""
    values = {}
    for cell in jupytext.read(SOURCE).cells:
        if cell.cell_type == "code" and re.search(r"\Aimport tempfile|tifffile\.imwrite", cell.source):
            exec(cell.source, values)
    yield {name: open_image(f"{values['folder'].name}/{name}.tif") for name in values["files"]}
    values["folder"].cleanup()


def test_8_1_files_say_what_the_exercise_claims(opened):
    assert [len(opened[name].array) for name in "AC"] == [MINUTES, len(["nuclei", "marker"])]
    assert {name: image.axes for name, image in opened.items()} == {"A": "ZYX", "B": "YX", "C": "QYX", "D": "ZYX"}
    assert set(opened["A"].pixel_size) == set("ZYX")
    assert opened["B"].pixel_size == {} and "No pixel size is stored along Y, X." in opened["B"].notes
    assert any("(Q) is not stored" in note for note in opened["C"].notes)
    assert opened["D"].pixel_size == pytest.approx(dict.fromkeys("ZYX", lesson_8.SAID))


def test_8_1_text_has_the_numbers_of_the_check():
    assert f"for {MINUTES} minutes" in TEXT
    assert f"The objective was {lesson_8.OBJECTIVE}x, and a pixel of the camera is {lesson_8.CAMERA} micro" in TEXT
    assert f"The focus was moved by {lesson_8.TRUE_STEP} micrometres from plane to plane" in TEXT


def test_8_2_text_has_the_numbers_of_the_check():
    planes, rows, columns = lesson_8.VOXEL
    assert rows == columns and f"A voxel is {planes} micrometres long along Z, and {rows} along Y and along X" in TEXT
    assert f"a sigma of {lesson_8.SIGMA} micrometre along" in TEXT
    assert f"The largest nucleus is {lesson_8.LONGEST} micrometres long along" in TEXT


def test_8_2_reach_is_how_far_a_voxel_is_seen():
    image = np.zeros((15, 51, 51))
    image[7, 25, 25] = 1e6
    blurred = ndi.gaussian_filter(image, [lesson_8.SIGMA / size for size in lesson_8.VOXEL], mode="constant")
    seen = (ndi.maximum_filter(blurred, size=3) > 0).astype(int)
    reach = [(side.stop - side.start) // 2 for side in ndi.find_objects(seen)[0]]
    assert (0, 0, *reach) == lesson_8.EXERCISES["8.2"].parts["reach"].right == (0, 0, 3, 17, 17)
    assert lesson_8.EXERCISES["8.2"].parts["overlap"].right == (0, 0, 9, 65, 65)


def test_8_2_names_the_axes_along_which_a_distance_is_wrong(line_of):
    assert "large along X (18 x 0.25 = 4.5 micrometres) and too small along Z (1 x 2 = 2 micr" in line_of(
        "8.2", (0, 0, 1, 17, 18), lesson_8.OVERLAP
    )


def test_8_3_is_the_threshold_of_the_whole_image():
    for (tiles,) in lesson_8.grey_tiles():
        whole = threshold_otsu(np.concatenate([tile.ravel() for tile in tiles]))
        assert lesson_8.threshold_for_all(tiles) == whole


def test_8_3_tells_that_a_tile_is_changed(line_of):
    def smoothed(tiles):
        threshold = lesson_8.threshold_for_all(tiles)
        tiles[-1][:] = 0
        return threshold

    assert "the result is right" in (line := line_of("8.3", smoothed)) and "your function changes tiles" in line


@pytest.mark.parametrize("side, radius", [(16, 8), (40, 24), (72, 0)])
def test_8_4_leaves_out_no_tile_in_which_the_blur_exceeds(side, radius):
    """A blur of this radius is never above the brightest pixel that it looks at."""
    image = np.random.default_rng(side).exponential(20, (88, 136)).astype(np.uint16)
    brightest = image.reshape(11, 8, 17, 8).max(axis=(1, 3))
    blurred = ndi.gaussian_filter(image.astype(float), sigma=3, radius=radius, mode="nearest")
    threshold = float(np.percentile(brightest, 97))
    needed = lesson_8.tiles_with_signal(brightest, side, radius, threshold)
    for row, column in np.argwhere(~needed) * side:
        assert blurred[row : row + side, column : column + side].max() <= threshold


def test_8_4_tells_the_largest_value_of_a_window(line_of):
    """Where no mistake gives the same in all cases, though one of them does in most."""

    def by_blur(brightest, side, radius, threshold):
        return lesson_8.tiles_with_signal(ndi.gaussian_filter(brightest.astype(float), radius / 32), side, 0, threshold)

    def too_far(brightest, side, radius, threshold):
        return lesson_8.tiles_with_signal(brightest, side, radius + 16, threshold)

    assert "column 2 (from 0) is False, but the largest value in its window, brightest[3:9, 7:13], is 4000." in line_of(
        "8.4", by_blur
    )
    assert "is True, but the largest value in its window, brightest[0:5, 3:9], is 87." in line_of("8.4", too_far)
